package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// commits counts the transactions that a store commits.
type commits struct {
	store.Store
	n int
}

func (c *commits) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := c.Store.Update(ctx, fn)
	if err == nil {
		c.n++
	}
	return err
}

// writes is an Up that sets n keys.
func writes(name string, n int) migrate.UpFunc {
	return func(_ context.Context, tx *migrate.Tx) error {
		for i := range n {
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "app/%s/%04d", name, i), Value: []byte(name)}); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestTogether: small migrations share transactions, and leave what they leave one
// by one; what is not small, or fails, is on its own.
func TestTogether(t *testing.T) {
	stepped := func(_ context.Context, tx *migrate.Tx) error {
		if tx.Cursor() == nil {
			tx.Continue([]byte("on"))
		}
		return tx.Set(store.Entry{Key: append([]byte("stepped"), tx.Cursor()...)})
	}
	all := func(n int, up func(i int) migrate.UpFunc) []migrate.UpFunc {
		ups := make([]migrate.UpFunc, n)
		for i := range ups {
			ups[i] = up(i)
		}
		return ups
	}
	small := func(i int) migrate.UpFunc { return writes(fmt.Sprint(i), 2) }
	with := func(ups []migrate.UpFunc, at int, up migrate.UpFunc) []migrate.UpFunc {
		ups[at] = up
		return ups
	}
	for _, test := range []struct {
		name    string
		ups     []migrate.UpFunc
		entries int // of a transaction
		most    int // transactions that it may take on an idle machine, at least one by one if 0
		failing int // the version that fails, 0 if none does
	}{
		{name: "small", ups: all(100, small), entries: 10_000, most: 99},
		{name: "two", ups: all(2, small), entries: 10_000, most: 1},
		{name: "one", ups: all(1, small), entries: 10_000, most: 1},
		{name: "a few fit", ups: all(20, small), entries: 30, most: 19},
		{name: "none fits beside another", ups: all(5, func(i int) migrate.UpFunc { return writes(fmt.Sprint(i), 60) }), entries: 70},
		{name: "steps in the middle", ups: with(all(9, small), 4, stepped), entries: 10_000},
		{name: "steps at first", ups: with(all(9, small), 0, stepped), entries: 10_000},
		{name: "rows in the middle", ups: with(all(9, small), 4, migrate.Rewrite([]byte("app/"), suffix("!"))), entries: 10_000},
		{name: "phases", ups: with(all(9, small), 4, migrate.Phases(small(4), small(5))), entries: 10_000},
		{name: "a failure", ups: with(all(9, small), 4, func(ctx context.Context, tx *migrate.Tx) error {
			return errors.Join(small(4)(ctx, tx), errBoom)
		}), entries: 10_000, failing: 5},
		{name: "a panic", ups: with(all(9, small), 4, func(context.Context, *migrate.Tx) error { panic(errBoom) }), entries: 10_000, failing: 5},
		{name: "a refused write", ups: with(all(9, small), 4, func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("system:schema_version")})
		}), entries: 10_000, failing: 5},
		{name: "a failure at first", ups: with(all(3, small), 0, func(context.Context, *migrate.Tx) error { return errBoom }), entries: 10_000, failing: 1},
		{name: "a failure at last", ups: with(all(3, small), 2, func(context.Context, *migrate.Tx) error { return errBoom }), entries: 10_000, failing: 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			ladder := make([]migrate.Migration, len(test.ups))
			for i, up := range test.ups {
				ladder[i] = migrate.Migration{Version: uint32(i + 1), Name: fmt.Sprintf("m%d", i+1), Up: up}
			}
			o := options(migrate.NewRegistry(ladder...))
			good := len(ladder)
			if test.failing > 0 {
				good = test.failing - 1
			}

			single := openStore(t)
			r, err := migrate.New(narrow{single, test.entries}, o)
			if err != nil {
				t.Fatal(err)
			}
			for version := range good {
				if _, err := r.UpTo(t.Context(), uint32(version)+1); err != nil {
					t.Fatal(err)
				}
			}

			var events []string
			o.Observer = func(e migrate.Event) { events = append(events, fmt.Sprintf("%v v%d", e.Kind, e.Version)) }
			st := openStore(t)
			counted := &commits{Store: narrow{st, test.entries}}
			report, err := migrate.Up(t.Context(), counted, o)
			if (err != nil) != (test.failing > 0) {
				t.Fatal(err)
			}
			if failed, ok := errors.AsType[*migrate.MigrationError](err); test.failing > 0 && (!ok || int(failed.Version) != test.failing) {
				t.Errorf("Up = %v; want a MigrationError of v%d", err, test.failing)
			}
			if int(report.To) != good || len(report.Applied) != good {
				t.Errorf("Report = v%d, %d applied; want v%d", report.To, len(report.Applied), good)
			}
			if diff := cmp.Diff(contents(t, single), contents(t, st)); diff != "" {
				t.Errorf("the store differs from that of runs one by one (-one by one +together):\n%s", diff)
			}
			if test.most > 0 && counted.n > test.most {
				t.Errorf("%d transactions for %d migrations; want at most %d", counted.n, good, test.most)
			}
			for i := range good {
				for _, kind := range []string{"started", "finished"} {
					if event := fmt.Sprintf("%s v%d", kind, i+1); strings.Count(strings.Join(events, "\n")+"\n", event+"\n") != 1 {
						t.Errorf("events %q; want %q once", events, event)
					}
				}
			}
		})
	}
}
