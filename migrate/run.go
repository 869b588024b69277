package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/store"
)

// errOvertaken: another runner applied the migration first.
var errOvertaken = errors.New("applied by another runner")

// An upgrade is one call of UpTo that has something to do.
type upgrade struct {
	*Runner
	heart  *heart
	meters map[uint32]*meter // of the migrations that have started, by version
	solo   uint32            // the version that is known to need a transaction of its own
	room   room
	doubts doubts
}

// doubts are the records of migrations whose last commit the store did not confirm,
// by version.
type doubts map[uint32]Applied

// add notes that the commit of applied, if it is one, has err.
func (d doubts) add(applied *Applied, err error) {
	if applied != nil && errors.Is(err, store.ErrUnknown) {
		d[applied.Version] = *applied
	}
}

// all runs the migrations of plan, of which the first goes on from p if it was
// interrupted, and says in report what it did.
func (up *upgrade) all(ctx context.Context, plan Plan, p *Progress, report *Report) error {
	up.heart = up.newHeart(ctx, plan)
	defer up.heart.end() // also if an Up ends the goroutine
	for pending := plan.Pending; len(pending) > 0; {
		if p == nil {
			applied := up.together(ctx, pending)
			report.Applied = append(report.Applied, applied...)
			pending = pending[len(applied):]
			if len(applied) > 0 {
				report.To = applied[len(applied)-1].Version
				continue
			}
		}
		applied, err := up.apply(ctx, pending[0], p)
		if err != nil {
			return err
		}
		report.To = pending[0].Version
		if applied != nil {
			report.Applied = append(report.Applied, *applied)
		}
		if up.afterEach != nil {
			if err := up.afterEach(ctx, pending[0]); err != nil {
				return err
			}
		}
		pending, p = pending[1:], nil
	}
	return nil
}

// begin returns the run of m, which goes on from p if it was interrupted.
func (up *upgrade) begin(m Migration, p *Progress) *run {
	t := up.meters[m.Version]
	if t == nil {
		t = newMeter(up.Runner, m, p)
		up.meters[m.Version] = t
		t.tell(Started, nil)
	}
	up.heart.meter.Store(t)
	return &run{Runner: up.Runner, m: m, started: up.clock(), meter: t, room: &up.room, doubts: up.doubts}
}

func (r *Runner) logBegin(ctx context.Context, m Migration) {
	if r.log.Enabled(ctx, slog.LevelInfo) {
		r.log.InfoContext(ctx, fmt.Sprintf("migrating v%d -> v%d: %s", m.from(), m.Version, m.describe()))
	}
}

func (r *Runner) logDone(ctx context.Context, m Migration) {
	if r.log.Enabled(ctx, slog.LevelInfo) {
		r.log.InfoContext(ctx, fmt.Sprintf("%s schema version updated to v%d", r.schema, m.Version))
	}
}

// apply runs one migration, which goes on from p if it was interrupted. It
// returns nil and no error if another runner already had.
func (up *upgrade) apply(ctx context.Context, m Migration, p *Progress) (*Applied, error) {
	up.logBegin(ctx, m)
	u := up.begin(m, p)
	defer up.heart.meter.Store(nil)
	done := u.whole(ctx, p)
	if errors.Is(done.err, errOvertaken) {
		done.applied, done.err = up.overtaken(ctx, m)
	} else if done.err != nil {
		if done.progress == nil {
			done.progress = p // of the run before
		}
		done.err = up.failed(m, done.progress, done.err)
	}
	if done.err != nil {
		u.meter.tell(Failed, done.err)
		return nil, done.err
	}
	if done.applied != nil {
		up.logDone(ctx, m)
	}
	u.meter.tell(Finished, nil)
	return done.applied, nil
}

// A run is one migration being applied by one Runner.
type run struct {
	*Runner
	m       Migration
	started time.Time
	trail   trail
	lock    []byte // what the schema's lock holds while this run is the one to commit; nil until it takes it
	meter   *meter
	room    *room
	doubts  doubts
}

// whole makes all steps of the migration, which goes on from p if it was interrupted.
func (u *run) whole(ctx context.Context, p *Progress) outcome {
	ctx, stop := u.meter.start(ctx)
	defer stop()
	// What the new version vouches for must be durable before it is.
	if err := u.store.Sync(ctx); err != nil {
		return outcome{err: err}
	}
	if p != nil {
		if err := u.mend(ctx); err != nil {
			return outcome{err: err}
		}
	}
	return u.steps(ctx)
}

// An outcome is what a step, or a run of steps, came to.
type outcome struct {
	progress *Progress // what this run has committed of the migration, nil if nothing
	applied  *Applied  // the history record, once the last step is committed
	tx       *Tx       // what the last step did
	err      error

	began                 time.Time // the last step, once it is committed
	visited, visitedBytes uint64    // in the phase of the last step
}

// steps takes the migration to its end or its first error: one step alone, which
// also makes this run the one that holds the lock, and after a batch of rows as
// many at a time as the author and the options allow.
//
// After a commit that the store did not confirm it looks again and goes on from what
// it finds. The commit can still take effect later, and must not do so then. If it was
// one of step, it has read the version and the progress, of which the next one
// changes one or both. If it was one of a pipeline, it has read the lock: the next
// step takes that anew, or removes it.
func (u *run) steps(ctx context.Context) outcome {
	var last outcome
	var limit int // of rows in the next step, 0 if it has no other than usual
	unknown := 0
	for {
		next := u.step(ctx, limit)
		if next.err == nil {
			unknown = 0
		}
		if next.err == nil && next.applied == nil && u.pipelines(next.tx) {
			last = next
			next = u.pipeline(ctx, next)
		}
		if next.progress == nil {
			next.progress = last.progress
		}
		limit = 0
		var overflow *overflowError
		switch {
		case next.applied != nil:
			return next
		case errors.As(next.err, &overflow):
			limit = overflow.rows / 2
		case errors.Is(next.err, errAgain):
		case errors.Is(next.err, store.ErrUnknown) && unknown < certain.MaxUnknown && ctx.Err() == nil:
			unknown++
			u.lock = nil
		case next.err != nil:
			return next
		}
		last = next
	}
}

// step runs one step in a transaction of its own, at the stored position and
// with at most limit rows.
func (u *run) step(ctx context.Context, limit int) (out outcome) {
	if err := ctx.Err(); err != nil {
		return outcome{err: err}
	}
	var tx *Tx
	began := time.Now()
	err := store.Update(ctx, u.store, func(txn store.Txn) error {
		u.trail.known = false // another run may have gone on, or an attempt failed
		at, err := u.position(txn)
		if err != nil {
			return err
		}
		tx, err = u.work(ctx, txn, at, limit, nil)
		if err != nil {
			return err
		}
		out, err = u.conclude(ctx, txn, at, tx)
		return err
	})
	if err != nil {
		u.doubts.add(out.applied, err)
		return outcome{err: tx.blame(err)}
	}
	out.began = began
	out.tx.end()
	u.meter.committed(out)
	if out.tx.rows != nil && out.tx.batch.more {
		u.meter.count(ctx, out)
	}
	return out
}

// position reads where the migration stands: at its beginning, or where the last
// step stopped.
func (u *run) position(txn store.Txn) (Progress, error) {
	version, stored, err := u.readVersion(txn)
	if err != nil {
		return Progress{}, err
	}
	if version != u.m.from() {
		return Progress{}, fmt.Errorf("%w: the store is at v%d", errOvertaken, version)
	}
	under, err := u.readProgress(txn, version)
	if err != nil {
		return Progress{}, err
	}
	if under == nil {
		return u.beginning(stored), nil
	}
	return *under, u.resumable(under, version, u.m.Version)
}

// beginning is where a migration begins, in a store that has a version if stored.
func (u *run) beginning(stored bool) Progress {
	return Progress{
		Version: u.m.Version, Name: u.m.Name, Started: u.started, Phase: 1, unstored: !stored,
		fingerprint: u.registry.ladder().fingerprint(u.m.Version).String(),
	}
}

// work runs the step that begins at at. If the Up asked for rows, it reads a
// batch of them, tells read how far that goes, and calls the row function.
func (u *run) work(ctx context.Context, txn store.Txn, at Progress, limit int, read func(*Tx)) (*Tx, error) {
	tx, err := u.callUp(ctx, txn, at)
	if err != nil {
		return tx, err
	}
	if tx.rows != nil {
		if err := tx.readRows(at, limit); err != nil {
			return tx, err
		}
		if read != nil {
			read(tx)
		}
		if err := tx.visitRows(ctx); err != nil {
			return tx, err
		}
	}
	return tx, tx.failed
}

// callUp calls the migration's Up for the step that begins at at, unless only the
// check is left.
func (u *run) callUp(ctx context.Context, txn store.Txn, at Progress) (*Tx, error) {
	tx := &Tx{txn: txn, reserved: []byte(u.keys.reserved), limits: u.store.Limits(), now: at.Started, phase: at.Phase, cursor: at.cursor}
	if at.checking {
		tx.phases = at.Phase
		return tx, nil
	}
	if err := call(func() error { return u.m.Up(ctx, tx) }); err != nil {
		return tx, err
	}
	if phases := max(1, tx.phases); at.Phase > phases {
		return tx, fmt.Errorf("it was interrupted in phase %d and has %d now: a migration that is under way must not change", at.Phase, phases)
	}
	return tx, nil
}

// conclude adds to the transaction of a step what it came to: the version and
// its history after the last step, and otherwise the progress.
func (u *run) conclude(ctx context.Context, txn store.Txn, at Progress, tx *Tx) (outcome, error) {
	next, err := at.after(tx)
	if err == nil {
		err = u.room.look(ctx, u.store)
	}
	if err != nil {
		return outcome{}, err
	}
	next.Program = u.programName()
	out := outcome{tx: tx, visited: next.Visited, visitedBytes: next.VisitedBytes}
	goesOn := tx.continues || tx.rows != nil && tx.batch.more
	if !goesOn && at.Phase < tx.phases {
		next, goesOn = next.nextPhase(), true
	}
	if !goesOn && u.m.Check != nil && at.Transactions > 0 && !at.checking {
		// A batch does not see those before it, and a check must.
		next.checking, goesOn = true, true
	}
	out.progress = &next
	inPhase := goesOn && next.Phase == at.Phase && !next.checking
	if err := u.leave(ctx, txn, at, tx, inPhase, next.cursor); err != nil {
		return outcome{}, err
	}
	if goesOn {
		return out, u.checkpoint(txn, next, at.unstored)
	}
	if err := u.check(ctx, txn); err != nil {
		return outcome{}, err
	}
	if at.Transactions > 0 {
		if err := u.endProgress(txn); err != nil {
			return outcome{}, err
		}
	}
	applied := u.newApplied(u.m, Migrated)
	if u.m.Baseline != nil {
		applied.Origin = Created
	}
	applied.Started, applied.Transactions = next.Started, next.Transactions
	applied.KeysWritten, applied.KeysDeleted = next.KeysWritten, next.KeysDeleted
	out.applied = &applied
	return out, u.record(txn, applied)
}

// endProgress removes the records of a migration of several transactions. A turn keeps
// its lock until it is given back.
func (u *run) endProgress(txn store.Txn) error {
	if err := txn.Delete(u.keys.progress); err != nil || u.inTurn {
		return err
	}
	return txn.Delete(u.keys.lock)
}

// check runs the migration's Check, if it has one.
func (u *run) check(ctx context.Context, txn store.Txn) error {
	if u.m.Check == nil {
		return nil
	}
	err := call(func() error { return u.m.Check(ctx, struct{ store.Reader }{txn}) })
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", ErrCheck, err)
	}
	return err
}

// newApplied returns the record of m in history, as of something that happens now.
func (r *Runner) newApplied(m Migration, origin Origin) Applied {
	l, now := r.registry.ladder(), r.clock()
	readable, writable := l.floors(m.Version)
	return Applied{
		Version: m.Version, Name: m.Name, Description: m.Description, Fingerprint: l.fingerprint(m.Version),
		Started: now, Finished: now, Program: r.programName(),
		Origin: origin, ReadableFrom: readable, WritableFrom: writable, Unreleased: m.Unreleased,
	}
}

// checkpoint writes the progress of a migration that has a next step, and takes
// the lock unless this run holds it. In a store without a version it also writes
// version 0, so that progress never stands without one.
func (u *run) checkpoint(txn store.Txn, p Progress, unstored bool) error {
	data, err := p.encode()
	if err != nil {
		return err
	}
	if unstored {
		if err := u.keep(txn, u.keys.version, make([]byte, 4)); err != nil {
			return err
		}
	}
	if err := u.takeLock(txn); err != nil {
		return err
	}
	return u.keep(txn, u.keys.progress, data)
}

// record writes the new version and its history.
func (r *Runner) record(txn store.Txn, a Applied) error {
	data, err := a.encode()
	if err != nil {
		return err
	}
	if err := r.keep(txn, r.keys.historyOf(a.Version), data); err != nil {
		return err
	}
	return r.keep(txn, r.keys.version, binary.BigEndian.AppendUint32(nil, a.Version))
}

// overtaken checks that the runner that was faster applied the same migration. It
// returns the record of one that this run applied without knowing.
func (up *upgrade) overtaken(ctx context.Context, m Migration) (own *Applied, err error) {
	err = up.store.View(ctx, func(s store.Reader) error {
		want := up.identity(m.Version)
		e, err := s.Get(want.key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return up.failed(m, nil, errors.New("the stored version changed while it ran; run again"))
		case err != nil:
			return up.failed(m, nil, err)
		case !startsWith(e.Value, want.head):
			return up.identify(s, m.Version)
		}
		doubt, ok := up.doubts[m.Version]
		if !ok {
			return nil
		}
		record, err := doubt.encode()
		if err == nil && bytes.Equal(record, e.Value) {
			own = &doubt
		}
		return err
	})
	return own, err
}

// keep writes a record of the schema, which must not come back empty after a power loss:
// the store would be taken for corrupt.
func (r *Runner) keep(txn store.Txn, key, data []byte) error {
	if torn := r.store.Limits().TornValueBytes; torn > 0 && len(data) >= torn {
		return &store.Error{Op: "set a record of the schema", Key: key, Err: tornValue(len(data))}
	}
	return txn.Set(store.Entry{Key: key, Value: data})
}

// errNoProgress: a step asked to be called again with the cursor it was given.
var errNoProgress = errors.New("Tx.Continue was given the cursor that the step began with, or none: it would run for ever")

// after returns the progress once tx's step at p is committed. It does not turn
// to the next phase.
func (p Progress) after(tx *Tx) (Progress, error) {
	p.unstored = false
	p.Transactions++
	p.KeysWritten += tx.written
	p.KeysDeleted += tx.deleted
	switch {
	case tx.rows != nil:
		p.Visited += uint64(tx.batch.n)
		p.VisitedBytes += uint64(tx.batch.bytes)
		p.cursor, p.rows = tx.batch.last, tx.batch.nextLimit
	case tx.continues:
		if tx.next == nil || bytes.Equal(tx.next, tx.cursor) {
			return p, errNoProgress
		}
		p.cursor = tx.next
	}
	return p, nil
}

// nextPhase returns the progress at the beginning of the phase that follows p's.
func (p Progress) nextPhase() Progress {
	p.Phase++
	p.cursor, p.rows, p.Visited, p.VisitedBytes = nil, 0, 0, 0
	return p
}
