package sysdb_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
	"github.com/kvmigrate/kvmigrate/systables/sysdb"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sysdb-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	db, err := sysdb.Open(ctx, sysdb.Config{
		Dir:    filepath.Join(dir, "db"),
		Jobs:   jobs.Options{NodeID: "node-1"},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err) // a *store.LockedError says who has it
	}
	defer func() {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // for jobs that run
		defer cancel()
		if err := db.Close(ctx); err != nil {
			panic(err)
		}
	}()

	err = db.Store().View(ctx, func(s store.Reader) error {
		storage, err := systables.Storages.Get(s, "local")
		fmt.Println(storage.Name)
		return err
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// Local Filesystem
}

// A program's own schema, beside the system tables in the same store.
func Example_ownSchema() {
	ctx := context.Background()
	st, err := badgerstore.OpenInMemory(ctx)
	if err != nil {
		panic(err)
	}
	defer func() { _ = st.Close() }()
	quiet := slog.New(slog.DiscardHandler)
	db, err := sysdb.Open(ctx, sysdb.Config{Store: st, Logger: quiet})
	if err != nil {
		panic(err)
	}
	defer func() { _ = db.Close(ctx) }()

	var registry migrate.Registry // of the package of the program's migrations
	registry.Register(migrate.Migration{
		Version: 1, Name: "first_note",
		Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("notes/1"), Value: []byte("Hello")})
		},
	})
	report, err := migrate.Up(ctx, db.Store(), migrate.Options{
		Registry: &registry, Schema: "notes",
		Logger: quiet,
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s v%d, system v%d\n", report.Schema, report.To, db.Report().To)
	// Output:
	// notes v1, system v6
}
