package badgerstore_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A store that was rewritten under ForMigration, with more tables left behind than
// its program's options let stand, holds the same when the program opens it with
// those again, and takes writes.
func TestForMigration(t *testing.T) {
	for name, own := range map[string]func(badger.Options) badger.Options{
		"plain": tiny,
		"encrypted": func(o badger.Options) badger.Options {
			return encrypted(o).WithMemTableSize(1 << 20).WithValueThreshold(1 << 10)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t, own, "before", "x")
			rewritten := open(t, dir, func(o badger.Options) badger.Options { return badgerstore.ForMigration(own(o)) })
			const rows, passes = 10_000, 2
			for pass := range passes {
				for first := 0; first < rows; first += 100 {
					update(t, rewritten, setRows(first, 100, pass))
				}
			}
			want := contents(t, rewritten)
			if len(want) != rows+1 {
				t.Fatalf("the store holds %d entries; want %d", len(want), rows+1)
			}
			if err := rewritten.Close(); err != nil {
				t.Fatal(err)
			}

			st := open(t, dir, own)
			if diff := cmp.Diff(want, contents(t, st)); diff != "" {
				t.Errorf("opened again with the program's options (-under ForMigration +got):\n%s", diff)
			}
			for first := 0; first < rows/5; first += 100 {
				update(t, st, setRows(first, 100, passes))
			}
		})
	}
}

// A store that grew under Uncompacted holds the same when it is opened as a small
// one.
func TestUncompacted(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, badgerstore.Uncompacted)
	const rows, passes = 10_000, 6 // 50 MiB
	for pass := range passes {
		for first := 0; first < rows; first += 100 {
			update(t, st, setRows(first, 100, pass))
		}
	}
	want := contents(t, st)
	for _, level := range st.DB().Levels()[1:] {
		if level.NumTables > 0 {
			t.Errorf("level %d has %d tables", level.Level, level.NumTables)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, open(t, dir, badgerstore.Small))); diff != "" {
		t.Errorf("opened again as a small store (-under Uncompacted +got):\n%s", diff)
	}
}

// setRows sets n rows from first on to what they hold after a pass.
func setRows(first, n, pass int) func(store.Txn) error {
	return func(tx store.Txn) error {
		for i := first; i < first+n; i++ {
			value := bytes.Repeat(fmt.Appendf(nil, "%05d", i+pass), 180)
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "row/%05d", i), Value: value}); err != nil {
				return err
			}
		}
		return nil
	}
}

// ForMigration leaves alone what a store may depend on and what the program has
// set further already.
func TestForMigrationKeeps(t *testing.T) {
	own := badger.DefaultOptions("dir").WithMemTableSize(8 << 20).WithBlockCacheSize(0).
		WithNumLevelZeroTables(100).WithNumLevelZeroTablesStall(200)
	if got := badgerstore.ForMigration(own); got.MemTableSize != own.MemTableSize || got.BlockCacheSize != 0 ||
		got.NumLevelZeroTables != 100 || got.NumLevelZeroTablesStall != 200 {
		t.Errorf("ForMigration changed %+v to %+v; want it unchanged", own, got)
	}
}
