package migratetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

var everyCrash = flag.Bool("crash.all", false, "let every single store operation of a migration fail, however many there are")

// crashes is how many operations of a migration fail in each way, at most, unless
// all do. What it takes grows with their square.
const crashes = 1000

// Crash lets every store operation of each migration fail in turn: with an error,
// by a death before the operation, and by a death after a commit. It then runs
// again and wants the store of a run that nothing disturbed. Each migration starts
// from the fixtures and from the old store of the version before. Batches are
// small, so that a few rows make several of them.
//
// The stores are in memory; one run without a fault is compared with one on Badger.
// Of a migration with more than 1,000 operations so many fail in each way, spread
// over all, other ones in each; the flag -crash.all has every one.
func Crash(t *testing.T, s Suite) {
	t.Helper()
	for i, m := range s.ladder() {
		t.Run(m.ID(), func(t *testing.T) {
			t.Parallel()
			before, err := s.before(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.crash(t.Context(), m, before); err != nil {
				t.Errorf("from the fixtures: %v", err)
			}
			if i == 0 {
				return // from an empty store
			}
			old, err := s.oldStore(t, m.Version-1)
			if errors.Is(err, fs.ErrNotExist) {
				return // Ladder says it
			}
			if err == nil && difference(s.lasting(before), s.lasting(old)) != "" {
				err = s.crash(t.Context(), m, old)
			}
			if err != nil {
				t.Errorf("from the old store of v%d: %v", m.Version-1, err)
			}
		})
	}
}

// crash crashes m on a store that gets before.
func (s Suite) crash(ctx context.Context, m migrate.Migration, before []store.Entry) error {
	start, onBadger, err := s.onBadger(ctx, m, before)
	if err != nil {
		return err
	}
	want, undisturbed, err := s.disturbed(ctx, m, start, 0, storetest.Error)
	if err != nil {
		return err
	}
	visible, err := entries(ctx, &sandbox{entries: want}) // Badger does not show what has expired
	if err != nil {
		return err
	}
	if d := difference(s.lasting(onBadger), s.lasting(visible)); d != "" {
		return fmt.Errorf("%s.go: what it leaves depends on the size of its batches, or on what ran before it in this process (-large +small):\n%s\n%s", m.ID(), d, pure)
	}
	every := make([]int, undisturbed.Operations())
	for i := range every {
		every[i] = i + 1
	}
	for i, fault := range storetest.Faults {
		operations := every
		if fault == storetest.StopAfterCommit {
			operations = undisturbed.Commits()
		}
		if !*everyCrash {
			operations = sample(operations, i)
		}
		for _, at := range operations {
			got, _, err := s.disturbed(ctx, m, start, at, fault)
			if err != nil {
				return fmt.Errorf("%s.go, %v at operation %d of %d: %w", m.ID(), fault, at, len(every), err)
			}
			if d := difference(want, got); d != "" {
				return fmt.Errorf("%s.go, %v at operation %d of %d: a second run leaves another store than one that nothing disturbed (-undisturbed +got):\n%s\n%s", m.ID(), fault, at, len(every), d, pure)
			}
		}
	}
	return nil
}

// sample returns all of operations or, if they are too many, some that are spread
// over all: other ones for each offset.
func sample(operations []int, offset int) (some []int) {
	step := max(1, (len(operations)+crashes-1)/crashes)
	for i := offset % step; i < len(operations); i += step {
		some = append(some, operations[i])
	}
	return some
}

// pure is what is wrong with a migration that a second run does not mend.
const pure = "It must depend on its transaction alone: keep nothing in variables between calls, and take the time from tx.Now"

// onBadger returns a sandbox that holds before, and what m leaves of that in a
// Badger store, with batches of the usual size.
func (s Suite) onBadger(ctx context.Context, m migrate.Migration, before []store.Entry) (start *sandbox, after []store.Entry, err error) {
	err = withStore(ctx, func(st store.Store) error {
		if err := load(ctx, st, before); err != nil {
			return err
		}
		before, err := entries(ctx, st)
		if err != nil {
			return err
		}
		start = &sandbox{st.Limits(), before}
		if _, err := s.upTo(ctx, st, m.Version); err != nil {
			return err
		}
		after, err = entries(ctx, st)
		return err
	})
	return start, after, err
}

// disturbed runs m on a sandbox like start, with a fault at one operation or with
// none if at is 0, and then again without. It returns what that leaves, and the
// store of the first run.
func (s Suite) disturbed(ctx context.Context, m migrate.Migration, start *sandbox, at int, fault storetest.Fault) ([]store.Entry, *storetest.Faulty, error) {
	box := start.again()
	faulty := storetest.Fail(box, at, fault)
	_, err := s.serially().upTo(ctx, faulty, m.Version)
	if err != nil && !errors.Is(err, storetest.ErrFault) {
		return nil, nil, fmt.Errorf("the error of the store came out as another; wrap it with %%w: %w", err)
	}
	if _, err := s.serially().upTo(ctx, box, m.Version); err != nil {
		return nil, nil, fmt.Errorf("a second run fails, though it must go on from what the first one committed: %w", err)
	}
	return box.entries, faulty, nil
}

// serially is s with one batch at a time, so that operations have the same numbers
// in each run.
func (s Suite) serially() Suite {
	s.batches = 1
	return s
}
