package backup_test

import (
	"fmt"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// BenchmarkRestore restores 200,000 rows of some 270 bytes into a new store, whose
// writes are synced.
func BenchmarkRestore(b *testing.B) {
	const rows, batch = 200_000, 500
	from := openStore(b)
	for first := 0; first < rows; first += batch {
		var entries []store.Entry
		for i := first; i < first+batch; i++ {
			value := fmt.Appendf(nil, `{"id":%d,"name":"%064x","email":"%064x","note":"%064x"}`, i, i*7919, i*104729, i*1299709)
			entries = append(entries, store.Entry{Key: fmt.Appendf(nil, "accounts/%010d", i), Value: value})
		}
		put(b, from, entries...)
	}
	path := take(b, from, backup.Options{Dir: b.TempDir()}, 1).Path
	b.ReportAllocs()
	for b.Loop() {
		to, err := badgerstore.Open(b.Context(), b.TempDir(), badgerstore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		info, err := backup.Restore(b.Context(), path, to, backup.RestoreOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(info.Bytes))
		if err := to.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
