package storetest

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
)

var entryChecks = []check{
	{"Get/Absent", func(t *testing.T, st store.Store) {
		put(t, st, entry("b", "1"))
		view(t, st, func(r store.Reader) error {
			for _, key := range []string{"a", "b\x00", "c", "\x00", "\xff"} {
				_, err := r.Get([]byte(key))
				wantError(t, "Get of an absent key", err, store.ErrNotFound)
			}
			return nil
		})
	}},
	{"Get/Key", func(t *testing.T, st store.Store) {
		put(t, st, entry("k", "v"))
		view(t, st, func(r store.Reader) error {
			e, err := r.Get([]byte("k"))
			if err != nil {
				return err
			}
			if diff := cmp.Diff(entry("k", "v"), e); diff != "" {
				t.Errorf("Get returns the entry (-want +got)\n%s", diff)
			}
			return nil
		})
	}},
	{"Set/Overwrite", func(t *testing.T, st store.Store) {
		put(t, st, entry("k", "long first value"))
		put(t, st, entry("k", "2"))
		wantContents(t, st, "the last Set wins", `"k"="2"`)
	}},
	{"Delete", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "1"), entry("b", "2"), entry("c", "3"))
		remove(t, st, "b")
		remove(t, st, "absent")
		wantContents(t, st, "Delete removes one key, and an absent one without error", `"a"="1"`, `"c"="3"`)
		put(t, st, entry("b", "4"))
		wantContents(t, st, "a deleted key can be set again", `"a"="1"`, `"b"="4"`, `"c"="3"`)
	}},
	{"Value/Empty", func(t *testing.T, st store.Store) {
		put(t, st, store.Entry{Key: []byte("nil")}, store.Entry{Key: []byte("zero"), Value: []byte{}})
		view(t, st, func(r store.Reader) error {
			for _, key := range []string{"nil", "zero"} {
				if got := get(t, r, key); got != "" {
					t.Errorf("Get(%q) = %q; want the empty value that was set", key, got)
				}
			}
			n := 0
			for e, err := range r.Scan(store.Scan{}) {
				if err != nil {
					return err
				}
				if len(e.Value) != 0 {
					t.Errorf("Scan yields %q for %q; want the empty value that was set", e.Value, e.Key)
				}
				n++
			}
			if n != 2 {
				t.Errorf("Scan yields %d entries; want both entries with an empty value", n)
			}
			return nil
		})
	}},
	{"Value/Lengths", func(t *testing.T, st store.Store) {
		// Engines keep values in different places by their length.
		lengths := slices.DeleteFunc(
			[]int{1, 2, 31, 127, 128, 255, 256, 1023, 1024, 1 << 14, 1<<16 - 1, 1 << 16},
			func(n int) bool { return n > st.Limits().ValueBytes })
		update(t, st, func(tx store.Txn) error {
			for i, n := range lengths {
				key := strings.Repeat("k", i+1)
				if err := tx.Set(entry(key, strings.Repeat("v", n))); err != nil {
					return err
				}
				if got := len(get(t, tx, key)); got != n {
					t.Errorf("within the transaction Get returns %d bytes of a value of %d", got, n)
				}
			}
			return nil
		})
		view(t, st, func(r store.Reader) error {
			for i, n := range lengths {
				if got := len(get(t, r, strings.Repeat("k", i+1))); got != n {
					t.Errorf("Get returns %d bytes of a value of %d", got, n)
				}
			}
			return nil
		})
	}},
	{"Expiry", func(t *testing.T, st store.Store) {
		now := uint64(time.Now().Unix())
		past, future := entry("past", "v"), entry("future", "v")
		past.ExpiresAt, future.ExpiresAt = now-3600, now+3600
		err := st.Update(t.Context(), func(tx store.Txn) error {
			if err := setAll(past, future, entry("never", "v"))(tx); err != nil {
				return err
			}
			_, err := tx.Get(past.Key)
			wantError(t, "Get of an own write past its expiry", err, store.ErrNotFound)
			return nil
		})
		if errors.Is(err, store.ErrUnsupported) {
			wantContents(t, st, "a Set that is not supported writes nothing")
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		wantContents(t, st, "an entry past its expiry is not scanned", `"future"="v"`, `"never"="v"`)
		view(t, st, func(r store.Reader) error {
			_, err := r.Get(past.Key)
			wantError(t, "Get of an entry past its expiry", err, store.ErrNotFound)
			return nil
		})
		wantEntries(t, st, "the expiry is kept", future, entry("never", "v"))

		put(t, st, entry("future", "v"))
		wantEntries(t, st, "Set replaces an entry with its expiry", entry("future", "v"), entry("never", "v"))
	}},
	{"Meta", func(t *testing.T, st store.Store) {
		e := entry("k", "v")
		e.Meta = 0xa5
		err := st.Update(t.Context(), setAll(e))
		if errors.Is(err, store.ErrUnsupported) {
			wantContents(t, st, "a Set that is not supported writes nothing")
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		wantEntries(t, st, "the user meta is kept", e)
		put(t, st, entry("k", "v"))
		wantEntries(t, st, "Set replaces an entry with its user meta", entry("k", "v"))
	}},
	{"Order", func(t *testing.T, st store.Store) {
		var want []string
		for _, key := range orderedKeys {
			want = append(want, line([]byte(key), []byte("v")))
		}
		// Neither the order of insertion nor that of transactions may show.
		for i := range orderedKeys {
			put(t, st, entry(orderedKeys[i*7%len(orderedKeys)], "v"))
		}
		wantContents(t, st, "keys order by bytes.Compare", want...)
	}},
	{"Alias/Set", func(t *testing.T, st store.Store) {
		update(t, st, func(tx store.Txn) error {
			key, value := []byte("key"), []byte("value")
			if err := tx.Set(store.Entry{Key: key, Value: value}); err != nil {
				return err
			}
			copy(key, "XXX")
			copy(value, "XXXXX")
			if got := get(t, tx, "key"); got != "value" {
				t.Errorf("Get = %q after the caller changed the slice it had passed to Set; want %q, because Set does not retain it", got, "value")
			}
			return nil
		})
		wantContents(t, st, "Set does not retain the caller's slices", `"key"="value"`)
	}},
	{"Alias/SetReused", func(t *testing.T, st store.Store) {
		// One buffer for all writes, as a loop over a scan has it.
		update(t, st, func(tx store.Txn) error {
			buf := make([]byte, 1)
			for _, c := range []byte("abc") {
				buf[0] = c
				if err := tx.Set(store.Entry{Key: buf, Value: buf}); err != nil {
					return err
				}
			}
			return nil
		})
		wantContents(t, st, "Set does not retain the caller's slices", `"a"="a"`, `"b"="b"`, `"c"="c"`)
	}},
	{"Alias/Delete", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "1"), entry("b", "2"))
		update(t, st, func(tx store.Txn) error {
			key := []byte("a")
			if err := tx.Delete(key); err != nil {
				return err
			}
			key[0] = 'b'
			return nil
		})
		wantContents(t, st, "Delete does not retain the caller's slice", `"b"="2"`)
	}},
	{"Alias/Get", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "committed"))
		update(t, st, func(tx store.Txn) error {
			if err := tx.Set(entry("b", "own write")); err != nil {
				return err
			}
			for _, key := range []string{"a", "b"} {
				e, err := tx.Get([]byte(key))
				if err != nil {
					return err
				}
				for i := range e.Value {
					e.Value[i] = 'X'
				}
				_ = append(e.Value, "XXXX"...)
			}
			return nil
		})
		wantContents(t, st, "the caller owns the Value of Get", `"a"="committed"`, `"b"="own write"`)
	}},
	{"Alias/Scan", func(t *testing.T, st store.Store) {
		put(t, st, entry("a", "1"), entry("b", "2"), entry("c", "3"))
		update(t, st, func(tx store.Txn) error {
			for e, err := range tx.Scan(store.Scan{}) {
				if err != nil {
					return err
				}
				// The yielded slices die with the iteration, what was Set must not.
				if err := tx.Set(store.Entry{Key: e.Key, Value: append(e.Value, '!')}); err != nil {
					return err
				}
			}
			return nil
		})
		wantContents(t, st, "a yielded key can be Set while the scan goes on", `"a"="1!"`, `"b"="2!"`, `"c"="3!"`)
	}},
	{"InvalidKey", func(t *testing.T, st store.Store) {
		long := bytes.Repeat([]byte("k"), st.Limits().KeyBytes+1)
		for name, key := range map[string][]byte{"nil": nil, "empty": {}, "too long": long} {
			err := st.Update(t.Context(), func(tx store.Txn) error { return tx.Set(store.Entry{Key: key}) })
			wantError(t, "Set of a key that is "+name, err, store.ErrInvalidKey)
			err = st.Update(t.Context(), func(tx store.Txn) error { return tx.Delete(key) })
			wantError(t, "Delete of a key that is "+name, err, store.ErrInvalidKey)
		}
		view(t, st, func(r store.Reader) error {
			if _, err := r.Get(long); !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrInvalidKey) {
				t.Errorf("Get of a key that is too long: error = %v; want ErrNotFound or ErrInvalidKey", err)
			}
			_, err := r.Get(nil)
			wantError(t, "Get of the empty key", err, store.ErrInvalidKey)
			return nil
		})
		wantContents(t, st, "an invalid key writes nothing")
	}},
}

// orderedKeys are keys that engines get wrong, in the order of bytes.Compare.
// Their number is prime, so that i*7 modulo it is a permutation.
var orderedKeys = []string{
	"\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "!", "/",
	"a", "a\x00", "a\x00\x00", "a\x00\xff", "a/", "aa", "ab", "a\xff", "b",
	"\x7f", "\x80", "é", "\xfe\xff", "\xff", "\xff\x00", "\xff\xff",
}

// wantEntries fails the test unless both a scan and Get return want in full,
// because of what clause demands.
func wantEntries(t *testing.T, st store.Store, clause string, want ...store.Entry) {
	t.Helper()
	view(t, st, func(r store.Reader) error {
		var scanned, got []store.Entry
		for e, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
			scanned = append(scanned, e)
			e, err = r.Get(e.Key)
			if err != nil {
				return err
			}
			got = append(got, e)
		}
		if diff := cmp.Diff(want, scanned); diff != "" {
			t.Errorf("%s, in Scan: (-want +got)\n%s", clause, diff)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, in Get: (-want +got)\n%s", clause, diff)
		}
		return nil
	})
}
