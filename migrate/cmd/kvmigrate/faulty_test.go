package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// faulty is kvmigrate with one more migration, over a store that may have a fault as
// well; the environment's FAULT says which. Every error of docs/errors.md that takes
// a faulty program to be seen has one here.
func faulty() {
	fault := os.Getenv("FAULT")
	last := migrate.Migration{Version: migrate.DefaultRegistry().Latest() + 1, Name: "faulty", Up: ups[fault]}
	ladder := append(migrate.DefaultRegistry().Migrations(), last)
	switch fault {
	case "check":
		ladder[len(ladder)-1].Check = func(context.Context, store.Reader) error { return errors.New("12 notes have no text") }
	case "unreleased":
		ladder[len(ladder)-1].Unreleased = true
	case "baseline":
		last.Baseline = &migrate.Baseline{Fingerprint: "0123456789abcdef", Release: "kvmigrate 1.6"}
		ladder = []migrate.Migration{last}
	case "gap":
		ladder[len(ladder)-1].Version++
	}
	cfg := cli.Config{Options: migrate.Options{Registry: migrate.NewRegistry(ladder...)}}
	if open := opens[fault]; open != nil {
		cfg.Open = func(ctx context.Context, dir string, o cli.OpenOptions) (store.Store, error) {
			st, err := open(ctx, dir, badgerstore.Options{MustExist: o.MustExist, Logger: o.Logger})
			return st, err
		}
	}
	os.Exit(cli.Run(context.Background(), cfg, os.Args[1:], os.Stdout, os.Stderr))
}

var kept *migrate.Tx // what a migration must not do

// ups are the migrations that fail, by their faults. Those of others do nothing much.
var ups = map[string]migrate.UpFunc{
	"": set("notes/1", nil), "check": set("notes/1", nil), "unreleased": set("notes/1", nil), "baseline": set("notes/1", nil),
	"gap": set("notes/1", nil), "unconfirmed": set("notes/1", nil), "read_only": set("notes/1", nil), "unreadable": set("notes/1", nil),
	"panic":     func(context.Context, *migrate.Tx) error { panic("index out of range [3] with length 3") },
	"empty_key": set("", nil),
	"value":     set("notes/1", make([]byte, 17<<20)),
	"torn":      set("notes/1", make([]byte, 64<<10)),
	"reserved":  set("system:schema_version", nil),
	"missing": func(_ context.Context, tx *migrate.Tx) error {
		_, err := tx.Get([]byte("notes/1"))
		return err
	},
	"kept": func(_ context.Context, tx *migrate.Tx) error {
		old := kept
		if kept = tx; old == nil {
			tx.Continue([]byte("once more"))
			return nil
		}
		return set("notes/1", nil)(context.Background(), old)
	},
	"huge": func(ctx context.Context, tx *migrate.Tx) error {
		for i := range 100_000 {
			if err := set(fmt.Sprintf("notes/%06d", i), bytes.Repeat([]byte("x"), 1000))(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	},
	"ahead": migrate.Each([]byte("notes/"), func(ctx context.Context, tx *migrate.Tx, e store.Entry) error {
		return set(string(e.Key)+"/copy", e.Value)(ctx, tx)
	}),
	"half": migrate.Phases(
		migrate.Each([]byte("notes/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error { return tx.Set(e) }),
		func(context.Context, *migrate.Tx) error { return errors.New("the second half is not written yet") },
	),
}

// opens open stores that fail, by their faults.
var opens = map[string]func(context.Context, string, badgerstore.Options) (store.Store, error){
	"value": func(ctx context.Context, dir string, o badgerstore.Options) (store.Store, error) {
		o.Configure = badgerstore.Small
		return badgerstore.Open(ctx, dir, o)
	},
	"torn": func(_ context.Context, dir string, _ badgerstore.Options) (store.Store, error) {
		db, err := badger.Open(badgerstore.Small(badger.DefaultOptions(dir).WithLogger(nil)))
		if err != nil {
			return nil, err
		}
		return badgerstore.New(db) // the process ends before db is to be closed
	},
	"read_only": func(ctx context.Context, dir string, o badgerstore.Options) (store.Store, error) {
		o.ReadOnly = true
		return badgerstore.Open(ctx, dir, o)
	},
	"unconfirmed": func(ctx context.Context, dir string, o badgerstore.Options) (store.Store, error) {
		st, err := badgerstore.Open(ctx, dir, o)
		if err != nil {
			return nil, err
		}
		return storetest.Unconfirm(st, storetest.Lost, func(int) bool { return true }), nil
	},
	"unreadable": func(ctx context.Context, dir string, o badgerstore.Options) (store.Store, error) {
		st, err := badgerstore.Open(ctx, dir, o)
		if err != nil {
			return nil, err
		}
		return storetest.Fail(st, 1, storetest.Stop), nil
	},
}

func set(key string, value []byte) migrate.UpFunc {
	return func(_ context.Context, tx *migrate.Tx) error {
		return tx.Set(store.Entry{Key: []byte(key), Value: value})
	}
}
