package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
)

// A model is what a store must hold: the reference for scans.
type model map[string]string

// scan returns what collect returns for s over a store that holds m.
func (m model) scan(s store.Scan) []string {
	var keys []string
	for key := range m {
		order := bytes.Compare([]byte(key), s.From)
		passed := s.From != nil && (!s.Reverse && order < 0 || s.Reverse && order > 0)
		if strings.HasPrefix(key, string(s.Prefix)) && !passed {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if s.Reverse {
		slices.Reverse(keys)
	}
	var lines []string
	for _, key := range keys {
		if s.KeysOnly {
			lines = append(lines, line([]byte(key), nil))
		} else {
			lines = append(lines, line([]byte(key), []byte(m[key])))
		}
	}
	return lines
}

// scans returns every combination of prefixes and starts that engines get wrong:
// starts before, in, between and after the keys of the prefix, prefixes of 0xff
// that have no successor, and prefixes that no key has.
func scans() iter.Seq[store.Scan] {
	prefixes := []string{"", "\x00", "a", "a\x00", "a/", "aa", "a\xff", "b", "c", "\xfe", "\xff", "\xff\xff", "\xff\xff\xff"}
	starts := append([]string{"", "A", "a\x01", "a0", "aaa", "c", "\xff\x01", "\xff\xff\xff"}, orderedKeys...)
	return func(yield func(store.Scan) bool) {
		for _, prefix := range prefixes {
			for i := -1; i < len(starts); i++ {
				s := store.Scan{Prefix: []byte(prefix)}
				if i >= 0 {
					s.From = []byte(starts[i])
				}
				for _, s.Reverse = range []bool{false, true} {
					s.KeysOnly = len(prefix)%2 == 1
					if !yield(s) {
						return
					}
				}
			}
		}
	}
}

// wantScans fails the test unless every scan of r agrees with m.
func wantScans(t *testing.T, r store.Reader, m model) error {
	t.Helper()
	failures := 0
	for s := range scans() {
		got, err := collect(r, s)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(m.scan(s), got); diff != "" {
			from := "nil"
			if s.From != nil {
				from = fmt.Sprintf("%q", s.From)
			}
			t.Errorf("Scan{Prefix: %q, From: %s, Reverse: %t, KeysOnly: %t} (-want +got)\n%s", s.Prefix, from, s.Reverse, s.KeysOnly, diff)
			if failures++; failures == 5 {
				t.Fatal("further scans left out")
			}
		}
	}
	return nil
}

// abc is a store with five keys in two groups.
var abc = []store.Entry{entry("a/1", "1"), entry("a/2", "2"), entry("b/1", "3"), entry("b/2", "4"), entry("c", "5")}

var abcLines = []string{`"a/1"="1"`, `"a/2"="2"`, `"b/1"="3"`, `"b/2"="4"`, `"c"="5"`}

var scanChecks = []check{
	{"Scan/Empty", func(t *testing.T, st store.Store) {
		view(t, st, func(r store.Reader) error { return wantScans(t, r, model{}) })
	}},
	{"Scan/Ranges", func(t *testing.T, st store.Store) {
		m := model{}
		for i, key := range orderedKeys {
			m[key] = fmt.Sprint("value ", i)
			put(t, st, entry(key, m[key]))
		}
		view(t, st, func(r store.Reader) error { return wantScans(t, r, m) })
	}},
	{"Scan/OwnWrites", func(t *testing.T, st store.Store) {
		// Half of the keys come from the store, a third of those are deleted
		// or overwritten by the transaction itself, the rest are its own.
		m := model{}
		for i, key := range orderedKeys {
			if i%2 == 0 {
				m[key] = "committed"
				put(t, st, entry(key, m[key]))
			}
		}
		update(t, st, func(tx store.Txn) error {
			for i, key := range orderedKeys {
				var err error
				switch i % 6 {
				case 0:
					delete(m, key)
					err = tx.Delete([]byte(key))
				case 1, 2, 3:
					m[key] = "own write"
					err = tx.Set(entry(key, m[key]))
				case 5: // written and then deleted
					err = errors.Join(tx.Set(entry(key, "short-lived")), tx.Delete([]byte(key)))
				}
				if err != nil {
					return err
				}
			}
			return wantScans(t, tx, m)
		})
		view(t, st, func(r store.Reader) error { return wantScans(t, r, m) })
	}},
	{"Scan/Break", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		update(t, st, func(tx store.Txn) error {
			for range 3 {
				for e, err := range tx.Scan(store.Scan{}) {
					if err != nil {
						return err
					}
					if string(e.Key) == "a/2" {
						break
					}
				}
			}
			if got := get(t, tx, "c"); got != "5" {
				t.Errorf("Get after an early break = %q; want %q", got, "5")
			}
			return tx.Set(entry("d", "6"))
		})
		wantContents(t, st, "a transaction commits after an early break", append(abcLines, `"d"="6"`)...)
	}},
	{"Scan/Return", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		err := st.Update(t.Context(), func(tx store.Txn) error {
			for range tx.Scan(store.Scan{}) {
				return errCallback
			}
			return nil
		})
		wantError(t, "a callback may return from within a scan", err, errCallback)
		remove(t, st, "c")
		wantContents(t, st, "the store is usable afterwards", abcLines[:4]...)
	}},
	{"Scan/Pull", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		run := func(name string, transact func(fn func(store.Reader) error) error) {
			var next func() (store.Entry, error, bool)
			var stop func()
			if err := transact(func(r store.Reader) error {
				next, stop = iter.Pull2(r.Scan(store.Scan{}))
				if e, err, ok := next(); err != nil || !ok || string(e.Key) != "a/1" {
					t.Errorf("%s: first pull = %q, %v, %t", name, e.Key, err, ok)
				}
				return nil
			}); err != nil {
				t.Errorf("%s that ends with a scan open: %v; want nil", name, err)
			}
			if e, err, ok := next(); ok && !errors.Is(err, store.ErrTxnDone) {
				t.Errorf("%s: a scan goes on after the callback returned: %q, %v; want ErrTxnDone", name, e.Key, err)
			}
			stop()
		}
		run("View", func(fn func(store.Reader) error) error { return st.View(t.Context(), fn) })
		run("Update", func(fn func(store.Reader) error) error {
			return st.Update(t.Context(), func(tx store.Txn) error {
				return errors.Join(fn(tx), tx.Set(entry("d", "6")))
			})
		})
		wantContents(t, st, "a transaction commits with a scan left open", append(abcLines, `"d"="6"`)...)
	}},
	{"Scan/PullStoppedLate", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		var stop func()
		view(t, st, func(r store.Reader) error {
			var next func() (store.Entry, error, bool)
			next, stop = iter.Pull2(r.Scan(store.Scan{}))
			next()
			return nil
		})
		stop()
		wantContents(t, st, "a scan may be stopped after the callback returned", abcLines...)
	}},
	{"Scan/Nested", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		nested := func(r store.Reader) error {
			var got []string
			for outer, err := range r.Scan(store.Scan{Prefix: []byte("a/")}) {
				if err != nil {
					return err
				}
				for inner, err := range r.Scan(store.Scan{Prefix: []byte("b/"), Reverse: true}) {
					if err != nil {
						return err
					}
					got = append(got, fmt.Sprintf("%s %s", outer.Key, inner.Key))
				}
			}
			want := []string{"a/1 b/2", "a/1 b/1", "a/2 b/2", "a/2 b/1"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("scans may be nested: (-want +got)\n%s", diff)
			}
			return nil
		}
		view(t, st, nested)
		update(t, st, func(tx store.Txn) error {
			return errors.Join(nested(tx), tx.Set(entry("d", "6")), nested(tx))
		})
	}},
	{"Scan/Twice", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		view(t, st, func(r store.Reader) error {
			seq := r.Scan(store.Scan{})
			for range 2 {
				var got []string
				for e, err := range seq {
					if err != nil {
						return err
					}
					got = append(got, line(e.Key, e.Value))
				}
				if diff := cmp.Diff(abcLines, got); diff != "" {
					t.Errorf("a sequence can be ranged over again: (-want +got)\n%s", diff)
				}
			}
			return nil
		})
	}},
	{"Scan/Error", func(t *testing.T, st store.Store) {
		put(t, st, abc...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := st.View(ctx, func(r store.Reader) error {
			var entries, faults int
			for e, err := range r.Scan(store.Scan{}) {
				switch {
				case err == nil && faults == 0:
					entries++
				case err == nil:
					t.Errorf("Scan yields %q after an error; want the error to end the sequence", e.Key)
				default:
					faults++
					wantError(t, "a scan whose context ends", err, context.Canceled)
					if diff := cmp.Diff(store.Entry{}, e); diff != "" {
						t.Errorf("an error comes with a zero Entry: (-want +got)\n%s", diff)
					}
				}
				cancel()
			}
			if entries != 1 || faults != 1 {
				t.Errorf("Scan yields %d entries and %d errors after the context ended; want 1 and 1", entries, faults)
			}
			return errCallback
		})
		wantError(t, "View returns the callback's error", err, errCallback)
	}},
	{"Scan/Large", func(t *testing.T, st store.Store) {
		// More than any prefetch, written over several transactions, with gaps.
		m := model{}
		for i := range 40 {
			update(t, st, func(tx store.Txn) error {
				for j := range 50 {
					key := fmt.Sprintf("%03d/%03d", j, i)
					m[key] = strings.Repeat("v", i)
					if err := tx.Set(entry(key, m[key])); err != nil {
						return err
					}
				}
				return nil
			})
		}
		var gone []string
		for key := range m {
			if strings.HasPrefix(key, "02") || strings.HasSuffix(key, "7") {
				delete(m, key)
				gone = append(gone, key)
			}
		}
		for part := range slices.Chunk(gone, min(len(gone), st.Limits().TxnEntries)) {
			update(t, st, func(tx store.Txn) error {
				for _, key := range part {
					if err := tx.Delete([]byte(key)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		view(t, st, func(r store.Reader) error {
			for _, s := range []store.Scan{
				{},
				{Reverse: true},
				{Prefix: []byte("01"), From: []byte("015/017")},
				{Prefix: []byte("01"), From: []byte("015/017"), Reverse: true},
				{From: []byte("025"), KeysOnly: true},
				{From: []byte("025"), Reverse: true, KeysOnly: true},
			} {
				got, err := collect(r, s)
				if err != nil {
					return err
				}
				if diff := cmp.Diff(m.scan(s), got); diff != "" {
					t.Errorf("Scan%+v of %d entries (-want +got)\n%s", s, len(m), diff)
				}
			}
			return nil
		})
	}},
}
