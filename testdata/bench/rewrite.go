package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A way changes every row of the store in dir. It passes what counts for the
// time to timed: the change, which returns the number of rows.
type way func(ctx context.Context, dir string, timed func(change func() (int, error)) error) error

var ways = map[string]way{
	"naive":            withDefaults(naive),
	"kvmigrate":        opened(badgerstore.Options{}),
	"kvmigrate, lent":  withDefaults(lent),
	"kvmigrate, tuned": opened(badgerstore.Options{Configure: badgerstore.ForMigration}),

	"kvmigrate, lent and tuned": func(ctx context.Context, dir string, timed func(func() (int, error)) error) error {
		return withOptions(ctx, badgerstore.ForMigration(badger.DefaultOptions(dir)), timed, lent)
	},
}

// judged are the ways that are held to a bound.
var judged = []string{"kvmigrate", "kvmigrate, tuned", "kvmigrate, lent", "kvmigrate, lent and tuned"}

// rewrite compares the ways, on a machine that has nothing else to do and on one
// that has no idle core.
func rewrite(ctx context.Context, b *bench) error {
	rows := b.pick(1_000_000, 50_000)
	turn := func(name, what string) contestant[result] {
		return contestant[result]{name, func() (result, error) { return b.runOverRows(ctx, what, rows) }}
	}
	turns := []contestant[result]{turn("naive", "naive")}
	for _, name := range judged {
		turns = append(turns, turn(name, name))
	}
	idle, err := alternate(b.pick(5, 2), append(slices.Clip(turns), turn("twin", "naive"))...)
	if err != nil {
		return err
	}
	naive := idle["naive"]
	b.add("naive, rows a second", each(naive, func(r result) float64 { return float64(rows) / r.Seconds }), unbound)
	b.add("naive, peak RSS in MiB", each(naive, peak), unbound)
	b.add("speed of naive over itself", ratios(each(naive, seconds), each(idle["twin"], seconds)), unbound)
	for _, name := range judged {
		b.add("speed of "+name+", over naive", ratios(each(naive, seconds), each(idle[name], seconds)), atLeast(1.8))
	}
	for _, name := range judged {
		b.add("peak RSS of "+name+", over naive", ratios(each(idle[name], peak), each(naive, peak)), below(1))
	}

	return whileBurning(ctx, func() error {
		busy, err := alternate(b.pick(3, 1), turns...)
		if err != nil {
			return err
		}
		for _, name := range judged {
			b.add("no idle core: speed of "+name+", over naive",
				ratios(each(busy["naive"], seconds), each(busy[name], seconds)), atLeast(1))
		}
		return nil
	})
}

// growth compares migrations of different sizes.
func growth(ctx context.Context, b *bench) error {
	large := b.pick(1_000_000, 100_000)
	small, huge := large/10, large*4
	for _, what := range judged {
		sizes := []int{small, large}
		rounds := b.pick(5, 2)
		if b.soak {
			sizes, rounds = append(sizes, huge), b.pick(3, 1)
		}
		var turns []contestant[result]
		for _, rows := range sizes {
			turns = append(turns, contestant[result]{fmt.Sprint(rows), func() (result, error) { return b.runOverRows(ctx, what, rows) }})
		}
		measured, err := alternate(rounds, turns...)
		if err != nil {
			return err
		}
		over := func(large, small int, get func(result) float64) []float64 {
			return ratios(each(measured[fmt.Sprint(large)], get), each(measured[fmt.Sprint(small)], get))
		}
		b.add(fmt.Sprintf("%s: time of %d rows over %d", what, large, small), over(large, small, seconds), atMost(12))
		if b.soak {
			b.add(fmt.Sprintf("%s: peak RSS of %d rows over %d", what, huge, large), over(huge, large, peak), atMost(1.2))
			b.add(what+": the same without mapped files", over(huge, large, own), atMost(1.2))
		}
	}
	return nil
}

// withDefaults is the way of a program that opens the database as Badger
// proposes.
func withDefaults(change func(ctx context.Context, db *badger.DB) (int, error)) way {
	return func(ctx context.Context, dir string, timed func(func() (int, error)) error) error {
		return withOptions(ctx, badger.DefaultOptions(dir), timed, change)
	}
}

func withOptions(ctx context.Context, o badger.Options, timed func(func() (int, error)) error, change func(context.Context, *badger.DB) (int, error)) (err error) {
	db, err := badger.Open(o.WithLogger(nil))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return timed(func() (int, error) { return change(ctx, db) })
}

// naive is the loop that people write. It is neither atomic nor resumable.
func naive(_ context.Context, db *badger.DB) (n int, err error) {
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Seek(accounts); it.ValidForPrefix(accounts); it.Next() {
			old, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			changed, err := addLogins(old)
			if err != nil {
				return err
			}
			if err := wb.Set(it.Item().KeyCopy(nil), changed); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	return n, wb.Flush()
}

// lent is a migration of a database that the program keeps using.
func lent(ctx context.Context, db *badger.DB) (int, error) {
	st, err := badgerstore.New(db)
	if err != nil {
		return 0, err
	}
	return migrateRows(ctx, st)
}

// opened is a migration of a store that badgerstore opens, with synced writes.
func opened(o badgerstore.Options) way {
	return func(ctx context.Context, dir string, timed func(func() (int, error)) error) (err error) {
		st, err := badgerstore.Open(ctx, dir, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		return timed(func() (int, error) { return migrateRows(ctx, st) })
	}
}
