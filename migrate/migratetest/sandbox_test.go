package migratetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
)

// TestSandbox: to one user, a sandbox is like Badger.
func TestSandbox(t *testing.T) {
	var rows []store.Entry
	for i := range 30 {
		rows = append(rows, store.Entry{Key: fmt.Appendf(nil, "%c/%02d", 'a'+i/10, i), Value: bytes.Repeat([]byte{byte(i)}, i%4), Meta: byte(i % 2)})
	}
	rows[4].ExpiresAt = 1             // long ago
	rows[5].ExpiresAt = 4_102_444_800 // in 2100
	boom := errors.New("boom")
	var scans []store.Scan
	for _, prefix := range []string{"", "b/", "b/1", "c/29", "d"} {
		for _, from := range []string{"", "a/05", "b/", "b/10", "b/155", "z"} {
			for i := range 4 {
				s := store.Scan{Prefix: []byte(prefix), Reverse: i%2 > 0, KeysOnly: i/2 > 0}
				if from != "" {
					s.From = []byte(from)
				}
				scans = append(scans, s)
			}
		}
	}

	// told is what a store tells.
	told := func(st store.Store) (log []string) {
		look := func(r store.Reader) {
			for _, e := range rows {
				got, err := r.Get(e.Key)
				log = append(log, fmt.Sprintf("get %s: %q %d %d, found: %t", e.Key, got.Value, got.ExpiresAt, got.Meta, !errors.Is(err, store.ErrNotFound)))
			}
			for _, s := range scans {
				for e, err := range r.Scan(s) {
					log = append(log, fmt.Sprintf("scan %+v: %q %q %d %d %v", s, e.Key, e.Value, e.ExpiresAt, e.Meta, err))
				}
			}
		}
		update := func(fn func(tx store.Txn) error) {
			err := st.Update(t.Context(), fn)
			for _, known := range []error{boom, store.ErrInvalidKey, store.ErrValueTooBig, store.ErrTxnTooBig} {
				if errors.Is(err, known) {
					err = known
				}
			}
			log = append(log, fmt.Sprintf("update: %v", err))
			if err := st.View(t.Context(), func(r store.Reader) error { look(r); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		update(func(tx store.Txn) error {
			for _, e := range rows {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
		change := func(tx store.Txn) {
			for i, e := range rows {
				switch i % 3 {
				case 0:
					e.Value = append(bytes.Clone(e.Value), 'x')
					log = append(log, fmt.Sprint(tx.Set(e)))
				case 1:
					log = append(log, fmt.Sprint(tx.Delete(e.Key)))
				}
			}
			log = append(log, fmt.Sprint(tx.Set(store.Entry{Key: []byte("b/155")}), tx.Delete([]byte("none"))))
			look(tx)
		}
		update(func(tx store.Txn) error { change(tx); return boom })
		update(func(tx store.Txn) error { change(tx); return nil })
		for _, refused := range []store.Entry{
			{}, {Key: make([]byte, st.Limits().KeyBytes+1)}, {Key: []byte(st.Limits().Reserved + "k")}, {Key: []byte("k"), Value: make([]byte, st.Limits().ValueBytes+1)},
		} {
			update(func(tx store.Txn) error {
				log = append(log, fmt.Sprint(tx.Set(refused) != nil, tx.Set(rows[0]) != nil))
				return nil // the store remembers
			})
		}
		return log
	}

	err := Suite{}.withStore(t.Context(), func(st store.Store) error {
		if diff := cmp.Diff(told(st), told(&sandbox{limits: st.Limits()})); diff != "" {
			t.Errorf("a sandbox is not like Badger (-badger +sandbox):\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSandboxOverflow: more than a transaction holds is refused.
func TestSandboxOverflow(t *testing.T) {
	box := &sandbox{limits: store.Limits{TxnEntries: 2, TxnBytes: 100, EntryOverhead: 10, KeyBytes: 50, ValueBytes: 90}}
	for name, entries := range map[string][]store.Entry{
		"entries": {{Key: []byte("a")}, {Key: []byte("b")}, {Key: []byte("c")}},
		"bytes":   {{Key: []byte("a"), Value: make([]byte, 90)}},
	} {
		err := box.Update(t.Context(), func(tx store.Txn) error {
			for _, e := range entries {
				_ = tx.Set(e)
			}
			return nil
		})
		if !errors.Is(err, store.ErrTxnTooBig) || len(box.entries) > 0 {
			t.Errorf("too many %s: error = %v, want ErrTxnTooBig; the store holds %d entries", name, err, len(box.entries))
		}
	}
}
