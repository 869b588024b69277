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

// crashes is how many operations of a migration fail at most, unless all do. What
// it takes grows with their square.
const crashes = 1000

// Crash lets every store operation of each migration fail in turn: with an error,
// by a death before the operation where a migration that gets an error goes on, and
// by a death after a commit. It then runs again and wants the store of a run that
// nothing disturbed. Each migration starts from the fixtures and from the old store
// of the version before. Batches are small, so that a few rows make several of them.
//
// The stores are in memory; one run without a fault is compared with one on Badger.
// Of a migration with more than 1,000 operations up to so many fail, spread over
// all, and every commit; the flag -crash.all has every one.
func Crash(t *testing.T, s Suite) {
	t.Helper()
	s.check(t)
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
		return fmt.Errorf("%s.go: what it leaves depends on the size of its batches, or on what ran before it in this process (-large +small):\n%s\n%s", m.ID(), d, s.impurity(ctx, m, start, want))
	}
	again := func(at int, fault storetest.Fault) (*storetest.Faulty, error) {
		where := fmt.Sprintf("%s.go, %v at operation %d of %d", m.ID(), fault, at, undisturbed.Operations())
		got, faulty, err := s.disturbed(ctx, m, start, at, fault)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		switch d := difference(want, got); {
		case d != "" && faulty.dropped:
			return nil, fmt.Errorf("%s: %s failed with the store's error, which the migration dropped: it returned no error and wrote what an undisturbed run does not (-undisturbed +got):\n%s\n"+
				"Return each error of the transaction; the only one that answers a question is store.ErrNotFound", where, faulty.Failed(), d)
		case d != "":
			return nil, fmt.Errorf("%s, which is %s: a second run leaves another store than one that nothing disturbed (-undisturbed +got):\n%s\n%s", where, faulty.Failed(), d, s.impurity(ctx, m, start, want))
		}
		return faulty.Faulty, nil
	}
	for _, at := range sample(undisturbed.Operations()) {
		faulty, err := again(at, storetest.Error)
		if err == nil && faulty.Operations() > at { // it went on, unlike one that dies
			_, err = again(at, storetest.Stop)
		}
		if err != nil {
			return err
		}
	}
	for _, at := range undisturbed.Commits() {
		if _, err := again(at, storetest.StopAfterCommit); err != nil {
			return err
		}
	}
	return nil
}

// sample returns the numbers of n operations or, if they are too many and not all
// are asked for, of some that are spread over all.
func sample(n int) (numbers []int) {
	step := 1
	if n > crashes && !*everyCrash {
		step = (n + crashes - 1) / crashes
	}
	for i := 1; i <= n; i += step {
		numbers = append(numbers, i)
	}
	return numbers
}

// pure is what is wrong with a migration that a second run does not mend.
const pure = "It must depend on its transaction alone: keep nothing in variables between calls, and take the time from tx.Now"

// impurity says why m may leave different stores: undisturbed it left want, and runs
// some times more.
func (s Suite) impurity(ctx context.Context, m migrate.Migration, start *sandbox, want []store.Entry) string {
	const runs = 5
	for range runs {
		if got, _, err := s.disturbed(ctx, m, start, 0, storetest.Error); err == nil && difference(want, got) != "" {
			return pure + ". Undisturbed runs differ too: look for the order of a map, chance, another clock, and variables that it changes"
		}
	}
	return pure
}

// onBadger returns a sandbox that holds before, and what m leaves of that in a
// Badger store, with batches of the usual size.
func (s Suite) onBadger(ctx context.Context, m migrate.Migration, before []store.Entry) (start *sandbox, after []store.Entry, err error) {
	err = s.withStore(ctx, func(st store.Store) error {
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
// store of the first run, which says whether the migration dropped the fault.
func (s Suite) disturbed(ctx context.Context, m migrate.Migration, start *sandbox, at int, fault storetest.Fault) ([]store.Entry, faultyRun, error) {
	box := start.again()
	faulty := storetest.Fail(box, at, fault)
	_, err := s.serially().upTo(ctx, faulty, m.Version)
	first := faultyRun{faulty, err == nil && faulty.Failed() != ""}
	if err != nil && !errors.Is(err, storetest.ErrFault) {
		return nil, first, fmt.Errorf("the error of the store came out as another; wrap it with %%w: %w", err)
	}
	if _, err := s.serially().upTo(ctx, box, m.Version); err != nil {
		return nil, first, fmt.Errorf("a second run fails, though it must go on from what the first one committed: %w", err)
	}
	return box.entries, first, nil
}

// A faultyRun is the store of a run, and whether the run had a fault and succeeded.
type faultyRun struct {
	*storetest.Faulty
	dropped bool
}

// serially is s with one batch at a time, so that operations have the same numbers
// in each run.
func (s Suite) serially() Suite {
	s.batches = 1
	return s
}
