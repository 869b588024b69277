package badgerstore_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

var encryptionKey = []byte("0123456789abcdef")

// small makes a store that is quick to open: memtables of 8 MiB, the least that
// fits Badger's default ValueThreshold.
func small(o badger.Options) badger.Options {
	return o.WithMemTableSize(8 << 20).WithValueLogFileSize(16 << 20).WithBlockCacheSize(1 << 20)
}

// tiny makes a store whose limits are quick to reach, and whose values of 1 KiB
// and more go to the value log.
func tiny(o badger.Options) badger.Options {
	return small(o).WithMemTableSize(1 << 20).WithValueThreshold(1 << 10).WithValueLogFileSize(1 << 20)
}

// allPointers makes a store that keeps every value in the value log.
func allPointers(o badger.Options) badger.Options {
	return tiny(o).WithValueThreshold(0)
}

func encrypted(o badger.Options) badger.Options {
	return small(o).WithEncryptionKey(encryptionKey).WithIndexCacheSize(1 << 20)
}

// open opens dir as Open does, with configure, and closes it at the end of the
// test.
func open(t testing.TB, dir string, configure func(badger.Options) badger.Options) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(context.WithoutCancel(t.Context()), dir, badgerstore.Options{Configure: configure, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return st
}

// openBadger opens a database as a program does, and closes it at the end of the
// test.
func openBadger(t *testing.T, o badger.Options) *badger.DB {
	t.Helper()
	db, err := badger.Open(o.WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the lent database: %v", err)
		}
	})
	return db
}

// lend wraps a database that the test opened.
func lend(t *testing.T, db *badger.DB) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.New(db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return st
}

func TestConformance(t *testing.T) {
	onDisk := func(configure func(badger.Options) badger.Options) func(t *testing.T) store.Store {
		return func(t *testing.T) store.Store { return open(t, t.TempDir(), configure) }
	}
	for _, c := range []struct {
		name string
		open func(t *testing.T) store.Store
	}{
		{"disk", onDisk(small)},
		{"tiny", onDisk(tiny)},
		{"all values in the value log", onDisk(allPointers)},
		{"encrypted", onDisk(encrypted)},
		{"memory", func(t *testing.T) store.Store {
			return lend(t, openBadger(t, small(badger.DefaultOptions("").WithInMemory(true))))
		}},
		{"tiny memory", func(t *testing.T) store.Store {
			return lend(t, openBadger(t, tiny(badger.DefaultOptions("").WithInMemory(true))))
		}},
		{"lent without SyncWrites", func(t *testing.T) store.Store {
			return lend(t, openBadger(t, small(badger.DefaultOptions(t.TempDir()).WithSyncWrites(false))))
		}},
	} {
		t.Run(c.name, func(t *testing.T) { storetest.Run(t, c.open) })
	}
}
