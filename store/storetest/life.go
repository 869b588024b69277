package storetest

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
)

var lifeChecks = []check{
	{"Done/Reader", func(t *testing.T, st store.Store) {
		put(t, st, entry("k", "v"))
		var stale store.Reader
		view(t, st, func(r store.Reader) error { stale = r; return nil })
		_, err := stale.Get([]byte("k"))
		wantError(t, "Get after View returned", err, store.ErrTxnDone)
		wantError(t, "Scan after View returned", scanError(stale), store.ErrTxnDone)
	}},
	{"Done/Txn", func(t *testing.T, st store.Store) {
		for _, end := range []struct {
			name string
			run  func(tx store.Txn) error
		}{
			{"committed", func(tx store.Txn) error { return tx.Set(entry("k", "v")) }},
			{"wrote nothing", func(store.Txn) error { return nil }},
			{"failed", func(tx store.Txn) error { return errCallback }},
			{"had a failed write", func(tx store.Txn) error { return tx.Set(entry("", "v")) }},
		} {
			var stale store.Txn
			_ = st.Update(t.Context(), func(tx store.Txn) error { stale = tx; return end.run(tx) })
			for _, op := range operations {
				wantError(t, op.name+" after an Update that "+end.name, op.run(stale), store.ErrTxnDone)
			}
		}
		wantContents(t, st, "nothing is written after Update returned", `"k"="v"`)
	}},
	{"Close", func(t *testing.T, st store.Store) {
		put(t, st, entry("k", "v"))
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := st.Close(); err != nil {
			t.Errorf("Close of a closed store: %v; want nil", err)
		}
		called := false
		fn := func(store.Reader) error { called = true; return nil }
		ctx := t.Context()
		wantError(t, "View of a closed store", st.View(ctx, fn), store.ErrClosed)
		wantError(t, "Update of a closed store", st.Update(ctx, func(tx store.Txn) error { return fn(tx) }), store.ErrClosed)
		wantError(t, "store.Update of a closed store", store.Update(ctx, st, func(tx store.Txn) error { return fn(tx) }), store.ErrClosed)
		wantError(t, "Sync of a closed store", st.Sync(ctx), store.ErrClosed)
		if called {
			t.Error("a callback ran on a closed store")
		}
	}},
	{"Close/Waits", func(t *testing.T, st store.Store) {
		put(t, st, entry("k", "v"))
		var finished atomic.Bool
		closed := make(chan error)
		err := st.Update(t.Context(), func(tx store.Txn) error {
			go func() {
				err := st.Close()
				if !finished.Load() {
					t.Error("Close returned before a running transaction had ended")
				}
				closed <- err
			}()
			for range 1000 {
				if got := get(t, tx, "k"); got != "v" {
					t.Errorf("Get while Close waits = %q; want %q", got, "v")
				}
			}
			finished.Store(true)
			return tx.Set(entry("k", "w"))
		})
		if err != nil {
			t.Errorf("Update that was running when Close was called: %v; want it to commit", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
	}},
	{"Close/Stale", func(t *testing.T, st store.Store) {
		var stale store.Txn
		update(t, st, func(tx store.Txn) error { stale = tx; return nil })
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for _, op := range operations {
			wantError(t, op.name+" after Update returned and the store was closed", op.run(stale), store.ErrTxnDone)
		}
	}},
	{"Sync", func(t *testing.T, st store.Store) {
		for _, write := range []bool{false, true, false} {
			if write {
				put(t, st, abc...)
			}
			if err := st.Sync(t.Context()); err != nil {
				t.Errorf("Sync (after a write: %t): %v", write, err)
			}
		}
		wantContents(t, st, "Sync changes nothing", abcLines...)
	}},
	{"Sync/Inside", func(t *testing.T, st store.Store) {
		update(t, st, func(tx store.Txn) error {
			if err := st.Sync(t.Context()); err != nil {
				t.Errorf("Sync inside a transaction: %v", err)
			}
			return tx.Set(entry("k", "v"))
		})
	}},
	{"Errors/Secrets", func(t *testing.T, st store.Store) {
		const secret = "hunter2-secret"
		key, value := []byte(secret+"-key"), []byte(secret+"-value")
		long := []byte(secret + strings.Repeat("k", st.Limits().KeyBytes))
		harmless := func(name string, err error, want []byte) {
			t.Helper()
			var e *store.Error
			switch {
			case err == nil:
				t.Errorf("%s: no error", name)
			case strings.Contains(err.Error(), secret):
				t.Errorf("%s: error %q; want neither key nor value in the text", name, err)
			case !errors.As(err, &e):
				t.Errorf("%s: error is a %T; want a *store.Error", name, err)
			case !bytes.Equal(want, e.Key):
				t.Errorf("%s: Error.Key = %.40q; want %.40q", name, e.Key, want)
			}
		}
		var stale store.Txn
		err := st.Update(t.Context(), func(tx store.Txn) error {
			stale = tx
			_, err := tx.Get(key)
			harmless("Get of an absent key", err, key)
			harmless("Set of a long key", tx.Set(store.Entry{Key: long, Value: value}), long)
			return nil
		})
		harmless("Update with a failed write", err, long)
		err = st.Update(t.Context(), func(tx store.Txn) error { return tx.Delete(long) })
		harmless("Delete of a long key", err, long)
		if n := st.Limits().ValueBytes; n < affordableBytes {
			big := append(make([]byte, n), value...)
			err = st.Update(t.Context(), func(tx store.Txn) error { return tx.Set(store.Entry{Key: key, Value: big}) })
			harmless("Set of a long value", err, key)
		}
		_, err = stale.Get(key)
		harmless("Get after the end", err, key)
		harmless("Set after the end", stale.Set(store.Entry{Key: key, Value: value}), key)
		harmless("Delete after the end", stale.Delete(key), key)
		harmless("Scan after the end", func() error {
			for _, err := range stale.Scan(store.Scan{Prefix: key, From: key}) {
				return err
			}
			return nil
		}(), nil)

		put(t, st, store.Entry{Key: key, Value: value})
		err = st.Update(t.Context(), func(tx store.Txn) error {
			_ = get(t, tx, string(key))
			put(t, st, store.Entry{Key: key, Value: append(value, '2')})
			return tx.Set(store.Entry{Key: key, Value: value})
		})
		wantError(t, "a key changed by another transaction", err, store.ErrConflict)
		harmless("Update with a conflict", err, nil)
	}},
}
