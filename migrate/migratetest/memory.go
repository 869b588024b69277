package migratetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/dustin/go-humanize"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// Memory runs the migration of version over n generated rows and fails if the
// live heap grows by more than budget bytes meanwhile, the store's own memory
// included. row returns row i, from 0. The store is on the disk and its other
// versions run before the rows are there. It has memtables of 8 MiB and compacts
// nothing, so that some 35 MiB are its own whatever the number of rows: a budget
// of 64 MiB for rows of 60 MiB tells a migration that holds them.
//
// The heap is looked at throughout, after a garbage collection each time, so a
// migration that holds what it has read is seen however often it commits. Other
// tests that run at the same time count as well.
func Memory(t *testing.T, s Suite, version uint32, n int, row func(i int) store.Entry, budget uint64) {
	t.Helper()
	s.check(t)
	peak, err := s.memory(t.Context(), t.TempDir(), version, n, row)
	if err != nil {
		t.Fatal(err)
	}
	if peak > budget {
		t.Fatal(s.overBudget(version, n, peak, budget))
	}
	t.Logf("v%d over %d rows: the live heap grew by %s", version, n, humanize.IBytes(peak))
}

func (s Suite) overBudget(version uint32, n int, peak, budget uint64) error {
	ladder := s.ladder()
	m := ladder[slices.IndexFunc(ladder, func(m migrate.Migration) bool { return m.Version == version })]
	return fmt.Errorf("%s.go over %d rows: the live heap grew by %s, the budget is %s. "+
		"Let it keep none of the rows that it has read: migrate.Rewrite, Each, Index, IndexMany and DropPrefix make batches of any number of rows", m.ID(), n, humanize.IBytes(peak), humanize.IBytes(budget))
}

// below returns the version that a store is at when the migration of version runs.
func (s Suite) below(version uint32) (from uint32, err error) {
	for _, m := range s.ladder() {
		if m.Version == version {
			return from, nil
		}
		from = m.Version
	}
	return 0, fmt.Errorf("there is no migration of v%d: the latest is v%d", version, from)
}

// memory returns by how much the live heap grew.
func (s Suite) memory(ctx context.Context, dir string, version uint32, n int, row func(i int) store.Entry) (growth uint64, err error) {
	from, err := s.below(version)
	if err != nil {
		return 0, err
	}
	err = withStoreIn(ctx, dir, badgerstore.Options{Configure: badgerstore.Uncompacted}, func(st store.Store) error {
		if _, err := s.upTo(ctx, st, from); err != nil {
			return err
		}
		const chunk = 1000
		for from := 0; from < n; from += chunk {
			var rows []store.Entry
			for i := from; i < min(from+chunk, n); i++ {
				rows = append(rows, row(i))
			}
			if err := load(ctx, st, rows); err != nil {
				return err
			}
		}
		before := liveHeap()
		stop, peak := make(chan struct{}), make(chan uint64)
		go func() {
			highest := before
			for {
				highest = max(highest, liveHeap())
				select {
				case <-stop:
					peak <- highest
					return
				default:
				}
			}
		}()
		report, err := s.upTo(ctx, st, version)
		close(stop)
		growth = <-peak - before
		if err == nil && len(report.Applied) != 1 {
			err = fmt.Errorf("v%d did not run", version)
		}
		return err
	})
	return growth, err
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
