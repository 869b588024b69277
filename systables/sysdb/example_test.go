package sysdb_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
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
