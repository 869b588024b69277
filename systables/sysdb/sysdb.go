// Package sysdb opens the system tables: the start-up of a program that has them, as
// one call with one Close.
//
// # Start-up
//
// [Open] takes these steps, and logs each with the time it took:
//
//  1. open the store, if it was not lent
//  2. build what works on it: the migrations' runner, and the job manager with the
//     executors of package maintenance and the program's own
//  3. create or upgrade the system tables, or refuse the store
//  4. start the job manager, which first takes up the jobs that a crash interrupted
//  5. seed the default storage, if there is no row of that key
//  6. load the rows of system.tables
//
// If a step fails or panics, or ctx ends, those before it are undone in reverse, and the store
// can be opened again at once. What was migrated or seeded stays; the next Open goes on
// from there.
//
// A start with nothing to do writes nothing.
//
// # Migrations of the program's own
//
// Those of the system tables are in the default registry. A program that has a schema of
// its own beside them gives that a [migrate.Registry] of its own, and calls [migrate.Up]
// with it over [DB.Store].
package sysdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/internal/confirm"
	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
	"github.com/kvmigrate/kvmigrate/systables/jobs/maintenance"
)

// A Config says what to open, and how. It needs a Dir or a Store; all else may be zero.
type Config struct {
	// Dir is the Badger directory to open, as Badger says. It is created if need
	// be.
	Dir    string
	Badger badgerstore.Options

	// Store, if there is no Dir, is a store that the caller has open. Close leaves
	// it open.
	Store store.Store

	// Migrate is how the system tables are created and upgraded. A store that has
	// data and no version of theirs is refused unless it sets AllowUnversioned. Its
	// Schema is theirs if it is empty, and can be no other. AllowReadOnly has no
	// effect: who runs jobs writes.
	Migrate migrate.Options

	// Jobs is how the job manager works. A program that is the only one to have
	// the store should give it a NodeID: then it takes up at once what a crash
	// interrupted.
	Jobs jobs.Options

	// Maintenance says what the jobs of package maintenance may do.
	Maintenance maintenance.Options

	// Executors, if not nil, registers those of the program's own jobs; see
	// [jobs.Register].
	Executors func(*jobs.Manager)

	// DefaultStorage is seeded as a row of system.storages; its times are set to
	// that moment. The zero Storage is "local", the local file system.
	DefaultStorage systables.Storage

	// Logger receives the steps, and what the parts above say that have none of
	// their own. Nil means slog.Default.
	Logger *slog.Logger

	// Now is the clock of what is stored, also for Migrate and Jobs if they have
	// none. Several goroutines read it at the same time. Nil means time.Now.
	Now func() time.Time
}

// localStorage is what a program that names no default storage gets.
var localStorage = systables.Storage{
	ID: "local", Name: "Local Filesystem", Type: "filesystem",
	SharedTablesTemplate: "{namespace}/{tableName}/",
	UserTablesTemplate:   "{namespace}/{tableName}/{userId}/",
}

// complete returns c with its defaults in place.
func (c Config) complete() (Config, error) {
	var wrong *multierror.Error
	if (c.Dir == "") == (c.Store == nil) {
		wrong = multierror.Append(wrong, errors.New("want either a Dir or a Store"))
	}
	c.Migrate.Schema = cmp.Or(c.Migrate.Schema, migrations.Schema)
	if c.Migrate.Schema != migrations.Schema {
		wrong = multierror.Append(wrong, fmt.Errorf("schema %q is not that of the system tables, %q", c.Migrate.Schema, migrations.Schema))
	}
	c.Migrate.AllowReadOnly = false
	c.DefaultStorage = cmp.Or(c.DefaultStorage, localStorage)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	for _, log := range []**slog.Logger{&c.Badger.Logger, &c.Migrate.Logger, &c.Jobs.Logger} {
		*log = cmp.Or(*log, c.Logger)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, now := range []*func() time.Time{&c.Migrate.Now, &c.Jobs.Now} {
		if *now == nil {
			*now = c.Now
		}
	}
	return c, faults.Join(wrong)
}

// A DB is the system tables of a store, open, with the manager of their jobs. Its
// methods may be called concurrently.
type DB struct {
	st     store.Store
	opened *badgerstore.Store // st, unless that was lent
	runner *migrate.Runner
	jobs   *jobs.Manager
	report migrate.Report
	tables []systables.TableRow
}

// Open opens the system tables as c says; see the package's documentation. ctx is of
// Open alone; its values are those of the contexts of jobs.
//
// The error is a [*store.LockedError], which says who has the store, if it is open
// elsewhere, in this process or another. It matches [migrate.ErrRefused] if the store
// is none for this program, and else is one of [badgerstore.Open], [migrate.Runner.UpTo]
// or the tables. An executor that does not stop when it is told to keeps the store open
// beyond the failure of a later step; the error then says so.
func Open(ctx context.Context, c Config) (*DB, error) {
	c, err := c.complete()
	if err != nil {
		return nil, fmt.Errorf("open system tables: %w", err)
	}
	db, returned := &DB{}, false
	defer func() {
		if !returned { // but panicked or ended the goroutine, in what the program registers for example
			_ = db.abandon(ctx, errCutOff)
		}
	}()
	err = db.start(ctx, c)
	returned = true
	if err != nil {
		return nil, fmt.Errorf("open system tables: %w", db.abandon(ctx, err))
	}
	return db, nil
}

// start takes the steps, as far as one that fails.
func (db *DB) start(ctx context.Context, c Config) error {
	for _, step := range []struct {
		name, done string // name is "" if its errors say it themselves
		do         func(context.Context, Config) (slog.Attr, error)
	}{
		{"open store", "store opened", db.openStore},
		{"build providers", "providers built", db.build},
		{"initialize system tables", "system tables initialized", db.initialize},
		{"", "job manager started", db.startJobs},
		{"seed default storage", "default storage is there", db.seed},
		{"load tables", "tables loaded", db.load},
	} {
		begun := time.Now()
		attr, err := step.do(ctx, c)
		switch {
		case err != nil && step.name != "":
			return fmt.Errorf("%s: %w", step.name, err)
		case err != nil:
			return err
		}
		c.Logger.LogAttrs(ctx, slog.LevelInfo, step.done, attr, slog.Duration("duration", time.Since(begun)))
	}
	return nil
}

// errCutOff ends what was started before a panic, or before the goroutine was ended.
var errCutOff = errors.New("a step of the start-up did not return")

// abandon undoes what was started before err, and returns err with what more went wrong.
func (db *DB) abandon(ctx context.Context, err error) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	cancel(err) // jobs have no time left
	if undone := db.Close(ctx); undone != nil {
		return faults.Join(multierror.Append(err, undone))
	}
	return err
}

func (db *DB) openStore(ctx context.Context, c Config) (slog.Attr, error) {
	if c.Store != nil {
		db.st = c.Store
		return slog.Bool("lent", true), nil
	}
	st, err := badgerstore.Open(ctx, c.Dir, c.Badger)
	if err != nil {
		return slog.Attr{}, err
	}
	db.st, db.opened = st, st
	return slog.String("dir", c.Dir), nil
}

func (db *DB) build(_ context.Context, c Config) (_ slog.Attr, err error) {
	if db.runner, err = migrate.New(db.st, c.Migrate); err != nil {
		return slog.Attr{}, err
	}
	db.jobs = jobs.New(db.st, c.Jobs)
	maintenance.Register(db.jobs, c.Maintenance)
	if c.Executors != nil {
		c.Executors(db.jobs)
	}
	return slog.Int("tables", len(systables.Definitions())), nil
}

func (db *DB) initialize(ctx context.Context, _ Config) (_ slog.Attr, err error) {
	db.report, err = db.runner.Up(ctx)
	return slog.Any("version", db.report.To), err
}

func (db *DB) startJobs(ctx context.Context, _ Config) (slog.Attr, error) {
	if err := db.jobs.Start(ctx); err != nil {
		return slog.Attr{}, err
	}
	return slog.String("node", db.jobs.NodeID()), nil
}

func (db *DB) seed(ctx context.Context, c Config) (slog.Attr, error) {
	row := c.DefaultStorage
	row.CreatedAt = systables.At(c.Now())
	row.UpdatedAt = row.CreatedAt
	seeded := false
	err := confirm.Update(ctx, db.st, func(tx store.Txn) error {
		_, err := systables.Storages.Get(tx, row.ID)
		seeded = errors.Is(err, systables.ErrNotFound)
		if seeded {
			return systables.Storages.Insert(tx, row)
		}
		return err
	})
	return slog.Group("", slog.String("storage", string(row.ID)), slog.Bool("seeded", seeded)), err
}

func (db *DB) load(ctx context.Context, _ Config) (slog.Attr, error) {
	err := db.st.View(ctx, func(s store.Reader) error {
		for row, err := range systables.Tables.All(s, "") {
			if err != nil {
				return err
			}
			db.tables = append(db.tables, row)
		}
		return nil
	})
	return slog.Int("tables", len(db.tables)), err
}

// Store returns the store. The caller must not close it.
func (db *DB) Store() store.Store { return db.st }

// Jobs returns the job manager, which is running. The caller must not shut it down.
func (db *DB) Jobs() *jobs.Manager { return db.jobs }

// Report says what Open did to the system tables.
func (db *DB) Report() migrate.Report { return db.report }

// Tables returns the rows of system.tables that Open found, in the order of their keys.
// The caller owns the slice. What changed since is in [systables.Tables].
func (db *DB) Tables() []systables.TableRow { return slices.Clone(db.tables) }

// Close shuts the job manager down, as [jobs.Manager.Shutdown] does: jobs that run may
// end until ctx does. Then it closes the store, unless that was lent. If jobs do not
// stop, the error says so, the store stays open for them, and Close can be called again.
// Closing what is closed is no error.
func (db *DB) Close(ctx context.Context) (err error) {
	if db.jobs != nil { // nil after an Open that did not get so far
		err = db.jobs.Shutdown(ctx)
	}
	if err == nil && db.opened != nil {
		err = db.opened.Close()
	}
	if err != nil {
		return fmt.Errorf("close system tables: %w", err)
	}
	return nil
}
