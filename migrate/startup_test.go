package migrate_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// numbered returns migrations 1 to n that do nothing.
func numbered(n int) []migrate.Migration {
	ms := make([]migrate.Migration, n)
	for i := range ms {
		ms[i] = migrate.Migration{Version: uint32(i + 1), Name: fmt.Sprintf("migration_%d", i+1), Up: nop}
	}
	return ms
}

// started returns a store at version n and a Runner over it, as a program finds
// them when it starts: the store was closed since, so that its keys are in a
// table.
func started(t testing.TB, n int) (*badger.DB, *migrate.Runner) {
	t.Helper()
	dir := t.TempDir()
	options := options(migrate.NewRegistry(numbered(n)...))
	for opened := 1; ; opened++ {
		st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
		if err != nil {
			t.Fatal(err)
		}
		r, err := migrate.New(st, options)
		if err != nil {
			t.Fatal(err)
		}
		if opened == 2 {
			t.Cleanup(func() { _ = st.Close() })
			return st.DB(), r
		}
		if _, err := r.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// check is a start-up where nothing is pending.
func check(t testing.TB, r *migrate.Runner, version uint32) {
	report, err := r.Up(t.Context())
	if err != nil || report.To != version || report.Applied != nil {
		t.Fatalf("Up() = %+v, %v; want v%d and nothing to do", report, err, version)
	}
}

// rawCheck returns what a start-up comes down to: three reads by Badger alone.
func rawCheck(t testing.TB, db *badger.DB, version uint32) func() {
	t.Helper()
	keys := [][]byte{
		[]byte("system:schema_version"),
		fmt.Appendf(nil, "system:schema_history:%010d", version),
		[]byte("system:schema_progress"),
	}
	read := func(txn *badger.Txn) error {
		for _, key := range keys[:2] {
			item, err := txn.Get(key)
			if err != nil {
				return err
			}
			value, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			if len(value) == 4 && binary.BigEndian.Uint32(value) != version {
				return fmt.Errorf("store is at v%d, want v%d", binary.BigEndian.Uint32(value), version)
			}
		}
		if _, err := txn.Get(keys[2]); !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("read of the progress: %w; want %w", err, badger.ErrKeyNotFound)
		}
		return nil
	}
	return func() {
		if err := db.View(read); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkStartUp(b *testing.B) {
	for _, n := range []int{1, 1000} {
		db, r := started(b, n)
		version := uint32(n)
		raw := rawCheck(b, db, version)
		b.Run(fmt.Sprintf("raw-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				raw()
			}
		})
		b.Run(fmt.Sprintf("kvmigrate-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				check(b, r, version)
			}
		})
		b.Run(fmt.Sprintf("paired-%d", n), func(b *testing.B) {
			paired(b, raw, func() { check(b, r, version) })
		})
	}
	// The program knows 1,000 migrations, or one, of the same store.
	db, one := started(b, 1)
	st, err := badgerstore.New(db)
	if err != nil {
		b.Fatal(err)
	}
	many, err := migrate.New(st, options(migrate.NewRegistry(numbered(1000)...)))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("paired-1-of-1000", func(b *testing.B) {
		paired(b, func() { check(b, one, 1) }, func() {
			if report, err := many.UpTo(b.Context(), 1); err != nil || report.Applied != nil {
				b.Fatalf("UpTo(1) = %+v, %v; want nothing to do", report, err)
			}
		})
	})
}

// paired reports how many times longer than base fn takes. It runs them in
// turns and in both orders, so that what else the machine does meets both, and
// takes the median.
func paired(b *testing.B, base, fn func()) {
	chunk := func(f func()) float64 {
		begin := time.Now()
		for range 500 {
			f()
		}
		return float64(time.Since(begin))
	}
	var ratios []float64
	for b.Loop() {
		first, second := chunk(base), chunk(fn)
		third, fourth := chunk(fn), chunk(base)
		ratios = append(ratios, (second+third)/(first+fourth))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x")
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{1, 1000} {
		ms := numbered(n)
		st := openStore(b)
		b.Run(fmt.Sprintf("list/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := migrate.New(st, migrate.Options{Registry: migrate.NewRegistry(ms...)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("one-by-one/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var r migrate.Registry
				for _, m := range ms {
					r.Register(m)
				}
				if _, err := migrate.New(st, migrate.Options{Registry: &r}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
