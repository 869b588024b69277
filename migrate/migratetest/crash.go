package migratetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

var everyCrash = flag.Bool("crash.all", false, "let every single store operation of a migration fail, however many there are")

// crashes is how many operations of a migration fail in each way, unless all do.
const crashes = 50

// Crash lets the store operations of each migration fail in turn: with an error,
// by a death before the operation, and by a death after a commit. It then runs
// again and wants the store of a run that nothing disturbed. Batches are small, so
// that a few rows make several of them. A migration with more than fifty operations
// has some fifty of them fail in each way, spread over all, other ones in each; the
// flag -crash.all has every one.
func Crash(t *testing.T, s Suite) {
	t.Helper()
	s = s.raw()
	for _, m := range s.registry().Migrations() {
		t.Run(m.ID(), func(t *testing.T) {
			before, err := s.at(t.Context(), m.Version-1, true)
			if err != nil {
				t.Fatal(err)
			}
			fixture, err := read(s.golden(m, "fixture.txt"))
			if err == nil {
				before = append(before, fixture...)
			}
			if err := s.crash(t.Context(), m, before); err != nil {
				t.Error(err)
			}
		})
	}
}

// crash crashes m on a store that holds before.
func (s Suite) crash(ctx context.Context, m migrate.Migration, before []store.Entry) error {
	// What is wanted, and how many operations that takes.
	want, operations, err := s.crashOnce(ctx, m, before, 0, storetest.Error)
	if err != nil {
		return err
	}
	step := 1
	if !*everyCrash {
		step = max(1, operations/crashes)
	}
	for i, fault := range storetest.Faults {
		for at := 1 + i%step; at <= operations; at += step {
			got, _, err := s.crashOnce(ctx, m, before, at, fault)
			if err != nil {
				return fmt.Errorf("%s, %v at operation %d: %w", m.ID(), fault, at, err)
			}
			if got != want {
				return fmt.Errorf("%s, %v at operation %d: the store differs after a second run (-undisturbed +got):\n%s", m.ID(), fault, at, difference(want, got))
			}
		}
	}
	return nil
}

// crashOnce runs m with a fault, and then without. It returns what the store
// holds and how many operations the first run had.
func (s Suite) crashOnce(ctx context.Context, m migrate.Migration, before []store.Entry, at int, fault storetest.Fault) (got string, operations int, err error) {
	err = withStore(ctx, func(st store.Store) error {
		if err := load(ctx, st, before); err != nil {
			return err
		}
		st = narrow{st}
		faulty := storetest.Fail(st, at, fault)
		r, err := migrate.New(faulty, s.serially())
		if err != nil {
			return err
		}
		_, err = r.UpTo(ctx, m.Version)
		operations = faulty.Operations()
		if at == 0 && err != nil {
			return err
		}
		if at > 0 && err != nil && !errors.Is(err, storetest.ErrFault) {
			return fmt.Errorf("the error of the store came out as another: %w", err)
		}
		if r, err = migrate.New(st, s.serially()); err != nil {
			return err
		}
		if _, err := r.UpTo(ctx, m.Version); err != nil {
			return fmt.Errorf("second run: %w", err)
		}
		got, err = s.contents(ctx, st)
		return err
	})
	return got, operations, err
}

// serially has one batch at a time, so that operations have the same numbers in
// each run.
func (s Suite) serially() migrate.Options {
	o := s.options()
	o.Batches = 1
	return o
}

// narrow is a store whose transactions hold so little that a few rows make
// several batches, and yet what a plain migration of a fixture needs.
type narrow struct{ store.Store }

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries = min(l.TxnEntries, 200)
	return l
}
