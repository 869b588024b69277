package migrate_test

import (
	"math/rand/v2"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	files "github.com/kvmigrate/kvmigrate/store/disk"
)

// TestDryRunDiskBytes compares what a dry run estimates with what the run then
// takes: never less, and at most three times as much for values that do not
// compress.
func TestDryRunDiskBytes(t *testing.T) {
	for _, tt := range []struct {
		name       string
		rows, size int
		most       float64
	}{
		{"rows", 10_000, 1000, 3},
		{"values in the value log", 100, 100_000, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small})
			if err != nil {
				t.Fatal(err)
			}
			random := rand.NewChaCha8([32]byte{})
			rows := many("app/", tt.rows)
			for i := range rows {
				rows[i].Value = make([]byte, tt.size)
				_, _ = random.Read(rows[i].Value)
			}
			load(t, st, rows...)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			before := onDisk(t, dir)

			st, err = badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small})
			if err != nil {
				t.Fatal(err)
			}
			o := one(migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
				for i := range v {
					v[i] ^= byte(7 * i)
				}
				return append(v, "more"...), nil
			}))
			dry, err := dryRun(t, st, o, 0)
			if err != nil {
				t.Fatal(err)
			}
			peak := before
			o.Observer = func(migrate.Event) { peak = max(peak, onDisk(t, dir)) }
			mustRun(t, st, o)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			took := max(peak, onDisk(t, dir)) - before
			t.Logf("estimated %d KiB, took %d KiB", dry.DiskBytes>>10, took>>10)
			if dry.DiskBytes < took || float64(dry.DiskBytes) > tt.most*float64(took) {
				t.Errorf("the run took %d bytes of disk at its peak, the dry run had estimated %d", took, dry.DiskBytes)
			}
		})
	}
}

func onDisk(t *testing.T, dir string) uint64 {
	n, err := files.Used(dir)
	if err != nil {
		t.Error(err)
	}
	return n
}
