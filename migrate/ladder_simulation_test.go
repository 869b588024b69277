package migrate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

var ladderSeed = flag.Uint64("seed", 0, "run this trial of TestLadderSimulation alone")

// TestLadderSimulation takes random ladders of migrations through random troubles, and
// holds the store against a model after every single commit.
//
// A trial is drawn from a seed: the ladder, the rows, and runs one after the other, each
// of a program or of two at once, that are killed, paused, cancelled or refused by the
// store, or do not know all migrations; after some the power fails. A last run that
// nothing disturbs gets to the end.
//
// The store is a machine. The model computes what it has to hold from nothing but the
// rows that it began with and what Status and History say: each migration is a pure
// function of the rows, and so is each part of one. If they say that two migrations are
// applied, and that seven rows of the third one's second phase are, then seven rows are.
//
// A failure prints its seed and the smallest trial that was found to fail as well. Where
// goroutines overtake each other a seed does not always fail again.
func TestLadderSimulation(t *testing.T) {
	first, n := rand.Uint64N(1<<40), soak(100, 10_000)
	if *ladderSeed != 0 {
		first, n = *ladderSeed, 1
	}
	for seed := first; seed < first+uint64(n) && !t.Failed(); seed++ {
		tr := randomTrial(seed)
		if _, err := tr.attempt(t); err != nil {
			t.Errorf("trial %d, -seed %d: %v", seed-first+1, seed, err)
			small, trace, err := shrink(t, tr)
			t.Errorf("a smaller one: %v\n%v\n%s", err, small, strings.Join(trace, "\n"))
		}
	}
}

// attempt runs a trial, and returns what happened last and what was wrong.
func (tr trial) attempt(t *testing.T) (trace []string, err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t.Context(), tr)
		for i, r := range tr.runs {
			if last := i == len(tr.runs)-1; w.fault == nil && (last || !w.up()) {
				w.run(t.Context(), i, r)
			}
		}
		if w.fault == nil {
			w.finish(t.Context())
		}
		trace, err = w.trace, w.fault
	})
	return trace, err
}

// A world is a trial that goes on.
type world struct {
	trial
	machine *machine
	model   *model
	sizes   []int           // of the rows, by version
	all     migrate.Options // of a program that knows all migrations

	mu    sync.Mutex // of trace and fault
	trace []string
	fault error

	now     sight // the last
	gaps    bool  // whether the power took steps that are not made again yet
	durable int   // the version that a run left
	applied map[uint32]int
}

// up reports whether the ladder has been climbed.
func (w *world) up() bool { return int(w.now.status.Version) == len(w.ladder) }

// A sight is what a program sees of a store.
type sight struct {
	status  migrate.Status
	history []migrate.Applied
}

func (s sight) steps() uint64 {
	if s.status.Progress == nil {
		return 0
	}
	return s.status.Progress.Transactions
}

func newWorld(ctx context.Context, tr trial) *world {
	w := &world{trial: tr, applied: map[uint32]int{}}
	random := newRandom(tr.seed, 1)
	w.machine = &machine{shared: tr.shared}
	t := w.machine.begin()
	for range tr.rows {
		e := store.Entry{Key: fmt.Appendf(nil, "%c/%03d", "aaaabbc"[random.IntN(7)], random.IntN(250)), Value: []byte("v")}
		if random.IntN(4) == 0 {
			e.Meta, e.ExpiresAt = byte(random.IntN(200)), random.Uint64()
		}
		_ = t.Set(e)
	}
	_ = w.machine.commit(t)
	w.machine.volatile = tr.volatile
	w.model = &model{first: w.machine.holds.rows(), ladder: tr.ladder}
	for version := range len(tr.ladder) + 1 {
		now := time.Now()
		w.sizes = append(w.sizes, w.model.at(version, func(int) time.Time { return now }).rows.size())
	}
	w.all = w.options(program{known: len(tr.ladder)})
	w.look(ctx, w.machine.holds, nil)
	w.machine.committed = func(holds snapshot, by *transaction) { w.look(ctx, holds, by) }
	return w
}

func (w *world) tracef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
	w.trace = w.trace[max(0, len(w.trace)-60):]
}

// failf keeps the first fault.
func (w *world) failf(format string, args ...any) {
	w.tracef(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == nil {
		w.fault = fmt.Errorf(format, args...)
	}
}

// look compares what the store holds after a transaction, which is nil if the power
// failed, with the model.
func (w *world) look(ctx context.Context, holds snapshot, by *transaction) {
	r, err := migrate.New(stillOf(holds, w.shared), w.all)
	if err != nil {
		w.failf("new: %v", err)
		return
	}
	var now sight
	if now.status, err = r.Status(ctx); err == nil {
		now.history, err = r.History(ctx)
	}
	if err != nil {
		w.failf("status: %v", err)
		return
	}
	w.tracef("v%d, %v", now.status.Version, now.status.Progress)
	if by != nil {
		_, version := by.writes["system:schema_version"]
		_, progress := by.writes["system:schema_progress"]
		if err := follows(w.now, now, progress); err != nil {
			w.failf("%v", err)
		}
		if version || progress { // which vouch for the rows
			w.gaps = false
		}
	}
	w.now = now
	if err := w.model.compare(holds.rows(), now.status, now.history, w.gaps); err != nil {
		w.failf("%v: %v", now.status.Progress, err)
	}
}

// follows: one commit makes one step, or applies migrations that take one.
func follows(before, now sight, progress bool) error {
	steps := before.steps()
	if now.status.Version == before.status.Version {
		if progress {
			steps++
		}
		if now.steps() != steps {
			return fmt.Errorf("%d steps follow %d", now.steps(), before.steps())
		}
		return nil
	}
	if now.status.Version < before.status.Version || now.status.Progress != nil {
		return fmt.Errorf("v%d with %v follows v%d", now.status.Version, now.status.Progress, before.status.Version)
	}
	for _, a := range now.history[before.status.Version:] {
		if a.Transactions != steps+1 {
			return fmt.Errorf("%d transactions in the history of v%d; want %d", a.Transactions, a.Version, steps+1)
		}
		steps = 0
	}
	return nil
}

// run runs the programs of r, and lets the power fail.
func (w *world) run(ctx context.Context, i int, r run) {
	alone := len(r.programs) == 1 && len(w.machine.late) == 0
	ends := make([]func(), len(r.programs))
	var group sync.WaitGroup
	for j, p := range r.programs {
		ctx, cancel := context.WithCancel(ctx)
		proc := &process{
			machine: w.machine, name: fmt.Sprintf("program %d.%d", i+1, j+1), entries: p.entries, jitter: p.batches > 1 || len(r.programs) > 1,
			cancel: cancel, trace: w.tracef, random: newRandom(r.seed, byte(j)), faults: slices.Clone(p.faults),
		}
		group.Go(func() {
			defer cancel()
			time.Sleep(p.starts)
			report, err := w.climb(ctx, p, proc)
			w.tracef("%s: v%d to v%d, %d applied, %v", proc.name, report.From, report.To, len(report.Applied), err)
			ends[j] = func() { w.judge(p, proc.name, report, err, alone) }
		})
	}
	group.Wait()
	for _, end := range ends {
		end()
	}
	if r.seed%2 == 0 {
		w.arrive()
	}
	if r.loss >= 0 {
		lost := w.machine.losePower(newRandom(r.seed, 9), r.loss)
		w.tracef("run %d: the power fails, and %d commits are lost", i+1, lost)
		w.gaps = w.gaps || lost > 0
		w.look(ctx, w.machine.holds, nil)
		if int(w.now.status.Version) < w.durable {
			w.failf("v%d after a power failure, and v%d was said to be durable", w.now.status.Version, w.durable)
		}
	}
}

// climb migrates as far as p goes.
func (w *world) climb(ctx context.Context, p program, proc *process) (migrate.Report, error) {
	o := w.options(p)
	o.Program = proc.name
	r, err := migrate.New(proc, o)
	if err != nil {
		return migrate.Report{}, err
	}
	return r.UpTo(ctx, uint32(p.known))
}

// arrive lets arrive what is late. Once a turn was given back, it changes no row.
func (w *world) arrive() {
	before := w.machine.holds
	w.machine.arrive()
	_, working := before.find([]byte("system:schema_turn"))
	if w.shared && !working && w.machine.holds.stands() != before.stands() {
		w.failf("a step is committed after the turn was given back")
	}
}

var errBroken = errors.New("a migration that fails")

// judge says whether a program may end like that.
func (w *world) judge(p program, name string, report migrate.Report, err error, alone bool) {
	version := int(w.now.status.Version)
	for _, a := range report.Applied {
		if w.applied[a.Version]++; w.applied[a.Version] > 1 && !w.volatile {
			w.failf("%s: two runs applied v%d", name, a.Version)
		}
	}
	if alone && len(report.Applied) != int(report.To-report.From) {
		w.failf("%s: v%d to v%d, and %d migrations applied", name, report.From, report.To, len(report.Applied))
	}
	failed, broke := errors.AsType[*migrate.MigrationError](err)
	switch {
	case err == nil:
		if version < p.known || int(report.To) < p.known {
			w.failf("%s: no error, and v%d of %d", name, version, p.known)
		}
		if alone && (version > p.known || w.now.status.Progress != nil) {
			w.failf("%s: no error, and v%d of %d with %v", name, version, p.known, w.now.status.Progress)
		}
		if len(report.Applied) > 0 {
			w.durable = max(w.durable, int(report.To))
		}
	case errors.Is(err, errBroken):
		if !broke || int(failed.Version) != p.broken {
			w.failf("%s: %v; want a MigrationError of v%d", name, err, p.broken)
		}
	case errors.Is(err, errKilled) && p.had(kill, killCommitted):
	case errors.Is(err, errFault) && p.had(fail):
	case errors.Is(err, context.Canceled) && p.had(cancel):
	case errors.Is(err, store.ErrUnknown) && p.had(cancel) && p.had(unknownLost, unknownDone, unknownLate):
	case isType[*migrate.DowngradeError](err) && version > p.known:
	case isType[*migrate.UnderWayError](err) && version >= p.known && p.known < len(w.ladder):
	default:
		w.failf("%s: %v", name, err)
	}
}

// finish: nothing arrives late, and nothing is left of the way.
func (w *world) finish(ctx context.Context) {
	w.arrive()
	r, err := migrate.New(stillOf(w.machine.holds, w.shared), w.all)
	if err != nil {
		w.failf("new: %v", err)
		return
	}
	if v, err := r.Verify(ctx, migrate.VerifyOptions{}); err != nil {
		w.failf("verify: %v, %v", v.Findings, err)
	}
	if w.now.status.Progress != nil || int(w.now.status.Version) != len(w.ladder) {
		w.failf("v%d with %v at the end", w.now.status.Version, w.now.status.Progress)
	}
}

// options are those of a program.
func (w *world) options(p program) migrate.Options {
	has := p.known
	if p.all {
		has = len(w.ladder)
	}
	ms := make([]migrate.Migration, has)
	for i := range ms {
		ms[i] = w.migration(i, p.broken == i+1, p.after)
	}
	o := options(migrate.NewRegistry(ms...))
	o.Now, o.AllowUnversioned, o.Heartbeat, o.Batches = nil, true, -1, p.batches
	return o
}

// migration is a rung of the ladder, which fails if it is broken, after so many rows or
// in its check.
func (w *world) migration(i int, broken bool, after int) migrate.Migration {
	var rows atomic.Int64
	ups := make([]migrate.UpFunc, len(w.ladder[i].phases))
	for j, p := range w.ladder[i].phases {
		ups[j] = kinds[p.kind].up(p, func(tx rowTx, e store.Entry) error {
			if broken && rows.Add(1) > int64(after) {
				if after%2 == 0 {
					panic(errBroken)
				}
				return errBroken
			}
			return kinds[p.kind].row(p, tx, e)
		})
	}
	m := migrate.Migration{Version: uint32(i + 1), Name: name(i), Up: ups[0]}
	if len(ups) > 1 {
		m.Up = migrate.Phases(ups...)
	}
	if w.ladder[i].slow {
		up := m.Up
		m.Up = func(ctx context.Context, tx *migrate.Tx) error {
			time.Sleep(60 * time.Millisecond)
			return up(ctx, tx)
		}
	}
	if w.ladder[i].checks {
		m.Check = func(_ context.Context, r store.Reader) error {
			got := 0
			for e, err := range r.Scan(store.Scan{}) {
				if err != nil {
					return err
				}
				if !strings.HasPrefix(string(e.Key), "system:") {
					got += rowSize(e)
				}
			}
			if got != w.sizes[i+1] {
				w.failf("the check of v%d sees %d bytes, want %d", i+1, got, w.sizes[i+1])
			}
			if broken {
				return errBroken
			}
			return nil
		}
	}
	return m
}
