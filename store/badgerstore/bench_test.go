package badgerstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
)

// BenchmarkReads compares the reads of this package with Badger's own.
func BenchmarkReads(b *testing.B) {
	dir := b.TempDir()
	st := open(b, dir, small)
	update(b, st, set("k", "v"))
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	st = open(b, dir, small) // so that the key is in a table
	run := func(name string, ours func(store.Reader) error, raw func(*badger.Txn) error) {
		b.Run(name+"/raw", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := st.DB().View(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/store", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := st.View(b.Context(), ours); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("nothing", func(store.Reader) error { return nil }, func(*badger.Txn) error { return nil })
	key, absent := []byte("k"), []byte("l")
	run("found", func(r store.Reader) error {
		_, err := r.Get(key)
		return err
	}, func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err == nil {
			_, err = item.ValueCopy(nil)
		}
		return err
	})
	run("absent", func(r store.Reader) error {
		if _, err := r.Get(absent); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	}, func(txn *badger.Txn) error {
		if _, err := txn.Get(absent); !errors.Is(err, badger.ErrKeyNotFound) {
			return err
		}
		return nil
	})
}

// BenchmarkRows is what a row costs a migration: reading it in a scan, and
// writing it.
func BenchmarkRows(b *testing.B) {
	const rows = 5_000
	dir := b.TempDir()
	st := open(b, dir, small)
	entries := make([]store.Entry, rows)
	for i := range entries {
		entries[i] = store.Entry{Key: fmt.Appendf(nil, "rows/%08d", i), Value: fmt.Appendf(nil, "%0100d", i)}
	}
	write := func(commit error) error {
		return st.Update(b.Context(), func(tx store.Txn) error {
			for _, e := range entries {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return commit
		})
	}
	if err := write(nil); err != nil {
		b.Fatal(err)
	}
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	st = open(b, dir, small)
	perRow := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	}
	for _, keysOnly := range []bool{false, true} {
		b.Run(fmt.Sprintf("scan/keysonly=%t", keysOnly), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				err := st.View(b.Context(), func(r store.Reader) error {
					for _, err := range r.Scan(store.Scan{KeysOnly: keysOnly}) {
						if err != nil {
							return err
						}
						n++
					}
					return nil
				})
				if err != nil || n != rows {
					b.Fatalf("scan of %d rows: %v; want %d", n, err, rows)
				}
			}
			perRow(b)
		})
	}
	b.Run("set", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := write(context.Canceled); !errors.Is(err, context.Canceled) {
				b.Fatal(err)
			}
		}
		perRow(b)
	})
}
