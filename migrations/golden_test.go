package migrations_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const golden = "../testdata/golden"

// TestGolden climbs the ladder one version at a time. Before each migration it
// adds the entries of the version's fixture.txt, if there is one, and after it
// compares everything that the store holds with the version's after.txt.
func TestGolden(t *testing.T) {
	st := openStore(t)
	for _, m := range migrate.DefaultRegistry().Migrations() {
		t.Run(m.ID(), func(t *testing.T) {
			dir := filepath.Join(golden, m.ID())
			load(t, st, filepath.Join(dir, "fixture.txt"))
			report, err := run(t, st, m.Version)
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Applied) != 1 {
				t.Fatalf("UpTo(%d) applied %d migrations, want 1", m.Version, len(report.Applied))
			}
			compare(t, filepath.Join(dir, "after.txt"), contents(t, st))
		})
	}
}

// TestGoldenHasNoStrangers finds folders whose migration is gone or renamed.
func TestGoldenHasNoStrangers(t *testing.T) {
	var want []string
	for _, m := range migrate.DefaultRegistry().Migrations() {
		want = append(want, m.ID())
	}
	entries, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("folders in testdata/golden (-want +got):\n%s", diff)
	}
}

// TestFreshEqualsUpgraded: a store that climbs in one run is the store that
// climbed in many.
func TestFreshEqualsUpgraded(t *testing.T) {
	latest := migrate.DefaultRegistry().Latest()
	fresh, upgraded := openStore(t), openStore(t)
	if _, err := run(t, fresh, latest); err != nil {
		t.Fatal(err)
	}
	for v := range latest {
		if _, err := run(t, upgraded, v+1); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(contents(t, fresh), contents(t, upgraded)); diff != "" {
		t.Errorf("fresh and upgraded stores differ (-fresh +upgraded):\n%s", diff)
	}
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{
		Configure: func(o badger.Options) badger.Options {
			return o.WithMemTableSize(4 << 20).WithValueThreshold(64 << 10).WithValueLogFileSize(16 << 20)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// run takes st to version under a clock that stands still, so that two runs
// write the same bytes.
func run(t *testing.T, st store.Store, version uint32) (migrate.Report, error) {
	t.Helper()
	r, err := migrate.New(st, migrate.Options{
		Schema:  migrations.Schema,
		Program: "kvmigrate test",
		Logger:  slog.New(slog.DiscardHandler),
		Now:     func() time.Time { return time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.UpTo(t.Context(), version)
}

// load adds the entries of a dump to st.
func load(t *testing.T, st store.Store, path string) {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	entries, err := dump.Read(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	put(t, st, entries)
}

// put adds entries to st, in transactions that such a store holds.
func put(t *testing.T, st store.Store, entries []store.Entry) {
	t.Helper()
	for chunk := range slices.Chunk(entries, 2000) {
		err := store.Update(t.Context(), st, func(tx store.Txn) error {
			for _, e := range chunk {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func contents(t *testing.T, st store.Store) string {
	t.Helper()
	var out bytes.Buffer
	err := st.View(t.Context(), func(s store.Reader) error { return dump.Write(&out, s, store.Scan{}) })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test ./migrations -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\ngo test ./migrations -update accepts it", path, diff)
	}
}
