package badgerstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

func wantError(t *testing.T, clause string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error = %v; want one that matches %q", clause, err, want)
	}
}

// set returns a callback that sets each key to the value that follows it.
func set(pairs ...string) func(store.Txn) error {
	return func(tx store.Txn) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Set(store.Entry{Key: []byte(pairs[i]), Value: []byte(pairs[i+1])}); err != nil {
				return err
			}
		}
		return nil
	}
}

func update(t testing.TB, st store.Store, fn func(store.Txn) error) {
	t.Helper()
	if err := st.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// contents returns "key=value" of all entries.
func contents(t *testing.T, st store.Store) []string {
	t.Helper()
	var got []string
	err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%s=%s", e.Key, e.Value))
		}
		return nil
	})
	if err != nil {
		t.Errorf("scan the store: %v", err)
	}
	return got
}

func wantContents(t *testing.T, st store.Store, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, contents(t, st)); diff != "" {
		t.Errorf("contents (-want +got)\n%s", diff)
	}
}

func TestNewRefuses(t *testing.T) {
	inMemory := small(badger.DefaultOptions("").WithInMemory(true)).WithLogger(nil)
	closed := openBadger(t, inMemory)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	managed, err := badger.OpenManaged(inMemory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = managed.Close() })
	for _, test := range []struct {
		name string
		db   *badger.DB
		want error
	}{
		{"no database", nil, store.ErrUnsupported},
		{"a closed database", closed, store.ErrClosed},
		{"managed mode", managed, store.ErrUnsupported},
		{"DetectConflicts off", openBadger(t, inMemory.WithDetectConflicts(false)), store.ErrUnsupported},
	} {
		st, err := badgerstore.New(test.db)
		wantError(t, "New with "+test.name, err, test.want)
		if st != nil {
			t.Errorf("New with %s returned a Store; want nil", test.name)
		}
	}
}

func TestCloseLeavesLentDatabaseOpen(t *testing.T) {
	db := openBadger(t, small(badger.DefaultOptions(t.TempDir())))
	first, second := lend(t, db), lend(t, db)
	update(t, first, set("k", "v"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, "View of the closed Store", first.View(t.Context(), func(store.Reader) error { return nil }), store.ErrClosed)
	wantContents(t, second, "k=v")
	if err := db.Update(func(tx *badger.Txn) error { return tx.Set([]byte("own"), []byte("write")) }); err != nil {
		t.Errorf("the program's own write after Close: %v; want its database to stay open", err)
	}
	wantContents(t, second, "k=v", "own=write")
}

// A program that closes its database under the Store gets errors: without
// guards a transaction of a closed Badger hangs or crashes.
func TestDatabaseClosedBehindOurBack(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		db := openBadger(t, small(badger.DefaultOptions(t.TempDir())))
		st := lend(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, "View", st.View(t.Context(), func(store.Reader) error { return nil }), store.ErrClosed)
		wantError(t, "Update", st.Update(t.Context(), set("k", "v")), store.ErrClosed)
		wantError(t, "Sync", st.Sync(t.Context()), store.ErrClosed)
	})
	t.Run("inside View", func(t *testing.T) {
		db := openBadger(t, small(badger.DefaultOptions(t.TempDir())))
		st := lend(t, db)
		update(t, st, set("a", "1", "b", "2", "c", "3"))
		err := st.View(t.Context(), func(r store.Reader) error {
			next, stop := iter.Pull2(r.Scan(store.Scan{}))
			defer stop()
			if _, err, ok := next(); err != nil || !ok {
				t.Errorf("first entry: %v, %t", err, ok)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			_, err := r.Get([]byte("a"))
			wantError(t, "Get", err, store.ErrClosed)
			for _, err := range r.Scan(store.Scan{}) {
				wantError(t, "a new Scan", err, store.ErrClosed)
			}
			_, err, ok := next()
			wantError(t, "the Scan that was open", err, store.ErrClosed)
			if !ok {
				t.Error("the open Scan ended without an error")
			}
			return nil
		})
		if err != nil {
			t.Errorf("View = %v; want what the callback returned", err)
		}
	})
	t.Run("inside Update", func(t *testing.T) {
		dir := t.TempDir()
		db := openBadger(t, small(badger.DefaultOptions(dir)))
		st := lend(t, db)
		err := st.Update(t.Context(), func(tx store.Txn) error {
			if err := set("k", "lost")(tx); err != nil {
				return err
			}
			return db.Close()
		})
		wantError(t, "Update", err, store.ErrClosed)
		err = st.Update(t.Context(), set("k", "lost"))
		wantError(t, "a later Update", err, store.ErrClosed)
		wantContents(t, open(t, dir, small))
	})
	t.Run("inside many", func(t *testing.T) {
		// Each end of a transaction sends on a channel that nobody empties any
		// more, and that holds a hundred.
		db := openBadger(t, small(badger.DefaultOptions(t.TempDir())))
		st := lend(t, db)
		var nest func(depth int) error
		nest = func(depth int) error {
			if depth == 0 {
				return db.Close()
			}
			return st.View(t.Context(), func(store.Reader) error { return nest(depth - 1) })
		}
		if err := nest(300); err != nil {
			t.Error(err)
		}
	})
	t.Run("iterator over a rotated memtable", func(t *testing.T) {
		// An iterator keeps its memtable's log. Closing it after the directory was
		// opened again would remove the log that the new database writes to.
		dir := t.TempDir()
		db := openBadger(t, small(badger.DefaultOptions(dir)))
		st := lend(t, db)
		update(t, st, set("a", "1", "b", "2"))
		err := st.View(t.Context(), func(r store.Reader) error {
			for _, err := range r.Scan(store.Scan{}) {
				if err != nil {
					return err
				}
				if err := db.Close(); err != nil {
					return err
				}
				break
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		wantContents(t, open(t, dir, small), "a=1", "b=2")
	})
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, small)
	update(t, st, set("k", "v"))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	readOnly := func(o badger.Options) badger.Options { return small(o).WithReadOnly(true) }
	for name, st := range map[string]store.Store{
		"opened": open(t, dir, readOnly),
		"lent":   lend(t, openBadger(t, readOnly(badger.DefaultOptions(dir)))),
	} {
		wantContents(t, st, "k=v")
		wantError(t, name+": Update", st.Update(t.Context(), set("k", "w")), store.ErrReadOnly)
		if err := st.Sync(t.Context()); err != nil {
			t.Errorf("%s: Sync of a read-only store: %v", name, err)
		}
		if err := st.Close(); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
		wantError(t, name+": Update after Close", st.Update(t.Context(), set("k", "w")), store.ErrClosed)
	}
}

func TestLimits(t *testing.T) {
	onDisk := func(configure func(badger.Options) badger.Options) badger.Options {
		return configure(badger.DefaultOptions(t.TempDir()))
	}
	inMemory := func(threshold int64) badger.Options {
		return small(badger.DefaultOptions("")).WithInMemory(true).WithValueThreshold(threshold)
	}
	for _, test := range []struct {
		name                                              string
		opts                                              badger.Options
		entries, bytes, apart, valueBytes, tornValueBytes int
	}{
		{"defaults", badger.DefaultOptions(t.TempDir()), 94371, 9059696, 1 << 20, 1<<30 - 1, 1 << 20},
		{"synced", onDisk(small).WithSyncWrites(true), 11796, 1132461, 1 << 20, 16 << 20, 0},
		{"not synced", onDisk(tiny), 1474, 141557, 1 << 10, 1 << 20, 1 << 10},
		{"in memory", inMemory(1 << 20), 11796, 1132461, 0, 1<<20 - 1, 0},
		{"in memory with a low threshold", inMemory(100), 11796, 1132461, 0, 99, 0},
		{"in memory with the highest threshold", inMemory(1_048_576), 11796, 1132461, 0, 1_048_575, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := store.Limits{
				TxnEntries: test.entries, TxnBytes: test.bytes, EntryOverhead: 24,
				ApartBytes: test.apart, KeyBytes: 65000, ValueBytes: test.valueBytes, TornValueBytes: test.tornValueBytes,
				Volatile: test.tornValueBytes > 0, Reserved: "!badger!",
			}
			st := lend(t, openBadger(t, test.opts))
			if diff := cmp.Diff(want, st.Limits()); diff != "" {
				t.Errorf("Limits (-want +got)\n%s", diff)
			}
		})
	}
}

// In memory Badger ends the process over a value of exactly its threshold.
func TestLongestValueInMemory(t *testing.T) {
	st := lend(t, openBadger(t, small(badger.DefaultOptions("")).WithInMemory(true)))
	value := strings.Repeat("v", st.Limits().ValueBytes+1)
	wantError(t, "a value over the limit", st.Update(t.Context(), set("k", value)), store.ErrValueTooBig)
	update(t, st, set("k", value[1:]))
	wantContents(t, st, "k="+value[1:])
}

// Values in the value log take next to nothing of a transaction's bytes.
func TestLongValuesExceedTxnBytes(t *testing.T) {
	st := open(t, t.TempDir(), tiny)
	value := strings.Repeat("v", 1<<10)
	n := 3 * st.Limits().TxnBytes / len(value)
	update(t, st, func(tx store.Txn) error {
		for i := range n {
			if err := set(fmt.Sprintf("%04d", i), value)(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if got := len(contents(t, st)); got != n {
		t.Errorf("%d entries; want %d", got, n)
	}
}

func TestReservedKeys(t *testing.T) {
	st := open(t, t.TempDir(), small)
	for _, key := range []string{"!badger!", "!badger!head", "!badger!\xff"} {
		wantError(t, "Set of "+key, st.Update(t.Context(), set(key, "v")), store.ErrInvalidKey)
		err := st.Update(t.Context(), func(tx store.Txn) error { return tx.Delete([]byte(key)) })
		wantError(t, "Delete of "+key, err, store.ErrInvalidKey)
	}
	update(t, st, set("!badger", "1", "!badges", "2", "!", "3"))
	wantContents(t, st, "!=3", "!badger=1", "!badges=2")
}

func TestReaderDoesNotWrite(t *testing.T) {
	st := open(t, t.TempDir(), small)
	err := st.View(t.Context(), func(r store.Reader) error {
		tx, ok := r.(store.Txn)
		if !ok {
			return nil
		}
		wantError(t, "Set through a Reader", set("k", "v")(tx), store.ErrReadOnly)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	wantContents(t, st)
}

func TestSyncOfLentDatabase(t *testing.T) {
	o := tiny(badger.DefaultOptions(t.TempDir())).WithValueDir(t.TempDir()).WithSyncWrites(false)
	db := openBadger(t, o)
	st := lend(t, db)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "Sync with a context that has ended", st.Sync(canceled), context.Canceled)

	// Memtables of 1 MiB rotate and are flushed, and their logs vanish, while Sync
	// looks at them.
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			inline, pointer := strings.Repeat("i", 1000), strings.Repeat("p", 2000)
			for i := 0; ctx.Err() == nil; i++ {
				err := st.Update(ctx, func(tx store.Txn) error {
					for j := range 50 {
						key := fmt.Sprintf("%d/%d/%d", w, i%100, j)
						if err := set(key, inline, key+"/p", pointer)(tx); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil && ctx.Err() == nil {
					t.Errorf("Update: %v", err)
					return
				}
			}
		})
	}
	for i := 0; i < 25 || len(db.Tables()) < 3; i++ {
		if err := st.Sync(t.Context()); err != nil {
			t.Errorf("Sync under load: %v", err)
		}
	}
	stop()
	wg.Wait()
}

func TestConflictNamesBothErrors(t *testing.T) {
	st := open(t, t.TempDir(), small)
	err := st.Update(t.Context(), func(tx store.Txn) error {
		_, err := tx.Get([]byte("k"))
		wantError(t, "Get", err, badger.ErrKeyNotFound)
		update(t, st, set("k", "rival"))
		return set("k", "v")(tx)
	})
	wantError(t, "Update", err, badger.ErrConflict)
	wantError(t, "Update", err, store.ErrConflict)
}
