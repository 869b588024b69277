package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// ladder returns n small migrations.
func ladder(n int) []migrate.Migration {
	migrations := make([]migrate.Migration, 0, n)
	for version := 1; version <= n; version++ {
		e := smallEntry(version)
		migrations = append(migrations, migrate.Migration{
			Version: uint32(version), Name: fmt.Sprintf("migration_%04d", version), Description: "setting one key",
			Up: func(_ context.Context, tx *migrate.Tx) error { return tx.Set(e) },
		})
	}
	return migrations
}

// smallEntry is all that a small migration writes.
func smallEntry(version int) store.Entry {
	return store.Entry{Key: fmt.Appendf(nil, "data/%04d", version), Value: []byte("what a small migration writes")}
}

// options are those of a schema with migrations.
func options(schema string, migrations []migrate.Migration) migrate.Options {
	return migrate.Options{
		Schema: schema, Registry: migrate.NewRegistry(migrations...), AllowUnversioned: true,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func historyKey(schema string, version int) []byte {
	return fmt.Appendf(nil, "%s:schema_history:%010d", schema, version)
}

// install compares small migrations in a new store, each one synced transaction,
// to the same transactions by hand.
func install(ctx context.Context, b *bench) error {
	record, err := b.historyRecord(ctx)
	if err != nil {
		return err
	}
	for _, size := range []struct{ migrations, rounds int }{{7, b.pick(61, 11)}, {100, b.pick(31, 5)}, {1000, b.pick(9, 3)}} {
		migrations := ladder(size.migrations)
		byHand := func(st *badgerstore.Store) error { return installByHand(st.DB(), size.migrations, record) }
		times, err := alternate(size.rounds, b.inNewStore(ctx, "by hand", byHand), b.inNewStore(ctx, "twin", byHand),
			b.inNewStore(ctx, "kvmigrate", func(st *badgerstore.Store) error {
				_, err := migrate.Up(ctx, st, options("bench", migrations))
				return err
			}))
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("%d migrations, over the same by hand", size.migrations), ratios(times["kvmigrate"], times["by hand"]), atMost(1.05))
		b.add(fmt.Sprintf("%d by hand, over themselves", size.migrations), ratios(times["twin"], times["by hand"]), unbound)
		b.add(fmt.Sprintf("%d by hand, each in ms", size.migrations),
			each(times["by hand"], func(s float64) float64 { return s * 1000 / float64(size.migrations) }), unbound)
	}
	return nil
}

// inNewStore returns a contestant that does do in a new store of its own. Opening
// and closing that do not count.
func (b *bench) inNewStore(ctx context.Context, name string, do func(*badgerstore.Store) error) contestant[float64] {
	return contestant[float64]{name, func() (seconds float64, err error) {
		dir := filepath.Join(b.dir, "install")
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		err = withStore(ctx, dir, func(st *badgerstore.Store) error {
			start := time.Now()
			err := do(st)
			seconds = time.Since(start).Seconds()
			return err
		})
		return seconds, err
	}}
}

// historyRecord returns a history record, for others to write as much.
func (b *bench) historyRecord(ctx context.Context) (record []byte, err error) {
	_, err = b.inNewStore(ctx, "record", func(st *badgerstore.Store) error {
		if _, err := migrate.Up(ctx, st, options("bench", ladder(1))); err != nil {
			return err
		}
		return st.View(ctx, func(s store.Reader) error {
			e, err := s.Get(historyKey("bench", 1))
			record = e.Value
			return err
		})
	}).run()
	return record, err
}

// installByHand is the least that a runner has to do: read the version, compare,
// and write each migration with its record and its version in one transaction.
func installByHand(db *badger.DB, migrations int, record []byte) error {
	versionKey := []byte("bench:schema_version")
	err := db.View(func(txn *badger.Txn) error {
		_, err := txn.Get(versionKey)
		return err
	})
	if !errors.Is(err, badger.ErrKeyNotFound) {
		return fmt.Errorf("the version of a new store: %w", err)
	}
	for version := 1; version <= migrations; version++ {
		e := smallEntry(version)
		err := db.Update(func(txn *badger.Txn) error {
			if err := txn.Set(e.Key, e.Value); err != nil {
				return err
			}
			if err := txn.Set(historyKey("bench", version), record); err != nil {
				return err
			}
			return txn.Set(versionKey, binary.BigEndian.AppendUint32(nil, uint32(version)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
