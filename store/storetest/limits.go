package storetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
)

// What a limit may cost to try: beyond it the case is left to the implementation.
const (
	affordableEntries = 200_000
	affordableBytes   = 64 << 20
)

var limitChecks = []check{
	{"Limits/Sane", func(t *testing.T, st store.Store) {
		l := st.Limits()
		if l.TxnEntries <= 0 || l.TxnBytes <= 0 || l.KeyBytes <= 0 || l.ValueBytes <= 0 || l.EntryOverhead < 0 || l.TornValueBytes < 0 {
			t.Errorf("Limits = %+v; want positive bounds", l)
		}
		put(t, st, abc...)
		if diff := cmp.Diff(l, st.Limits()); diff != "" {
			t.Errorf("Limits do not change during the life of the store (-first +second)\n%s", diff)
		}
	}},
	{"Limits/Key", func(t *testing.T, st store.Store) {
		n := st.Limits().KeyBytes
		if n > affordableBytes {
			return
		}
		// Two keys that differ in the last byte only.
		a, b := bytes.Repeat([]byte("k"), n), bytes.Repeat([]byte("k"), n)
		b[n-1] = 'l'
		for _, key := range [][]byte{a, b} {
			put(t, st, store.Entry{Key: key, Value: key[n-1:]})
		}
		view(t, st, func(r store.Reader) error {
			for _, key := range [][]byte{a, b} {
				if got := get(t, r, string(key)); got != string(key[n-1:]) {
					t.Errorf("Get of a key of %d bytes = %q; want %q", n, got, key[n-1:])
				}
			}
			got, err := collect(r, store.Scan{Prefix: a[:n-1], From: b})
			if want := []string{line(b, b[n-1:])}; !cmp.Equal(want, got) {
				t.Errorf("Scan from a key of %d bytes yields %d entries; want that key", n, len(got))
			}
			return err
		})
	}},
	{"Limits/Reserved", func(t *testing.T, st store.Store) {
		reserved := []byte(st.Limits().Reserved)
		if len(reserved) == 0 {
			return
		}
		err := st.Update(t.Context(), func(tx store.Txn) error { return tx.Set(store.Entry{Key: reserved}) })
		if !errors.Is(err, store.ErrInvalidKey) {
			t.Errorf("Set of a reserved key = %v; want ErrInvalidKey", err)
		}
		err = st.Update(t.Context(), func(tx store.Txn) error { return tx.Delete(append(reserved, 'k')) })
		if !errors.Is(err, store.ErrInvalidKey) {
			t.Errorf("Delete of a reserved key = %v; want ErrInvalidKey", err)
		}
		put(t, st, store.Entry{Key: reserved[:len(reserved)-1]})
	}},
	{"Limits/Value", func(t *testing.T, st store.Store) {
		l := st.Limits()
		if l.ValueBytes > affordableBytes {
			return
		}
		value := bytes.Repeat([]byte("0123456789abcdef"), l.ValueBytes/16+1)
		tooBig := store.Entry{Key: []byte("k"), Value: value[:l.ValueBytes+1]}
		var first error
		err := st.Update(t.Context(), func(tx store.Txn) error {
			first = errors.Join(tx.Set(entry("a", "1")), tx.Set(tooBig))
			return nil
		})
		wantError(t, "Set of a value one byte over the limit", first, store.ErrValueTooBig)
		wantError(t, "Update that dropped that error", err, store.ErrValueTooBig)
		wantContents(t, st, "a value over the limit writes nothing")

		longest := store.Entry{Key: []byte("k"), Value: value[:l.ValueBytes]}
		err = st.Update(t.Context(), setAll(longest))
		if errors.Is(err, store.ErrTxnTooBig) && l.Cost(longest) > l.TxnBytes {
			return
		}
		if err != nil {
			t.Fatalf("Set of a value of ValueBytes = %d bytes: %v", l.ValueBytes, err)
		}
		view(t, st, func(r store.Reader) error {
			if got := get(t, r, "k"); got != string(longest.Value) {
				t.Errorf("Get returns %d bytes, not the value of %d that was set", len(got), l.ValueBytes)
			}
			return nil
		})
	}},
	{"Limits/Entries", func(t *testing.T, st store.Store) {
		l := st.Limits()
		n := min(l.TxnEntries, l.TxnBytes/l.Cost(numbered(0, nil)))
		if n > affordableEntries {
			return
		}
		// Deletes count, and so does every write of one key.
		write := func(tx store.Txn, i int) error {
			switch i % 4 {
			case 0:
				return tx.Delete(numbered(i/2, nil).Key)
			case 1:
				return tx.Set(numbered(0, nil))
			}
			return tx.Set(numbered(i, nil))
		}
		update(t, st, func(tx store.Txn) error {
			for i := range n {
				if err := write(tx, i); err != nil {
					t.Fatalf("write %d of a transaction of tiny entries: %v; want TxnEntries = %d to fit", i+1, err, l.TxnEntries)
				}
			}
			return nil
		})
		if n < l.TxnEntries {
			return // bytes run out first
		}
		before := contents(t, st)
		var first error
		err := st.Update(t.Context(), func(tx store.Txn) error {
			for i := range n + 1 {
				if err := tx.Set(numbered(n+i, nil)); err != nil && first == nil {
					first = err
				}
			}
			return nil // the mistake that must not commit what fitted
		})
		wantError(t, "one write more than TxnEntries", first, store.ErrTxnTooBig)
		wantError(t, "Update that dropped that error", err, store.ErrTxnTooBig)
		wantContents(t, st, "a transaction with too many entries writes nothing", before...)
	}},
	{"Limits/Bytes", func(t *testing.T, st store.Store) {
		l := st.Limits()
		value := make([]byte, min(l.ValueBytes, 1000, max(1, l.TxnBytes/l.TxnEntries*4)))
		cost := l.Cost(numbered(0, value))
		n := l.TxnBytes / cost
		if l.TxnBytes > affordableBytes || n > l.TxnEntries {
			return
		}
		update(t, st, func(tx store.Txn) error {
			for i := range n {
				if err := tx.Set(numbered(i, value)); err != nil {
					t.Fatalf("Set %d of entries that cost %d: %v; want TxnBytes = %d to fit", i+1, cost, err, l.TxnBytes)
				}
			}
			return nil
		})
		// Cost is an upper bound, so a little more than TxnBytes may still fit, in
		// which case all of it must be there.
		var first error
		written := 0
		err := st.Update(t.Context(), func(tx store.Txn) error {
			for first == nil && written < min(4*n, l.TxnEntries) {
				if first = tx.Set(numbered(n+written, value)); first == nil {
					written++
				}
			}
			return nil
		})
		want := n
		if first == nil {
			want += written
			if err != nil {
				t.Errorf("Update of %d bytes, all of which were accepted: %v", written*cost, err)
			}
		} else {
			wantError(t, "Set beyond TxnBytes", first, store.ErrTxnTooBig)
			wantError(t, "Update that dropped that error", err, store.ErrTxnTooBig)
		}
		if got := len(contents(t, st)); got != want {
			t.Errorf("%d entries after a transaction beyond TxnBytes; want %d, all of it or nothing", got, want)
		}
	}},
}

// numbered returns an entry whose key is unique to i.
func numbered(i int, value []byte) store.Entry {
	return store.Entry{Key: binary.BigEndian.AppendUint32(nil, uint32(i)), Value: value}
}
