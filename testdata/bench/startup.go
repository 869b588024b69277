package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// long is how many migrations a schema with a long history has.
const long = 1000

// startup compares a start with nothing pending to the same reads of Badger alone.
// Two schemas share the store, so that nothing but the length of their histories
// differs between them.
func startup(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "startup")
	var fresh, reopened starts
	err := withStore(ctx, dir, func(st *badgerstore.Store) (err error) {
		for _, o := range []migrate.Options{options("one", ladder(1)), options("many", ladder(long))} {
			if _, err := migrate.Up(ctx, st, o); err != nil {
				return err
			}
		}
		fresh, err = b.measureStarts(ctx, st)
		return err
	})
	if err != nil {
		return err
	}
	// As a program starts: what was written before is in a table.
	err = withStore(ctx, dir, func(st *badgerstore.Store) (err error) {
		if len(st.DB().Tables()) == 0 {
			return errors.New("the reopened store has no table")
		}
		reopened, err = b.measureStarts(ctx, st)
		return err
	})
	if err != nil {
		return err
	}
	b.add("nothing pending, over three reads", reopened.one, atMost(1.1))
	b.add("of 1,000 migrations, over three reads", reopened.many, atMost(1.1))
	b.add("of 1,000 migrations over 1, each over its reads", ratios(reopened.many, reopened.one), atMost(1.05))
	b.add("three reads, over themselves", reopened.twin, unbound)
	b.add("allocations beyond three reads", reopened.allocs, atMost(2))
	b.add("nothing pending, over three reads in the memtable", fresh.one, atMost(1.1))
	if err := b.openings(ctx); err != nil {
		return err
	}
	return b.building()
}

// openings compares opening a store, the check and closing it to Badger's own opening
// and closing, both with the options that make that quick.
func (b *bench) openings(ctx context.Context) error {
	dir := filepath.Join(b.dir, "openings")
	small, migrations := badgerstore.Options{Configure: badgerstore.Small}, options("many", ladder(long))
	start := func() (err error) {
		st, err := badgerstore.Open(ctx, dir, small)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		_, err = migrate.Up(ctx, st, migrations)
		return err
	}
	if err := start(); err != nil {
		return err
	}
	own := func() error {
		db, err := badger.Open(badgerstore.Small(badger.DefaultOptions(dir)).WithSyncWrites(true).
			WithMetricsEnabled(false).WithLogger(nil))
		if err != nil {
			return err
		}
		return db.Close()
	}
	times, err := alternate(b.pick(101, 11), timed("kvmigrate", start), timed("Badger", own), timed("twin", own))
	if err != nil {
		return err
	}
	b.add("open, check of 1,000 migrations, close, over Badger's own", ratios(times["kvmigrate"], times["Badger"]), atMost(1.02))
	b.add("Badger's own, over itself", ratios(times["twin"], times["Badger"]), unbound)
	b.add("Badger's own, in ms", each(times["Badger"], func(s float64) float64 { return s * 1e3 }), unbound)
	return nil
}

// starts are times over those of the three reads.
type starts struct {
	one, many []float64 // with as many migrations
	twin      []float64 // of the reads themselves
	allocs    []float64 // beyond theirs
}

// measureStarts measures starts in st.
func (b *bench) measureStarts(ctx context.Context, st *badgerstore.Store) (starts, error) {
	one, err := up(ctx, st, options("one", ladder(1)))
	if err != nil {
		return starts{}, err
	}
	many, err := up(ctx, st, options("many", ladder(long)))
	if err != nil {
		return starts{}, err
	}
	readOne, readMany := threeReads(st.DB(), "one", 1), threeReads(st.DB(), "many", long)
	times, err := alternate(b.pick(201, 21), calls("one", one), calls("read one", readOne), calls("twin", readOne),
		calls("read many", readMany), calls("many", many))
	if err != nil {
		return starts{}, err
	}
	var faults error
	allocs := func(call func() error) float64 {
		return testing.AllocsPerRun(1000, func() { faults = errors.Join(faults, call()) })
	}
	return starts{
		one:    ratios(times["one"], times["read one"]),
		many:   ratios(times["many"], times["read many"]),
		twin:   ratios(times["twin"], times["read one"]),
		allocs: []float64{allocs(one) - allocs(readOne)},
	}, faults
}

// up returns Up of a runner that is there already, as a call without a report.
func up(ctx context.Context, st *badgerstore.Store, o migrate.Options) (func() error, error) {
	r, err := migrate.New(st, o)
	return func() error {
		_, err := r.Up(ctx)
		return err
	}, err
}

// calls returns a contestant that is called in chunks long enough for the clock.
func calls(name string, call func() error) contestant[float64] {
	const chunk = 500
	return contestant[float64]{name, func() (float64, error) {
		start := time.Now()
		for range chunk {
			if err := call(); err != nil {
				return 0, err
			}
		}
		return time.Since(start).Seconds() / chunk, nil
	}}
}

// threeReads is the least that a start has to read, by hand: the version, its
// history record, and that no migration is under way.
func threeReads(db *badger.DB, schema string, version int) func() error {
	keys := [][]byte{[]byte(schema + ":schema_version"), historyKey(schema, version)}
	progress := []byte(schema + ":schema_progress")
	return func() error {
		return db.View(func(txn *badger.Txn) error {
			for _, key := range keys {
				item, err := txn.Get(key)
				if err != nil {
					return err
				}
				if _, err := item.ValueCopy(nil); err != nil {
					return err
				}
			}
			_, err := txn.Get(progress)
			if errors.Is(err, badger.ErrKeyNotFound) {
				return nil
			}
			return fmt.Errorf("the progress of a migration, where there is none: %w", err)
		})
	}
}

// building measures how long it takes to make a runner of registered migrations,
// which checks all of them.
func (b *bench) building() error {
	const chunk = 100
	migrations := ladder(long)
	var times []float64
	for range b.pick(21, 5) {
		registered := make([]migrate.Options, chunk)
		for i := range registered {
			registered[i] = options("many", migrations)
		}
		start := time.Now()
		for _, o := range registered {
			if _, err := migrate.New(nil, o); err != nil {
				return err
			}
		}
		times = append(times, time.Since(start).Seconds()/chunk)
	}
	b.add("building a runner of 1,000 migrations, in µs", each(times, func(s float64) float64 { return s * 1e6 }), below(50))
	return nil
}
