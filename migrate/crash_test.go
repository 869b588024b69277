package migrate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
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

const crashRows = 20

// crashLadder is a migration of each kind. Changing a row twice shows.
func crashLadder() []migrate.Migration {
	rows, index := store.MustPartition("app"), store.MustPartition("app.index")
	return []migrate.Migration{
		{Version: 1, Name: "plain", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Update([]byte("app/000001"), suffix(" plain"))
		}, Check: func(_ context.Context, r store.Reader) error {
			_, err := r.Get([]byte("app/000001"))
			return err
		}},
		{Version: 2, Name: "stepped", Up: func(_ context.Context, tx *migrate.Tx) error {
			i := uint32(0)
			if c := tx.Cursor(); c != nil {
				i = binary.BigEndian.Uint32(c)
			}
			if i < 5 {
				tx.Continue(binary.BigEndian.AppendUint32(nil, i+1))
			}
			return tx.Update(fmt.Appendf(nil, "app/%06d", i), suffix(" stepped"))
		}},
		{Version: 3, Name: "rewrite", Up: migrate.Rewrite([]byte("app/"), suffix(" rewritten")), Check: allEnd("app/", " rewritten")},
		{Version: 4, Name: "index", Up: migrate.Index(rows, index, func(id, row []byte) (key, value []byte, err error) {
			return row, id, nil
		})},
		{Version: 5, Name: "phases", Up: migrate.Phases(
			migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
				if err := tx.Delete(e.Key); err != nil {
					return err
				}
				e.Key = append([]byte("moved/"), e.Key...)
				return tx.Set(e)
			}),
			func(_ context.Context, tx *migrate.Tx) error {
				return tx.Set(store.Entry{Key: []byte("between"), Value: []byte("phases")})
			},
			migrate.Serial(migrate.DropPrefix(index.Prefix())),
		)},
	}
}

// TestCrashes fails every single store operation of a run in turn, with an error
// and by stopping dead, before and after a commit, and runs again: the store is
// then the one of an undisturbed run, and at no time was its version one whose
// migration it does not hold.
func TestCrashes(t *testing.T) {
	undisturbed, closeStore := inMemory(t)
	defer closeStore()
	load(t, undisturbed, many("app/", crashRows)...)
	mustRun(t, narrow{undisturbed, 24}, crashOptions(1))
	want := contents(t, undisturbed)

	for _, tt := range []struct {
		name    string
		batches int
		limit   func(store.Store) store.Store
	}{
		{"one batch", 1, func(st store.Store) store.Store { return narrow{st, 24} }},
		{"three batches", 3, func(st store.Store) store.Store { return narrow{st, 24} }},
		{"volatile", 3, func(st store.Store) store.Store { return volatile{narrow{st, 24}} }},
	} {
		for _, fault := range storetest.Faults {
			t.Run(fmt.Sprintf("%s/%v", tt.name, fault), func(t *testing.T) {
				faults := 0
				for crash(t, tt.limit, fault, faults+1, crashOptions(tt.batches), want) {
					faults++
				}
				if faults < 400 {
					t.Errorf("%d operations failed: too few to be all of them", faults)
				}
			})
		}
	}
}

// crash fails operation number at of a run and compares what a second run
// leaves. It returns false if the first run has fewer operations.
func crash(t *testing.T, limit func(store.Store) store.Store, fault storetest.Fault, at int, o migrate.Options, want string) bool {
	st, closeStore := inMemory(t)
	defer closeStore()
	load(t, st, many("app/", crashRows)...)
	faulty := storetest.Fail(limit(st), at, fault)
	_, err := migrate.Up(t.Context(), faulty, o)
	if faulty.Operations() < at {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	// What fails in a transaction of several migrations is tried again, each alone.
	if !errors.Is(err, storetest.ErrFault) && (err != nil || fault != storetest.Error) {
		t.Errorf("fault at operation %d: error = %v, want the fault", at, err)
	}
	if _, err := migrate.Up(t.Context(), limit(st), o); err != nil {
		t.Fatalf("run after a fault at operation %d: %v", at, err)
	}
	if got := contents(t, st); got != want {
		t.Fatalf("store after a fault at operation %d and a second run (-undisturbed +got):\n%s", at, cmp.Diff(want, got))
	}
	return true
}

func crashOptions(batches int) migrate.Options {
	o := options(migrate.NewRegistry(crashLadder()...))
	o.AllowUnversioned, o.Batches, o.Heartbeat = true, batches, -1
	return o
}

// inMemory opens a Badger store that needs no disk: what a fault leaves is the
// same there, and thousands of runs take seconds.
func inMemory(t *testing.T) (st store.Store, closeStore func()) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil).
		WithMemTableSize(1 << 20).WithNumMemtables(1).WithBlockCacheSize(0).WithCompression(0).WithNumCompactors(0).WithValueThreshold(1 << 10))
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
