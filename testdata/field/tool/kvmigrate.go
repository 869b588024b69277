package tool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/frozen"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

func init() {
	const module = "github.com/kvmigrate/kvmigrate"
	Register(Tool{
		Name: "kvmigrate", Engine: "badger", Module: module,
		About:   "kvmigrate over `badgerstore.Open`, which waits for the store as long as the others wait for a lock; `migrate.Rewrite` for many rows",
		Open:    openKvmigrate(badgerstore.Options{}),
		Restore: restoreKvmigrate,

		CheckEdited: checkEdited,
		Source:      "tool/kvmigrate.go",
	})
	Register(Tool{
		Name: "kvmigrate-for-migration", Engine: "badger", Module: module,
		About:   "the same with the options that `kvmigrate up` opens a store with",
		Open:    openKvmigrate(badgerstore.Options{}.ForMigration()),
		Variant: true,
		Only:    []string{"Rewrite", "Interrupted"},
		Source:  "tool/kvmigrate.go",
	})
}

// kvmigrate is a store of this repository.
type kvmigrate struct{ st *badgerstore.Store }

func openKvmigrate(o badgerstore.Options) func(context.Context, string) (Database, error) {
	o.Wait = busyMillis * time.Millisecond // as the others wait for a lock
	o.Logger = slog.New(slog.DiscardHandler)
	return func(ctx context.Context, dir string) (Database, error) {
		st, err := badgerstore.Open(ctx, dir, o)
		if err != nil {
			return nil, err
		}
		return kvmigrate{st}, nil
	}
}

func (k kvmigrate) Close() error { return k.st.Close() }

// migrations returns those of s, as init functions register them.
func migrations(s Schema) []migrate.Migration {
	list := make([]migrate.Migration, 0, s.latest())
	for v := 1; v <= s.Small; v++ {
		key, value := s.small(v)
		e := store.Entry{Key: []byte(key), Value: []byte(value)}
		list = append(list, migrate.Migration{
			Version: uint32(v), Name: fmt.Sprintf("small_%04d", v),
			Up: func(_ context.Context, tx *migrate.Tx) error { return tx.Set(e) },
		})
	}
	if s.Rewrite {
		list = append(list, migrate.Migration{
			Version: uint32(s.latest()), Name: "change_accounts", Up: migrate.Rewrite(accountPrefix, s.change()),
		})
	}
	return list
}

// runner makes a runner of a new registry, which it checks as a program's first one is.
func (k kvmigrate) runner(list []migrate.Migration) (*migrate.Runner, error) {
	return migrate.New(k.st, migrate.Options{
		Registry: migrate.NewRegistry(list...), AllowUnversioned: true, Logger: slog.New(slog.DiscardHandler),
		Program: "the program",
	})
}

func (k kvmigrate) Start(s Schema) func(context.Context) error {
	list := migrations(s)
	return func(ctx context.Context) error {
		r, err := k.runner(list)
		if err != nil {
			return err
		}
		_, err = r.Up(ctx)
		return err
	}
}

// checkEdited freezes a released migration, edits it, and lets the check that a
// program has among its tests look at it.
func checkEdited(dir string) (found, err error) {
	dir = filepath.Join(dir, "migrations")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	const source = "package migrations\n\nconst value0001 = \"before\"\n"
	write := func(name, text string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644) }
	if err := errors.Join(write("go.mod", "module example.com/edited\n"), write("v0001_small.go", source)); err != nil {
		return nil, err
	}
	if err := frozen.Update(dir); err != nil {
		return nil, err
	}
	if err := write("v0001_small.go", strings.Replace(source, "before", "after", 1)); err != nil {
		return nil, err
	}
	return frozen.Check(dir), nil
}

func (k kvmigrate) DryRun(ctx context.Context, s Schema) (err error) {
	r, err := k.runner(migrations(s))
	if err != nil {
		return err
	}
	scratch, err := badgerstore.OpenTemp(ctx, "", k.st.Limits())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	_, err = r.DryRun(ctx, uint32(s.latest()), migrate.DryRunOptions{Scratch: scratch})
	return err
}

func (k kvmigrate) Fill(_ context.Context, n int) error { return fillBadger(k.st.DB(), n) }

func (k kvmigrate) Accounts(_ context.Context, visit func([]byte) error) error {
	return scanBadger(k.st.DB(), accountPrefix, visit)
}

func (k kvmigrate) Entries(context.Context) (int, string, error) {
	return entriesOfBadger(k.st.DB())
}

// State reads the records themselves: a runner would refuse some stores.
func (k kvmigrate) State(ctx context.Context) (state string, err error) {
	err = k.st.View(ctx, func(r store.Reader) error {
		var version uint32
		e, err := r.Get([]byte("system:schema_version"))
		switch {
		case err == nil:
			version = binary.BigEndian.Uint32(e.Value)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		state = fmt.Sprintf("v%d", version)
		_, err = r.Get([]byte("system:schema_progress"))
		switch {
		case err == nil:
			state += fmt.Sprintf(", v%d under way", version+1)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		return nil
	})
	return state, err
}

// Backup keeps the backup in a directory, where it gets a name of its own.
func (k kvmigrate) Backup(ctx context.Context, file string) error {
	r, err := k.runner(nil)
	if err != nil {
		return err
	}
	taken, err := r.Backup(ctx, backup.Options{Dir: filepath.Dir(file)})
	if err != nil {
		return err
	}
	return os.Rename(taken.Path, file)
}

func restoreKvmigrate(ctx context.Context, file, dir string) error {
	o := backup.RestoreOptions{Uncompared: true} // until it is open again
	_, err := badgerstore.Replace(ctx, dir, badgerstore.Options{Logger: slog.New(slog.DiscardHandler)},
		func(ctx context.Context, st *badgerstore.Store) error {
			_, err := backup.Restore(ctx, file, st, o)
			return err
		},
		func(ctx context.Context, st *badgerstore.Store) error { return backup.Compare(ctx, file, st, o) })
	return err
}
