package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
)

// ErrHalfMigrated means that a migration of several transactions is under way, so that
// a backup would hold entries of two versions.
var ErrHalfMigrated = errors.New("a migration is under way, and its entries are half of one version and half of the next; finish it first")

// A BackupError says that a store could not be backed up. Nothing was changed in the
// store, and no migration was begun.
type BackupError struct {
	Schema  string
	Version uint32 // of the store, 0 if it could not be read
	Dir     string // where the backup was to go
	Err     error

	unread bool // Version is not known
}

func (e *BackupError) Error() string {
	hint := ""
	if _, ok := errors.AsType[*backup.NoSpaceError](e.Err); ok {
		hint = ". Make room there, or keep backups in another directory, and run again"
	}
	at := fmt.Sprintf("at %s schema v%d", e.Schema, e.Version)
	if e.unread {
		at = fmt.Sprintf("of %s schema", e.Schema)
	}
	const unchanged = "nothing was changed"
	cause := e.Err.Error()
	if !strings.Contains(cause, unchanged) { // the error of a damaged store says so itself
		cause += "; " + unchanged
	}
	return fmt.Sprintf("back up the store %s into %s: %s%s", at, e.Dir, cause, hint)
}

// Unwrap returns Err.
func (e *BackupError) Unwrap() error { return e.Err }

// Backup makes a backup of the store under o, as Options.Backup does before a
// migration. It works on any store of which a version can be read, also one that is
// newer than the program. The error is a [*BackupError]; it matches [ErrHalfMigrated]
// if a migration was interrupted.
func (r *Runner) Backup(ctx context.Context, o backup.Options) (backup.Taken, error) {
	var version uint32
	read := false
	o, kept := r.retain(ctx, o)
	taken, err := backup.Take(ctx, r.saved(), o, func(s store.Reader) (h backup.Header, err error) {
		if version, _, err = r.readVersion(s); err != nil {
			return h, err
		}
		read = true
		under, err := r.underWay(s)
		if err == nil && under {
			err = ErrHalfMigrated
		}
		return r.header(version), err
	})
	if err != nil {
		return taken, &BackupError{Schema: r.schema, Version: version, Dir: o.Dir, Err: err, unread: !read}
	}
	if kept != nil {
		taken.Warning = multierror.Append(taken.Warning, kept)
	}
	return taken, nil
}

// retain says in o at which version the last upgrade began. If history cannot say, all
// backups are kept, and the error says why.
func (r *Runner) retain(ctx context.Context, o backup.Options) (backup.Options, error) {
	if o.Keep <= 0 {
		return o, nil
	}
	err := r.store.View(ctx, func(s store.Reader) error {
		version, stored, err := r.readVersion(s)
		if err != nil || !stored {
			return err
		}
		history, err := r.readHistory(s, version)
		if err == nil {
			from := upgradedFrom(history)
			o.UpgradedFrom = &from
		}
		return err
	})
	if err != nil {
		o.Keep = 0
		err = fmt.Errorf("no old backup was removed: %w", err)
	}
	return o, err
}

// upgradedFrom returns the version at which the program that wrote the latest record of
// history found the store. That may be another program than this one: one that broke
// half-way up and was replaced has the same way back.
func upgradedFrom(history []Applied) uint32 {
	if len(history) == 0 {
		return 0
	}
	program := history[len(history)-1].Program
	for _, a := range slices.Backward(history) {
		if a.Program != program || a.Origin != Migrated {
			return a.Version
		}
	}
	return history[0].Version - 1
}

// saved returns what is backed up: the store without the turns of processes and its nodes, which
// are gone when the backup is restored.
func (r *Runner) saved() store.Store {
	if !r.shared {
		return r.store
	}
	return turnless{r.store}
}

// turnless is a store without turns and nodes, and the locks and intents that are there
// with them.
type turnless struct{ store.Store }

// Unwrap returns the store below; see [store.As].
func (t turnless) Unwrap() store.Store { return t.Store }

// View implements [store.Store].
func (t turnless) View(ctx context.Context, fn func(store.Reader) error) error {
	return t.Store.View(ctx, func(r store.Reader) error { return fn(turnlessReader{r}) })
}

type turnlessReader struct{ store.Reader }

// Scan implements [store.Reader].
func (r turnlessReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range r.Reader.Scan(s) {
			if err == nil {
				var hidden bool
				if hidden, err = r.hides(e.Key); hidden {
					continue
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// hides reports whether key is a turn or of a node, or a lock or intent without a
// migration under way.
func (r turnlessReader) hides(key []byte) (bool, error) {
	schema, _, _ := bytes.Cut(key, []byte(":"))
	if !isRecord(key) {
		return false, nil
	}
	k := newKeys(string(schema))
	if !bytes.Equal(key, k.lock) && !bytes.Equal(key, k.intent) {
		return bytes.Equal(key, k.turn) || bytes.HasPrefix(key, []byte(k.node)) || bytes.HasPrefix(key, []byte(k.beat)), nil
	}
	_, err := r.Get(k.progress)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// underWay reports whether a migration is, whoever knows it.
func (r *Runner) underWay(s store.Reader) (bool, error) {
	_, err := s.Get(r.keys.progress)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (r *Runner) header(version uint32) backup.Header {
	return backup.Header{Schema: r.schema, Version: version, Program: r.programName(), Created: r.clock()}
}

// These end a backup that is not to be made.
var (
	errNothing = errors.New("nothing to back up")
	errBegun   = errors.New("another runner has begun to migrate")
)

// backUp makes the backup that Options ask for before plan. Data that are half migrated
// are never saved: what was interrupted has its backup from before.
func (r *Runner) backUp(ctx context.Context, f found, plan Plan) (*backup.Taken, error) {
	if r.backup == nil {
		return nil, nil
	}
	if f.progress != nil {
		return r.earlierBackup(ctx, f.version)
	}
	o, kept := r.retain(ctx, *r.backup)
	if kept != nil {
		r.log.WarnContext(ctx, kept.Error())
	}
	live := r.newLiveFile(plan)
	live.write(ctx, time.Now(), Event{Kind: BackingUp, Migration: plan.Pending[0], Phase: 1, Phases: 2})
	defer live.remove()
	o.Observer = r.observeBackup(ctx, plan, live, o.Observer)
	r.log.InfoContext(ctx, fmt.Sprintf("backing up the store at %s schema v%d, before it goes to v%d", r.schema, f.version, plan.To), "dir", o.Dir)
	taken, err := backup.Take(ctx, r.saved(), o, func(s store.Reader) (backup.Header, error) {
		version, stored, err := r.readVersion(s)
		if err != nil {
			return backup.Header{}, err
		}
		under, err := r.underWay(s)
		if err != nil {
			return backup.Header{}, err
		}
		if under || stored != f.stored || stored && version != f.version {
			return backup.Header{}, errBegun
		}
		if _, any, err := first(s, nil, nil); err != nil || !any {
			return backup.Header{}, errors.Join(errNothing, err)
		}
		return r.header(f.version), nil
	})
	switch {
	case errors.Is(err, errBegun):
		return r.earlierBackup(ctx, f.version)
	case errors.Is(err, errNothing) && !f.stored:
		return nil, nil
	case err != nil:
		return nil, &BackupError{Schema: r.schema, Version: f.version, Dir: o.Dir, Err: err}
	}
	what := "backed up the store"
	if taken.Reused {
		what = "the store is backed up already"
	}
	r.logBackup(ctx, what, taken.Info)
	for _, path := range taken.Removed {
		r.log.InfoContext(ctx, "removed an old backup", "file", path)
	}
	if taken.Warning != nil {
		r.log.WarnContext(ctx, fmt.Sprintf("the backup is good, but others need a look: %v", taken.Warning))
	}
	return &taken, nil
}

// earlierBackup finds the backup from before a migration that was interrupted. Not to go
// on without one would leave the operator with nothing but half-migrated data.
func (r *Runner) earlierBackup(ctx context.Context, version uint32) (*backup.Taken, error) {
	info, ok, err := backup.Find(ctx, r.backup.Dir, r.schema, version, r.backupKey())
	switch {
	case ctx.Err() != nil:
		return nil, &BackupError{Schema: r.schema, Version: version, Dir: r.backup.Dir, Err: err}
	case !ok && err != nil:
		r.log.WarnContext(ctx, fmt.Sprintf("found no good backup from before the interrupted migration, and half-migrated data are not saved; going on without a good one: %v", err), "dir", r.backup.Dir)
		return nil, nil
	case !ok:
		r.log.WarnContext(ctx, "found no backup from before the interrupted migration (there is none), and half-migrated data are not saved; going on without", "dir", r.backup.Dir)
		return nil, nil
	}
	r.logBackup(ctx, fmt.Sprintf("the backup from before the interrupted migration is of v%d", info.Version), info)
	return &backup.Taken{Info: info, Reused: true}, nil
}

func (r *Runner) backupKey() []byte {
	if e, ok := store.As[store.Encrypter](r.store); ok && r.backup.Key == nil {
		return e.EncryptionKey()
	}
	return r.backup.Key
}

func (r *Runner) logBackup(ctx context.Context, what string, i backup.Info) {
	r.log.InfoContext(ctx, what, "file", i.Path, "entries", i.Entries, "bytes", i.Bytes, "size", i.Size)
}

// observeBackup tells the observer and, as often as of a migration, the log and other
// processes.
func (r *Runner) observeBackup(ctx context.Context, plan Plan, live *liveFile, also func(backup.Progress)) func(backup.Progress) {
	began := time.Now()
	logged, written := began, began
	return func(p backup.Progress) {
		if also != nil {
			also(p)
		}
		now := time.Now()
		if r.heartbeat > 0 && now.Sub(logged) >= r.heartbeat {
			logged = now
			r.log.LogAttrs(ctx, slog.LevelInfo, "still backing up: "+text(p, now.Sub(began)))
		}
		e := Event{
			Kind: BackingUp, Schema: r.schema, Migration: plan.Pending[0], Phase: 1, Phases: 2,
			Done: p.Entries, Total: p.Total, Bytes: p.Bytes, Elapsed: now.Sub(began),
		}
		if p.Stage == backup.Verifying {
			e.Phase = 2
		}
		if seconds := p.Elapsed.Seconds(); seconds > 0 {
			e.Rate = float64(p.Entries) / seconds
		}
		if now.Sub(written) >= liveInterval {
			written = now
			live.write(ctx, now, e)
		}
		r.observe(e)
	}
}

func text(p backup.Progress, elapsed time.Duration) string {
	of := ""
	if p.Total > 0 {
		of = fmt.Sprintf(" of %d", p.Total)
	}
	return fmt.Sprintf("%s, %d%s entries, %s in %v", p.Stage, p.Entries, of, humanize.IBytes(p.Bytes), elapsed.Round(time.Second))
}
