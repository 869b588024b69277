package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A program that knows v2 of its schema and can still work with v1, as one node of many.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	st, err := badgerstore.OpenInMemory(ctx) // in a cluster: etcdstore.Open
	if err != nil {
		panic(err)
	}
	defer st.Close()
	if err := runNode(ctx, st); err != nil {
		panic(err)
	}
	// Output: serving at v2: {"text":"hello","words":1}
}

// runNode upgrades the store as far as the other nodes let it, joins them, and serves.
func runNode(ctx context.Context, st store.Store) error {
	const program = "notes v2.0.0"
	options := migrate.Options{Registry: notes, Program: program, Logger: slog.New(slog.DiscardHandler)}
	_, err := migrate.Up(ctx, st, options)
	held := errors.Is(err, migrate.ErrHeldBack)
	if err != nil && !held {
		return err
	}
	member, err := cluster.Join(ctx, st, cluster.Options{Program: program, Min: 1, Max: 2})
	if err != nil {
		return err
	}
	defer member.Leave(context.WithoutCancel(ctx))

	var following sync.WaitGroup
	defer following.Wait() // it gives its turn to migrate back
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // the process is of no use once the version is out of its range
		select {
		case <-member.Done():
		case <-ctx.Done():
		}
		stop()
	}()
	if held {
		following.Go(func() { follow(ctx, st, options) })
	}
	return serve(ctx, member.Store())
}

// follow upgrades the store when the nodes that hold it back are gone.
func follow(ctx context.Context, st store.Store, options migrate.Options) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
		}
		if _, err := migrate.Up(ctx, st, options); err == nil || errors.Is(err, migrate.ErrRefused) {
			return
		}
	}
}

// serve stands for what the program is there for. Each transaction says which version
// of the schema it has.
func serve(ctx context.Context, st store.Store) error {
	return store.Update(ctx, st, func(txn store.Txn) error {
		version, _ := cluster.Version(txn)
		note := map[string]any{"text": "hello"}
		if version >= 2 {
			note["words"] = 1
		}
		data, err := json.Marshal(note)
		if err != nil {
			return err
		}
		fmt.Printf("serving at v%d: %s\n", version, data)
		return txn.Set(store.Entry{Key: []byte("notes/1"), Value: data})
	})
}

var notes = migrate.NewRegistry(
	migrate.Migration{Version: 1, Name: "notes", Up: func(context.Context, *migrate.Tx) error { return nil }},
	migrate.Migration{Version: 2, Name: "count_words", Up: migrate.Rewrite([]byte("notes/"), func(note []byte) ([]byte, error) {
		return note, nil // the example has no notes from before
	})},
)
