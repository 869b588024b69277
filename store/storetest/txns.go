package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
)

var txnChecks = []check{
	{"Txn/OwnWrites", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "old"), entry("b", "old"))
		update(t, st, func(tx store.Txn) error {
			if err := errors.Join(tx.Set(entry("a", "new")), tx.Delete([]byte("b")), tx.Set(entry("c", "new"))); err != nil {
				return err
			}
			for _, key := range []string{"a", "c"} {
				if got := get(t, tx, key); got != "new" {
					t.Errorf("Get(%q) = %q after an own Set; want %q", key, got, "new")
				}
			}
			_, err := tx.Get([]byte("b"))
			wantError(t, "Get after an own Delete", err, store.ErrNotFound)
			return errors.Join(tx.Delete([]byte("c")), tx.Set(entry("b", "again")))
		})
		wantContents(t, st, "the last write of a transaction wins", `"a"="new"`, `"b"="again"`)
	}},
	{"Txn/Isolation", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		old := model{"a/1": "1", "a/2": "2", "b/1": "3", "b/2": "4", "c": "5"}
		rival := func() {
			update(t, st, func(tx store.Txn) error {
				return errors.Join(tx.Set(entry("a/1", "changed")), tx.Set(entry("a/3", "new")), tx.Delete([]byte("c")))
			})
		}
		unchanged := func(r store.Reader) error {
			if got := get(t, r, "a/1") + get(t, r, "c"); got != "15" {
				t.Errorf("Get sees %q of a transaction that committed after the snapshot was taken; want %q", got, "15")
			}
			_, err := r.Get([]byte("a/3"))
			wantError(t, "Get of a key inserted after the snapshot was taken", err, store.ErrNotFound)
			return wantScans(t, r, old)
		}
		view(t, st, func(r store.Reader) error {
			rival()
			return unchanged(r)
		})
		wantContents(t, st, "the rival committed", `"a/1"="changed"`, `"a/2"="2"`, `"a/3"="new"`, `"b/1"="3"`, `"b/2"="4"`)

		update(t, st, func(tx store.Txn) error { return errors.Join(setAll(abc...)(tx), tx.Delete([]byte("a/3"))) })
		err := st.Update(t.Context(), func(tx store.Txn) error {
			rival()
			return errors.Join(unchanged(tx), errCallback)
		})
		wantError(t, "Update reads one snapshot", err, errCallback)
	}},
	{"Txn/CallbackError", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "1"))
		if err := st.View(t.Context(), func(store.Reader) error { return errCallback }); err != errCallback {
			t.Errorf("View = %v; want the callback's error unchanged", err)
		}
		err := st.Update(t.Context(), func(tx store.Txn) error {
			if err := errors.Join(tx.Set(entry("b", "2")), tx.Delete([]byte("a"))); err != nil {
				return err
			}
			return errCallback
		})
		if err != errCallback {
			t.Errorf("Update = %v; want the callback's error unchanged", err)
		}
		wantContents(t, st, "an error of the callback writes nothing", `"a"="1"`)
	}},
	{"Txn/Panic", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		panics := func(name string, fn func() error) {
			defer func() {
				if got := recover(); got != errCallback {
					t.Errorf("%s whose callback panics: recovered %v; want the callback's own panic", name, got)
				}
			}()
			t.Errorf("%s = %v after its callback panicked; want the panic to go on", name, fn())
		}
		panics("View", func() error {
			return st.View(t.Context(), func(r store.Reader) error {
				for range r.Scan(store.Scan{}) {
					panic(errCallback)
				}
				return nil
			})
		})
		panics("Update", func() error {
			return st.Update(t.Context(), func(tx store.Txn) error {
				if err := tx.Set(entry("d", "6")); err != nil {
					return err
				}
				for range tx.Scan(store.Scan{}) {
					panic(errCallback)
				}
				return nil
			})
		})
		wantContents(t, st, "a panic of the callback writes nothing", abcLines...)
		put(t, st, entry("e", "7"))
		wantContents(t, st, "the store is usable after a panic", append(abcLines, `"e"="7"`)...)
	}},
	{"Txn/Goexit", func(t *testing.T, st store.Store) {
		// t.FailNow in a callback ends its goroutine; Close must not wait for it.
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = st.Update(t.Context(), func(tx store.Txn) error {
				if err := tx.Set(entry("a", "1")); err != nil {
					return err
				}
				runtime.Goexit()
				return nil
			})
		}()
		<-done
		wantContents(t, st, "a callback that ends its goroutine writes nothing")
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}},
	{"Txn/Poisoned", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "1"))
		long := string(bytes.Repeat([]byte("k"), st.Limits().KeyBytes+1))
		for _, bad := range []struct {
			name  string
			write func(tx store.Txn) error
			want  error
		}{
			{"Set of an empty key", func(tx store.Txn) error { return tx.Set(entry("", "v")) }, store.ErrInvalidKey},
			{"Set of a long key", func(tx store.Txn) error { return tx.Set(entry(long, "v")) }, store.ErrInvalidKey},
			{"Delete of an empty key", func(tx store.Txn) error { return tx.Delete(nil) }, store.ErrInvalidKey},
		} {
			var first error
			err := st.Update(t.Context(), func(tx store.Txn) error {
				if err := errors.Join(tx.Set(entry("b", "2")), tx.Delete([]byte("a"))); err != nil {
					return err
				}
				first = bad.write(tx)
				wantError(t, bad.name, first, bad.want)
				_ = tx.Set(entry("c", "3"))
				return nil // the mistake that must not commit half a transaction
			})
			if err == nil || !errors.Is(err, first) {
				t.Errorf("%s, its error dropped: Update = %v; want the error of the first failed write, %v", bad.name, err, first)
			}
			wantContents(t, st, bad.name+", its error dropped, writes nothing", `"a"="1"`)
		}
	}},
	{"Conflict/Reads", func(t *testing.T, st store.Store) {
		for _, read := range []struct {
			name string
			run  func(tx store.Txn) error
		}{
			{"Get", func(tx store.Txn) error { _, err := tx.Get([]byte("p/k")); return err }},
			{"Scan", func(tx store.Txn) error { _, err := collect(tx, store.Scan{Prefix: []byte("p/")}); return err }},
			{"reverse Scan", func(tx store.Txn) error {
				_, err := collect(tx, store.Scan{Prefix: []byte("p/"), Reverse: true})
				return err
			}},
			{"Scan of keys", func(tx store.Txn) error {
				_, err := collect(tx, store.Scan{Prefix: []byte("p/"), KeysOnly: true})
				return err
			}},
		} {
			for _, rival := range []struct {
				name string
				run  func(tx store.Txn) error
			}{
				{"overwritten", func(tx store.Txn) error { return tx.Set(entry("p/k", "2")) }},
				{"deleted", func(tx store.Txn) error { return tx.Delete([]byte("p/k")) }},
			} {
				put(t, st, entry("p/k", "1"))
				err := st.Update(t.Context(), func(tx store.Txn) error {
					if err := read.run(tx); err != nil {
						return err
					}
					update(t, st, rival.run)
					return tx.Set(entry("out", "lost"))
				})
				clause := fmt.Sprintf("a key read by %s and then %s by another transaction", read.name, rival.name)
				wantError(t, clause, err, store.ErrConflict)
				view(t, st, func(r store.Reader) error {
					_, err := r.Get([]byte("out"))
					wantError(t, "Get of what a transaction with a conflict wrote", err, store.ErrNotFound)
					return nil
				})
			}
		}
	}},
	{"Conflict/Absent", func(t *testing.T, st store.Store) {
		// Two transactions insert the same key, each having seen it absent.
		insert := func(value string, then func()) error {
			return st.Update(t.Context(), func(tx store.Txn) error {
				_, err := tx.Get([]byte("lock"))
				wantError(t, "Get of an absent key", err, store.ErrNotFound)
				then()
				return tx.Set(entry("lock", value))
			})
		}
		err := insert("loser", func() {
			if err := insert("winner", func() {}); err != nil {
				t.Errorf("the first of two inserts: %v; want it to commit", err)
			}
		})
		wantError(t, "the second insert of a key that both had seen absent", err, store.ErrConflict)
		wantContents(t, st, "one of two inserts commits", `"lock"="winner"`)
	}},
	{"Conflict/AbsentConcurrent", func(t *testing.T, st store.Store) {
		// The same with transactions that commit at the same moment.
		const rivals = 4
		var wg sync.WaitGroup
		errs := make([]error, rivals)
		for i := range rivals {
			wg.Go(func() {
				errs[i] = st.Update(t.Context(), func(tx store.Txn) error {
					if _, err := tx.Get([]byte("lock")); !errors.Is(err, store.ErrNotFound) {
						return errCallback // came too late
					}
					return tx.Set(entry("lock", fmt.Sprint(i)))
				})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, store.ErrConflict) && err != errCallback:
				t.Errorf("insert: %v; want nil, ErrConflict or the callback's error", err)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d transactions inserted the same absent key; want one", won, rivals)
		}
	}},
	{"Conflict/Disjoint", func(t *testing.T, st store.Store) {
		// The rival writes right beside what the transaction read.
		put(t, st, entry("a/z", "1"), entry("b/1", "2"), entry("b/2", "3"), entry("c/a", "4"))
		for _, s := range []store.Scan{
			{Prefix: []byte("b/")},
			{Prefix: []byte("b/"), Reverse: true},
			{Prefix: []byte("b/"), From: []byte("b/1"), Reverse: true},
		} {
			err := st.Update(t.Context(), func(tx store.Txn) error {
				if _, err := collect(tx, s); err != nil {
					return err
				}
				_ = get(t, tx, "b/1")
				put(t, st, entry("a/z", "rival"), entry("c/a", "rival"))
				return tx.Set(entry("b/1", "x"))
			})
			if err != nil {
				t.Errorf("Update after a scan of b/ (reverse: %t) while another transaction changed a/z and c/a: %v; want it to commit", s.Reverse, err)
			}
		}
		wantContents(t, st, "transactions on disjoint keys both commit",
			`"a/z"="rival"`, `"b/1"="x"`, `"b/2"="3"`, `"c/a"="rival"`)
	}},
	{"Conflict/Break", func(t *testing.T, st store.Store) {
		// A scan protects what it yielded, not what lies beyond.
		put(t, st, abc...)
		err := st.Update(t.Context(), func(tx store.Txn) error {
			for range tx.Scan(store.Scan{}) {
				break
			}
			put(t, st, entry("b/2", "rival"), entry("c", "rival"))
			return tx.Set(entry("d", "6"))
		})
		if err != nil {
			t.Errorf("Update after a scan of one entry while another transaction changed later ones: %v; want it to commit", err)
		}
	}},
	{"Conflict/Counter", func(t *testing.T, st store.Store) {
		const goroutines, increments = 16, 10
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range increments {
					if err := store.Update(t.Context(), st, increment); err != nil {
						t.Errorf("store.Update: %v; want it to retry conflicts", err)
						return
					}
				}
			})
		}
		wg.Wait()
		view(t, st, func(r store.Reader) error {
			if got := binary.BigEndian.Uint64([]byte(get(t, r, "counter"))); got != goroutines*increments {
				t.Errorf("counter = %d after %d increments; want none lost", got, goroutines*increments)
			}
			return nil
		})
	}},
	{"Conflict/ContextEnds", func(t *testing.T, st store.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		attempts := 0
		err := store.Update(ctx, st, func(tx store.Txn) error {
			if attempts++; attempts == 3 {
				cancel()
			}
			if _, err := tx.Get([]byte("k")); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			put(t, st, entry("k", fmt.Sprint("rival ", attempts)))
			return tx.Set(entry("k", "lost"))
		})
		wantError(t, "store.Update whose context ends while it conflicts", err, context.Canceled)
		if attempts != 3 {
			t.Errorf("store.Update ran the callback %d times; want no attempt after the third, in which the context ended", attempts)
		}
		if got := contents(t, st); len(got) != 1 || !strings.Contains(got[0], "rival") {
			t.Errorf("contents = %v; want only the rival's write", got)
		}
	}},
	{"Context/Before", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "1"))
		ctx := canceled(t)
		called := false
		fn := func(store.Reader) error { called = true; return nil }
		wantError(t, "View with a context that has ended", st.View(ctx, fn), context.Canceled)
		wantError(t, "Update with a context that has ended", st.Update(ctx, func(tx store.Txn) error { return fn(tx) }), context.Canceled)
		wantError(t, "store.Update with a context that has ended", store.Update(ctx, st, func(tx store.Txn) error { return fn(tx) }), context.Canceled)
		if called {
			t.Error("the callback ran although the context had ended")
		}
	}},
	{"Context/Inside", func(t *testing.T, st store.Store) {
		put(t, st, entry("k", "1"))
		for _, op := range operations {
			ctx, cancel := context.WithCancel(t.Context())
			err := st.Update(ctx, func(tx store.Txn) error {
				if err := tx.Set(entry("k", "2")); err != nil {
					return err
				}
				cancel()
				wantError(t, op.name+" after the context ended", op.run(tx), context.Canceled)
				return nil // the mistake that must not commit
			})
			wantError(t, "Update whose context ended in the callback, "+op.name+"'s error dropped", err, context.Canceled)
			wantContents(t, st, "an Update whose context ended writes nothing", `"k"="1"`)
		}
	}},
	{"Context/AtEnd", func(t *testing.T, st store.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		err := st.Update(ctx, func(tx store.Txn) error {
			defer cancel()
			return tx.Set(entry("k", "1"))
		})
		wantError(t, "Update whose context ends as the callback returns", err, context.Canceled)
		wantContents(t, st, "an Update whose context ended writes nothing")
	}},
	{"Context/Value", func(t *testing.T, st store.Store) {
		// The cause of the end stays with the context, the error is its Err.
		ctx, cancel := context.WithTimeoutCause(t.Context(), 0, errCallback)
		defer cancel()
		err := st.View(ctx, func(store.Reader) error { return nil })
		wantError(t, "View with a deadline that has passed", err, context.DeadlineExceeded)
	}},
}

// increment adds one to the key "counter".
func increment(tx store.Txn) error {
	var n uint64
	switch e, err := tx.Get([]byte("counter")); {
	case err == nil:
		n = binary.BigEndian.Uint64(e.Value)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return tx.Set(store.Entry{Key: []byte("counter"), Value: binary.BigEndian.AppendUint64(nil, n+1)})
}
