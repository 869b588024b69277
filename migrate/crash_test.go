package migrate_test

import (
	"context"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// narrow is a store whose transactions hold few entries, so that a few rows make
// many batches.
type narrow struct {
	store.Store
	entries int // of a transaction: four times as many as of a batch
}

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries = n.entries
	return l
}

// TestCrashes fails every single store operation of a run in turn and runs again, and
// leaves every single commit unknown. At no time is the version of a store one whose
// migration it does not hold.
func TestCrashes(t *testing.T) {
	for _, test := range []struct {
		name     string
		batches  int
		volatile bool
	}{
		{"one batch", 1, false},
		{"three batches", 3, false},
		{"volatile", 3, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			badger, closeStore := inMemory(t)
			defer closeStore()
			var st store.Store = badger
			if test.volatile {
				st = volatile{st}
			}
			migratetest.RunStore(t, migratetest.StoreSuite{Batches: test.batches, Open: func(context.Context) (store.Store, error) {
				return kept{st}, badger.DB().DropAll() // which takes a third of the time of a new one
			}})
		})
	}
}

// crashOptions are those of a run of the migrations of TestCrashes.
func crashOptions(batches int) migrate.Options {
	ladder, _ := migratetest.StoreLadder()
	o := options(migrate.NewRegistry(ladder...))
	o.AllowUnversioned, o.Batches, o.Heartbeat = true, batches, -1
	return o
}

// kept is a store that is not closed by those who have it.
type kept struct{ store.Store }

func (kept) Close() error { return nil }

// inMemory opens a Badger store that needs no disk: what a fault leaves is the
// same there, and thousands of runs take seconds.
func inMemory(t *testing.T) (st *badgerstore.Store, closeStore func()) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil).
		WithMemTableSize(256 << 10).WithNumMemtables(1).WithBlockCacheSize(0).WithCompression(0).WithNumCompactors(0).WithValueThreshold(1 << 10))
	if err != nil {
		t.Fatal(err)
	}
	st, err = badgerstore.New(db)
	if err != nil {
		t.Fatal(err)
	}
	return st, func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
