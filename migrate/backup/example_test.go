package backup_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A program goes back to the backup from before an upgrade. The store must be closed.
func ExampleRestore() {
	dir, file, remove := upgraded()
	defer remove()

	ctx := context.Background()
	o := backup.RestoreOptions{Schema: "notes", Uncompared: true} // until it is open again
	old, err := badgerstore.Replace(ctx, dir, badgerstore.Options{Configure: badgerstore.Small},
		func(ctx context.Context, st *badgerstore.Store) error {
			_, err := backup.Restore(ctx, file, st, o)
			return err
		},
		func(ctx context.Context, st *badgerstore.Store) error {
			return backup.Compare(ctx, file, st, o)
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("restored; the old files are kept:", old != "")

	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{MustExist: true, Configure: badgerstore.Small})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = st.Close() }()
	err = st.View(ctx, func(r store.Reader) error {
		e, err := r.Get([]byte("note"))
		fmt.Printf("%s\n", e.Value)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// restored; the old files are kept: true
	// text of v1
}

// upgraded returns the directory of a store at v2 and its backup of v1.
func upgraded() (dir, file string, remove func()) {
	base, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	dir = filepath.Join(base, "store")
	ctx := context.Background()
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		panic(err)
	}
	write := func(version uint32) migrate.Migration {
		return migrate.Migration{Version: version, Name: fmt.Sprintf("write_%d", version), Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("note"), Value: fmt.Appendf(nil, "text of v%d", version)})
		}}
	}
	for _, ms := range [][]migrate.Migration{{write(1)}, {write(1), write(2)}} {
		report, err := migrate.Up(ctx, st, migrate.Options{
			Schema: "notes", Registry: migrate.NewRegistry(ms...), Logger: slog.New(slog.DiscardHandler),
			Backup: &backup.Options{Dir: dir + ".backups"},
		})
		if err != nil {
			panic(err)
		}
		if report.Backup != nil {
			file = report.Backup.Path
		}
	}
	if err := st.Close(); err != nil {
		panic(err)
	}
	return dir, file, func() { _ = os.RemoveAll(base) }
}
