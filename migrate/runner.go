package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// Options say how a Runner works. The zero Options are the default registry, the
// schema "system", the wall clock and slog's default logger.
type Options struct {
	// Registry holds the migrations. Nil means the default registry.
	Registry *Registry

	// Schema names the schema: a letter and then letters, digits, '_' and
	// '-', at most 64. Several schemas can live in one store, each with a
	// registry of its own. Empty means DefaultSchema.
	Schema string

	// AllowUnversioned says that a store with data and no schema version is
	// legal and at version 0, as after adding kvmigrate to a program that
	// has users. Otherwise such a store is refused with ErrUnversioned.
	AllowUnversioned bool

	// Program is what the history says ran a migration. Empty means the main
	// module and its version.
	Program string

	// Logger receives what the Runner does. Nil means slog.Default.
	Logger *slog.Logger

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// A Runner runs the migrations of one schema in one store. Its methods may be
// called concurrently, also by several Runners and processes on one store.
type Runner struct {
	store            store.Store
	registry         *Registry
	schema           string
	keys             keys
	allowUnversioned bool
	program          string
	log              *slog.Logger
	now              func() time.Time
}

// A Report says what a run did.
type Report struct {
	Schema  string
	From    uint32    // the version that the run found
	To      uint32    // the version that the run left
	Applied []Applied // what this run applied, in order
}

// Up brings st's schema to the latest version that the program knows: it is
// New and [Runner.Up] in one call, for a program's start-up.
func Up(ctx context.Context, st store.Store, o Options) (Report, error) {
	r, err := New(st, o)
	if err != nil {
		return Report{}, err
	}
	return r.Up(ctx)
}

// New returns a Runner over st. It does not touch the store. The error reports a
// bad schema name and every fault of the registry together, as a
// *multierror.Error.
func New(st store.Store, o Options) (*Runner, error) {
	r := &Runner{
		store: st, registry: o.Registry, schema: o.Schema, allowUnversioned: o.AllowUnversioned,
		program: o.Program, log: o.Logger, now: o.Now,
	}
	if r.registry == nil {
		r.registry = DefaultRegistry()
	}
	if r.schema == "" {
		r.schema = DefaultSchema
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.now == nil {
		r.now = time.Now
	}
	if err := checkSchema(r.schema); err != nil {
		return nil, err
	}
	if err := r.registry.Check(); err != nil {
		return nil, fmt.Errorf("migrations of %s schema: %w", r.schema, err)
	}
	r.keys = newKeys(r.schema)
	return r, nil
}

// Up runs every pending migration. See [Runner.UpTo].
func (r *Runner) Up(ctx context.Context) (Report, error) {
	return r.UpTo(ctx, r.registry.Latest())
}

// UpTo runs the pending migrations up to version target, each in a transaction
// of its own, synced before UpTo returns. A store that is at target already is
// left as it is, at the cost of three point reads.
//
// The error matches [ErrRefused] if the store must not be touched by this
// program: a [*DowngradeError], [*CorruptError], [*RenamedError],
// [*UnderWayError] or [ErrUnversioned]. It is an [*UnknownTargetError] for a
// target beyond the registry and a [*MigrationError] if a migration failed,
// panicked or was cancelled; those before it stay applied, and the Report says
// which. Running again goes on where it stopped.
func (r *Runner) UpTo(ctx context.Context, target uint32) (Report, error) {
	found, err := r.inspect(ctx, target)
	report := Report{Schema: r.schema, From: found.version, To: found.version}
	if err != nil {
		r.logRefusal(ctx, err)
		return report, err
	}
	plan, err := r.registry.Plan(r.schema, found.version, target)
	if err != nil {
		r.logRefusal(ctx, err)
		return report, err
	}
	if len(plan.Pending) == 0 {
		if r.log.Enabled(ctx, slog.LevelDebug) {
			r.log.DebugContext(ctx, fmt.Sprintf("%s schema version v%d up-to-date", r.schema, found.version))
		}
		return report, nil
	}
	if found.stored {
		r.log.InfoContext(ctx, fmt.Sprintf("%s schema upgrade detected: v%d -> v%d", r.schema, plan.From, plan.To))
	} else {
		r.log.InfoContext(ctx, fmt.Sprintf("%s schema version not found - initializing at v%d", r.schema, plan.To))
	}
	if found.progress != nil {
		r.log.InfoContext(ctx, fmt.Sprintf("resuming an interrupted migration: %v", found.progress))
	}
	for _, m := range plan.Pending {
		applied, err := r.apply(ctx, m)
		if err != nil {
			return report, err
		}
		report.To = m.Version
		if applied != nil {
			report.Applied = append(report.Applied, *applied)
		}
	}
	if err := r.store.Sync(ctx); err != nil {
		return report, fmt.Errorf("%s schema is at v%d, but making it durable failed: %w", r.schema, report.To, err)
	}
	return report, nil
}

func (r *Runner) logRefusal(ctx context.Context, err error) {
	if e, ok := errors.AsType[*DowngradeError](err); ok {
		r.log.ErrorContext(ctx, fmt.Sprintf("%s schema downgrade detected: v%d -> v%d (stored > current)", r.schema, e.Stored, e.Known))
	}
}

// errOvertaken: another runner applied the migration first.
var errOvertaken = errors.New("applied by another runner")

// apply runs one migration, step by step, from where it was interrupted if it
// was. It returns nil and no error if another runner already had.
func (r *Runner) apply(ctx context.Context, m Migration) (*Applied, error) {
	r.log.InfoContext(ctx, fmt.Sprintf("migrating v%d -> v%d: %s", m.Version-1, m.Version, m.describe()))
	// What the new version vouches for must be durable before it is.
	if err := r.store.Sync(ctx); err != nil {
		return nil, r.failed(m, nil, err)
	}
	started := r.clock()
	var last *Progress // what is committed, for the error
	for {
		var applied *Applied
		var progress *Progress
		err := ctx.Err()
		if err == nil {
			err = store.Update(ctx, r.store, func(txn store.Txn) (err error) {
				applied, progress, err = r.step(ctx, txn, m, started)
				return err
			})
		}
		switch {
		case errors.Is(err, errOvertaken):
			return nil, r.overtaken(ctx, m)
		case err != nil:
			return nil, r.failed(m, last, err)
		case applied != nil:
			r.log.InfoContext(ctx, fmt.Sprintf("%s schema version updated to v%d", r.schema, m.Version))
			return applied, nil
		}
		last = progress
	}
}

// step runs m's Up once in txn. It returns what the step is to commit: the
// record of the finished migration, or the progress if there is a next step.
func (r *Runner) step(ctx context.Context, txn store.Txn, m Migration, started time.Time) (*Applied, *Progress, error) {
	version, stored, err := r.readVersion(txn)
	if err != nil {
		return nil, nil, err
	}
	if version != m.Version-1 {
		return nil, nil, fmt.Errorf("%w: the store is at v%d", errOvertaken, version)
	}
	under, err := r.readProgress(txn, version)
	if err != nil {
		return nil, nil, err
	}
	p := Progress{Version: m.Version, Name: m.Name, Started: started, fingerprint: r.registry.fingerprint(m.Version).String()}
	if under != nil {
		if err := r.resumable(under, m.Version); err != nil {
			return nil, nil, err
		}
		p = *under
	}
	tx := &Tx{txn: txn, reserved: r.keys.reserved, limits: r.store.Limits(), now: p.Started, cursor: p.cursor}
	if err := call(ctx, m.Up, tx); err != nil {
		return nil, nil, err
	}
	if tx.failed != nil {
		return nil, nil, tx.failed
	}
	p.Transactions++
	p.KeysWritten += tx.written
	p.KeysDeleted += tx.deleted
	p.Program = r.programName()
	if tx.continues {
		if tx.next == nil || bytes.Equal(tx.next, tx.cursor) {
			return nil, nil, errNoProgress
		}
		p.cursor = tx.next
		return nil, &p, r.checkpoint(txn, p, stored)
	}
	if tx.tornWrite != nil {
		return nil, nil, tx.tornWrite
	}
	applied := Applied{
		Version: m.Version, Name: m.Name, Description: m.Description,
		Fingerprint: r.registry.fingerprint(m.Version),
		Started:     p.Started, Finished: r.clock(), Transactions: p.Transactions,
		KeysWritten: p.KeysWritten, KeysDeleted: p.KeysDeleted, Program: p.Program,
	}
	return &applied, nil, r.finish(ctx, txn, applied, under != nil)
}

// errNoProgress: a step asked to be called again with the cursor it was given.
var errNoProgress = errors.New("Tx.Continue was given the cursor that the step began with, or none: it would run for ever")

// checkpoint writes the progress of a migration that has a next step. In a store
// without a version it also writes version 0, so that progress never stands
// without one.
func (r *Runner) checkpoint(txn store.Txn, p Progress, stored bool) error {
	data, err := p.encode()
	if err != nil {
		return err
	}
	if !stored {
		if err := txn.Set(store.Entry{Key: r.keys.version, Value: make([]byte, 4)}); err != nil {
			return err
		}
	}
	return txn.Set(store.Entry{Key: r.keys.progress, Value: data})
}

// finish writes the version and history of a migration that is done.
func (r *Runner) finish(ctx context.Context, txn store.Txn, a Applied, stepped bool) error {
	if stepped {
		// The steps before are what the version is about to vouch for.
		if err := r.store.Sync(ctx); err != nil {
			return err
		}
		if err := txn.Delete(r.keys.progress); err != nil {
			return err
		}
	}
	return r.record(txn, a)
}

// record writes the new version and its history.
func (r *Runner) record(txn store.Txn, a Applied) error {
	data, err := a.encode()
	if err != nil {
		return err
	}
	if err := txn.Set(store.Entry{Key: r.keys.historyOf(a.Version), Value: data}); err != nil {
		return err
	}
	return txn.Set(store.Entry{Key: r.keys.version, Value: binary.BigEndian.AppendUint32(nil, a.Version)})
}

// overtaken checks that the runner that was faster applied the same migration.
func (r *Runner) overtaken(ctx context.Context, m Migration) error {
	return r.store.View(ctx, func(s store.Reader) error {
		e, err := s.Get(r.keys.historyOf(m.Version))
		switch {
		case errors.Is(err, store.ErrNotFound):
			return r.failed(m, nil, errors.New("the stored version changed while it ran; run again"))
		case err != nil:
			return r.failed(m, nil, err)
		case !hasFingerprint(e.Value, r.registry.fingerprint(m.Version)):
			return r.identify(s, m.Version)
		}
		return nil
	})
}

func (r *Runner) failed(m Migration, p *Progress, err error) error {
	return &MigrationError{Schema: r.schema, Version: m.Version, Name: m.Name, Progress: p, Err: err}
}

// clock reads the clock as history keeps it.
func (r *Runner) clock() time.Time { return r.now().UTC().Truncate(time.Millisecond) }

// programName is what history says ran a migration.
func (r *Runner) programName() string {
	if r.program != "" {
		return r.program
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return strings.TrimSpace(info.Main.Path + " " + info.Main.Version)
}

// call runs up and turns a panic into an error.
func call(ctx context.Context, up UpFunc, tx *Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return up(ctx, tx)
}

// fingerprint returns the fingerprint of the ladder up to version, which must be
// one of the registry's.
func (r *Registry) fingerprint(version uint32) Fingerprint {
	return r.ladder().fingerprints[version-1]
}

// found is the state in which a run finds a schema.
type found struct {
	version uint32
	stored  bool // whether a version is stored at all

	progress *Progress // of the migration under way, or nil
}

// inspect reads the schema's state and refuses what this program must not touch.
func (r *Runner) inspect(ctx context.Context, target uint32) (f found, err error) {
	err = r.store.View(ctx, func(s store.Reader) error {
		f.version, f.stored, err = r.readVersion(s)
		if err != nil {
			return err
		}
		if !f.stored {
			return r.inspectUnversioned(s)
		}
		return r.inspectVersioned(s, &f, target)
	})
	return f, err
}

// inspectVersioned makes the checks of every start: identity, and no migration
// under way that this program does not know. Only if something is pending, and
// so about to be written, does it read the whole history.
func (r *Runner) inspectVersioned(s store.Reader, f *found, target uint32) (err error) {
	version := f.version
	latest := r.registry.Latest()
	if version > latest {
		return &DowngradeError{Schema: r.schema, Stored: version, Known: min(latest, target), WrittenBy: r.writtenBy(s, version)}
	}
	if err := r.inspectIdentity(s, version); err != nil {
		return err
	}
	if f.progress, err = r.readProgress(s, version); err != nil {
		return err
	}
	if f.progress != nil {
		if err := r.resumable(f.progress, target); err != nil {
			return err
		}
	}
	switch {
	case version > target:
		return &DowngradeError{Schema: r.schema, Stored: version, Known: target, WrittenBy: r.writtenBy(s, version)}
	case version < target:
		_, err := r.readHistory(s, version)
		return err
	}
	return nil
}

// inspectIdentity checks that the store came to version by this program's
// migrations. The last record's fingerprint covers all before it.
func (r *Runner) inspectIdentity(s store.Reader, version uint32) error {
	if version == 0 {
		return nil
	}
	key := r.keys.historyOf(version)
	e, err := s.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return r.corrupt(key, "its version is v%d but its history has no record of v%d", version, version)
	case err != nil:
		return r.unreadable(key, fmt.Sprintf("the history record of v%d", version), err)
	case !hasFingerprint(e.Value, r.registry.fingerprint(version)):
		return r.identify(s, version)
	}
	return nil
}

// identify finds the first migration in history that is not this program's.
func (r *Runner) identify(s store.Reader, version uint32) error {
	history, err := r.readHistory(s, version)
	if err != nil {
		return err
	}
	for i, a := range history {
		if known := r.registry.ladder().migrations[i]; a.Name != known.Name {
			return &RenamedError{Schema: r.schema, Version: a.Version, Stored: a.Name, Known: known.Name}
		}
	}
	return r.corrupt(r.keys.historyOf(version), "the fingerprint of v%d does not belong to the names in its history", version)
}

// writtenBy names the program that brought the store to version, if it says so.
func (r *Runner) writtenBy(s store.Reader, version uint32) string {
	e, err := s.Get(r.keys.historyOf(version))
	if err != nil {
		return ""
	}
	a, err := decodeApplied(e.Value)
	if err != nil {
		return ""
	}
	return a.Program
}

// inspectUnversioned decides what a store without a version of this schema is:
// damaged if it has other records of the schema, fresh if nothing in it is
// unaccounted for, and otherwise unversioned.
func (r *Runner) inspectUnversioned(s store.Reader) error {
	for _, orphan := range []struct {
		what   string
		prefix []byte
	}{
		{"a history", []byte(r.keys.history)},
		{"the progress of a migration", r.keys.progress},
		{"a catalog", r.keys.table},
	} {
		e, ok, err := first(s, orphan.prefix, nil)
		if err != nil {
			return r.unreadable(orphan.prefix, orphan.what, err)
		}
		if ok {
			return r.corrupt(e.Key, "it has %s but no version", orphan.what)
		}
	}
	if r.allowUnversioned {
		return nil
	}
	foreign, err := holdsForeignData(s)
	if err != nil {
		return fmt.Errorf("look for data of other programs: %w", err)
	}
	if foreign {
		return fmt.Errorf("%s schema: %w", r.schema, ErrUnversioned)
	}
	return nil
}

// first returns the first entry with prefix at or after from.
func first(s store.Reader, prefix, from []byte) (store.Entry, bool, error) {
	for e, err := range s.Scan(store.Scan{Prefix: prefix, From: from, KeysOnly: true}) {
		return store.Entry{Key: bytes.Clone(e.Key)}, err == nil, err
	}
	return store.Entry{}, false, nil
}

// holdsForeignData reports whether the store has a key that belongs to no schema
// with a version. It looks at two keys a schema and not at every key.
func holdsForeignData(s store.Reader) (bool, error) {
	var from []byte
	for {
		e, ok, err := first(s, nil, from)
		if err != nil || !ok {
			return false, err
		}
		end := bytes.IndexAny(e.Key, ":./")
		if end < 0 || checkSchema(string(e.Key[:end])) != nil {
			return true, nil
		}
		_, err = s.Get(newKeys(string(e.Key[:end])).version)
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		from = append(bytes.Clone(e.Key[:end]), e.Key[end]+1)
	}
}
