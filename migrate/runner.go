package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
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

	// Adopt, if not nil, decides about a store with data and no schema version: it
	// finds out from the data which version they are like, so that the migrations
	// after that one run. History says that the store was adopted, and so does the
	// log. 0 is a store that wants all migrations; an error, which may be
	// ErrUnversioned, leaves it alone. Adopt runs before AllowUnversioned is looked
	// at, in the snapshot that the run begins with.
	Adopt func(ctx context.Context, r store.Reader) (version uint32, err error)

	// AllowUnreleased lets migrations that are marked Unreleased run in any store.
	AllowUnreleased bool

	// AllowReadOnly says that the program only reads a store for which
	// Report.ReadOnly is set, for example through [store.ReadOnly]. Without it, a
	// newer store which the program may read but not write is refused as any newer
	// store is.
	AllowReadOnly bool

	// Reclaim gives back the room of what was overwritten after every run that
	// applied a migration to a store that was not empty, if the store is a
	// [store.Reclaimer]. History says how large the store was before and after. It
	// can take as long as the migrations did; that it fails, or is cancelled, is
	// logged and no error.
	Reclaim bool

	// Program is what the history says ran a migration. Empty means the main
	// module and its version.
	Program string

	// Logger receives what the Runner does. Nil means slog.Default.
	Logger *slog.Logger

	// Now is the clock of the history. Nil means time.Now.
	Now func() time.Time

	// Observer, if not nil, is told of everything that happens to a
	// migration; see Event. It is called by one goroutine at a time, which
	// waits for it, also if several runs of the Runner overlap. A panic of it is
	// logged.
	Observer func(Event)

	// Heartbeat is how often the log says how far a migration has come. 0
	// means every five seconds, less than 0 never.
	Heartbeat time.Duration

	// Batches is how many batches of a migration may be in memory at a time,
	// each of at most 4,000 entries and, unless a single entry is larger, 1
	// MiB. 1 reads each batch after the one before it is committed. 0 means
	// one for each core and one more, at most 8.
	Batches int

	// Wait is how long a run waits for another process that migrates the schema in a
	// store that they share (see [store.Sharer]), before it gives up with a
	// [*BusyError]. 0 is as long as the context lasts, less than 0 not at all; but to
	// see whether the other one is alive it waits up to its TurnTTL. A store that
	// is not shared has no such process.
	Wait time.Duration

	// TurnTTL is how long a run over a shared store may give no sign of life before
	// others take over from it, and what it does can no longer be committed. It
	// gives three in that time. 0 means ten seconds, and the least is a tenth of a
	// second; it should be longer than the store may be out of reach, for example
	// while a cluster elects a leader.
	TurnTTL time.Duration

	// Backup, if not nil, has a backup made before the first pending migration
	// of a store that holds anything; a run that cannot make it changes
	// nothing. A migration that was interrupted goes on without a new one.
	Backup *backup.Options
}

// A Runner runs the migrations of one schema in one store. Its methods may be
// called concurrently, also by several Runners and processes on one store.
type Runner struct {
	store            store.Store
	registry         *Registry
	schema           string
	keys             keys
	allowUnversioned bool
	adopt            func(context.Context, store.Reader) (uint32, error)
	allowUnreleased  bool
	allowReadOnly    bool
	reclaims         bool
	program          string
	log              *slog.Logger
	now              func() time.Time
	observer         func(Event)
	heartbeat        time.Duration
	batches          int
	wait             time.Duration
	ttl              time.Duration
	shared           bool // whether other processes write the store
	inTurn           bool // whether store is that of a turn
	backup           *backup.Options
	last             atomic.Pointer[identity]

	options   Options                                      // of New
	afterEach func(ctx context.Context, m Migration) error // called after each migration of a dry run; nil in others
}

// A Report says what a run did.
type Report struct {
	Schema  string
	From    uint32    // the version that the run found
	To      uint32    // the version that the run left
	Adopted bool      // whether the store had no version and From is what Options.Adopt said
	Applied []Applied // what this run applied, in order

	// ReadOnly says that the store is newer than the program, which may read it
	// but must not write it; only if Options.AllowReadOnly is set. If the store is
	// newer and ReadOnly is not set, the program may do both: the migrations that
	// the store went through say so.
	ReadOnly bool

	// Backup is the backup from before the first of Applied; nil if Options ask
	// for none, or there was nothing to save, or it is not known where it is.
	Backup *backup.Taken
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
		adopt: o.Adopt, allowUnreleased: o.AllowUnreleased, allowReadOnly: o.AllowReadOnly, reclaims: o.Reclaim,
		program: legible(o.Program), log: o.Logger, now: o.Now,
		heartbeat: o.Heartbeat, batches: o.Batches, wait: o.Wait, backup: o.Backup, options: o,
		ttl: defaultTTL,
	}
	if o.Observer != nil {
		r.observer = oneAtATime(o.Observer)
		r.options.Observer = r.observer // that of a turn or a dry run, too
	}
	if o.TurnTTL != 0 {
		r.ttl = max(o.TurnTTL, leastTTL)
	}
	if sharer, ok := store.As[store.Sharer](st); ok {
		r.shared = sharer.Shared()
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
	if r.heartbeat == 0 {
		r.heartbeat = 5 * time.Second
	}
	if err := checkSchema(r.schema); err != nil {
		return nil, err
	}
	if err := refuseGated(st); err != nil {
		return nil, err
	}
	if err := r.registry.Check(); err != nil {
		return nil, fmt.Errorf("the migrations of %s schema have faults; nothing was changed: %w", r.schema, err)
	}
	r.keys = newKeys(r.schema)
	return r, nil
}

// Up runs every pending migration. See [Runner.UpTo]. That there are none at all, as
// in a program that forgot to import their package, is logged as a warning.
func (r *Runner) Up(ctx context.Context) (Report, error) {
	return r.UpTo(ctx, r.registry.Latest())
}

// UpTo runs the pending migrations up to version target, each in one transaction
// or as many as it takes, synced before UpTo returns. A store that is at target already is
// left as it is, at the cost of three point reads.
//
// A store that is newer than the program and that the program may use all the same
// is left as it is, too: see [Report.ReadOnly].
//
// Of several processes that call UpTo at once on a store that they share, one works
// and the others wait for it, as Options.Wait says, and say in the log for whom. If it
// dies, or cannot reach the store for Options.TurnTTL, another one goes on; it writes
// nothing after that, and waits like the others, as often as that happens before ctx
// ends. Afterwards there is usually nothing left to do for the others.
// Such a store goes only as far as all of its nodes can follow (see package cluster);
// if that is not up to target, the error is a [*HeldBackError].
//
// The error matches [ErrRefused] if the store must not be touched by this
// program: a [*DowngradeError], [*TooOldError], [*UnreleasedError],
// [*CorruptError], [*RenamedError], [*UnderWayError] or [ErrUnversioned]. It is an [*UnknownTargetError] for a
// target beyond the registry, a [*BackupError] if there should be a backup first and
// it failed, a [*BusyError] if another process migrates the store and Options.Wait is
// over, and a [*MigrationError] if a migration failed,
// panicked or was cancelled; those before it stay applied, and the Report says
// which. Running again goes on where it stopped.
func (r *Runner) UpTo(ctx context.Context, target uint32) (Report, error) {
	if r.shared {
		return r.upInTurn(ctx, target)
	}
	found, report, err := r.look(ctx, target)
	if err == nil && !found.settled(target) {
		err = r.advance(ctx, found, target, &report)
	}
	return report, err
}

// look finds out what there is to do up to target, and begins the report on it.
func (r *Runner) look(ctx context.Context, target uint32) (found, Report, error) {
	found, err := r.inspect(ctx, target)
	report := Report{Schema: r.schema, From: found.version, To: found.version}
	if err != nil {
		r.logRefusal(ctx, err)
		return found, report, err
	}
	report.Adopted, report.ReadOnly = found.adopted, found.readOnly
	switch {
	case found.version > target:
		r.log.InfoContext(ctx, fmt.Sprintf("%s schema is at v%d, newer than this program's v%d, which may still %s it", r.schema, found.version, target, found.access()))
	case found.settled(target):
		r.logSettled(ctx, target)
	}
	return found, report, nil
}

// advance does what there is to do up to target, and says in report what it did.
func (r *Runner) advance(ctx context.Context, f found, target uint32, report *Report) (err error) {
	var plan Plan
	if f.version < target {
		if plan, err = r.plan(f, target); err != nil {
			r.logRefusal(ctx, err)
			return err
		}
		if report.Backup, err = r.backUp(ctx, f, plan); err != nil {
			return err
		}
	}
	if f.adopted {
		if err := r.recordAdopted(ctx, f.version); err != nil {
			return err
		}
	}
	if f.version == target {
		r.logSettled(ctx, target)
		return nil
	}
	return r.upgrade(ctx, f, plan, report)
}

func (r *Runner) logSettled(ctx context.Context, version uint32) {
	if version == 0 && r.registry.Latest() == 0 {
		r.log.WarnContext(ctx, r.schema+" schema has no migrations: a program imports the package that registers them")
	}
	if r.log.Enabled(ctx, slog.LevelDebug) {
		r.log.DebugContext(ctx, fmt.Sprintf("%s schema version v%d up-to-date", r.schema, version))
	}
}

// upgrade runs plan, which is not empty, and says in report what it did.
func (r *Runner) upgrade(ctx context.Context, f found, plan Plan, report *Report) error {
	if f.stored || f.adopted {
		r.log.InfoContext(ctx, fmt.Sprintf("%s schema upgrade detected: v%d -> v%d", r.schema, plan.From, plan.To))
	} else {
		r.log.InfoContext(ctx, fmt.Sprintf("%s schema version not found - initializing at v%d", r.schema, plan.To))
	}
	if f.progress != nil {
		r.log.InfoContext(ctx, fmt.Sprintf("resuming an interrupted migration: %v", f.progress))
	}
	overwrites, before := r.overwrites(ctx), r.size(ctx)
	u := &upgrade{Runner: r, meters: make(map[uint32]*meter, len(plan.Pending)), doubts: doubts{}}
	if err := u.all(ctx, plan, f.progress, report); err != nil {
		return err
	}
	if err := r.store.Sync(ctx); err != nil {
		return fmt.Errorf("%s schema is at v%d, but making it durable failed: %w", r.schema, report.To, err)
	}
	if overwrites {
		r.reclaim(ctx, before, report)
	}
	return nil
}

// recordAdopted makes version the store's, with a history that begins there. What
// is wrong with the version, inspect has seen.
func (r *Runner) recordAdopted(ctx context.Context, version uint32) error {
	m := r.registry.ladder().at(version)
	err := store.Update(ctx, r.store, func(txn store.Txn) error {
		if now, stored, err := r.readVersion(txn); err != nil || stored {
			if err == nil && now != version {
				err = fmt.Errorf("another program brought it to v%d meanwhile; run again", now)
			}
			return err
		}
		return r.record(txn, r.newApplied(m, Adopted))
	})
	if err == nil {
		err = r.store.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s schema: adopting the store at v%d: %w", r.schema, version, err)
	}
	r.log.WarnContext(ctx, fmt.Sprintf("%s schema version not found in a store with data - adopted it at v%d (%s)", r.schema, version, m.Name))
	return nil
}

func (r *Runner) logRefusal(ctx context.Context, err error) {
	if e, ok := errors.AsType[*DowngradeError](err); ok {
		r.log.ErrorContext(ctx, fmt.Sprintf("%s schema downgrade detected: v%d -> v%d (stored > current)", r.schema, e.Stored, e.Known))
	}
}

func (r *Runner) failed(m Migration, p *Progress, err error) error {
	return &MigrationError{Schema: r.schema, From: m.from(), Version: m.Version, Name: m.Name, Progress: p, Err: err}
}

// clock reads the clock as history keeps it.
func (r *Runner) clock() time.Time { return r.now().UTC().Truncate(time.Millisecond) }

// legible returns text as a record can hold it: the bytes of one that is no UTF-8 can
// be written, and not read again.
func legible(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// programName is what history says ran a migration.
func (r *Runner) programName() string {
	if r.program != "" {
		return r.program
	}
	return mainModule()
}

// mainModule is the main module and its version. Reading it takes longer than a
// small migration may.
var mainModule = sync.OnceValue(func() string {
	name := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		name = strings.TrimSpace(info.Main.Path + " " + info.Main.Version)
	}
	return cmp.Or(name, "unknown")
})
