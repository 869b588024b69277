package migrate_test

import (
	"bytes"
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
type narrow struct{ store.Store }

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries = 24 // batches of six
	return l
}

const crashRows = 20

// crashLadder is a migration of each kind. Changing a row twice shows.
func crashLadder() []migrate.Migration {
	rows, index := store.MustPartition("app"), store.MustPartition("app.index")
	return []migrate.Migration{
		{Version: 1, Name: "plain", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Update([]byte("app/000001"), suffix(" plain"))
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
		{Version: 3, Name: "rewrite", Up: migrate.Rewrite([]byte("app/"), suffix(" rewritten"))},
		{Version: 4, Name: "index", Up: migrate.Index(rows, index, func(row store.Entry) (key, value []byte, err error) {
			id, _ := rows.Cut(row.Key)
			return bytes.Clone(row.Value), bytes.Clone(id), nil
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
	undisturbed := inMemory(t)
	load(t, undisturbed, many("app/", crashRows)...)
	mustRun(t, narrow{undisturbed}, crashOptions(1))
	want := contents(t, undisturbed)

	for _, batches := range []int{1, 3} {
		for _, fault := range storetest.Faults {
			t.Run(fmt.Sprintf("%d/%v", batches, fault), func(t *testing.T) {
				st := inMemory(t)
				o := crashOptions(batches)
				faults := 0
				for at := 1; ; at++ {
					clear(t, st)
					load(t, st, many("app/", crashRows)...)
					faulty := storetest.Fail(narrow{st}, at, fault)
					_, err := migrate.Up(t.Context(), faulty, o)
					if faulty.Operations() < at {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					if err == nil || !errors.Is(err, storetest.ErrFault) {
						t.Errorf("fault at operation %d: error = %v, want the fault", at, err)
					}
					faults++
					if _, err := migrate.Up(t.Context(), narrow{st}, o); err != nil {
						t.Fatalf("run after a fault at operation %d: %v", at, err)
					}
					if got := contents(t, st); got != want {
						t.Fatalf("store after a fault at operation %d and a second run (-undisturbed +got):\n%s", at, cmp.Diff(want, got))
					}
				}
				if faults < 400 {
					t.Errorf("%d operations failed: too few to be all of them", faults)
				}
			})
		}
	}
}

func crashOptions(batches int) migrate.Options {
	o := options(migrate.NewRegistry(crashLadder()...))
	o.AllowUnversioned, o.Batches, o.Heartbeat = true, batches, -1
	return o
}

// inMemory opens a Badger store that needs no disk: what a fault leaves is the same
// there, and thousands of runs take seconds.
func inMemory(t *testing.T) store.Store {
	t.Helper()
	db, err := badger.Open(small(badger.DefaultOptions("")).WithInMemory(true).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	st, err := badgerstore.New(db)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// clear deletes every entry.
func clear(t *testing.T, st store.Store) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		for e, err := range tx.Scan(store.Scan{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if err := tx.Delete(e.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
