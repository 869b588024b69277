package badgerstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// Reclaim makes the value log of a store that was overwritten many times smaller,
// and leaves what it holds.
func TestReclaim(t *testing.T) {
	uncompacted := func(o badger.Options) badger.Options {
		return tiny(o).WithNumCompactors(0).WithNumLevelZeroTablesStall(2000)
	}
	lend := func(configure func(badger.Options) badger.Options) func(t *testing.T, dir string) *badgerstore.Store {
		return func(t *testing.T, dir string) *badgerstore.Store {
			st, err := badgerstore.New(openBadger(t, configure(badger.DefaultOptions(dir))))
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
	}
	own := func(configure func(badger.Options) badger.Options) func(t *testing.T, dir string) *badgerstore.Store {
		return func(t *testing.T, dir string) *badgerstore.Store { return open(t, dir, configure) }
	}
	tests := map[string]func(t *testing.T, dir string) *badgerstore.Store{
		"owned":            own(tiny),
		"owned, no others": own(uncompacted),
		"lent":             lend(tiny),
		"lent, no others":  lend(uncompacted),
	}
	for name, openStore := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := openStore(t, dir)
			rewrite(t, st)
			want := contents(t, st)
			before := valueLog(t, dir)
			for range 2 { // the second has nothing left to do
				if err := st.Reclaim(t.Context()); err != nil {
					t.Fatalf("Reclaim: %v", err)
				}
			}
			if after := valueLog(t, dir); after > before/2 {
				t.Errorf("the value log has %d bytes after Reclaim, and had %d; want half at most", after, before)
			}
			if diff := cmp.Diff(want, contents(t, st)); diff != "" {
				t.Errorf("contents after Reclaim (-want +got):\n%s", diff)
			}
			update(t, st, set("after", "1"))
		})
	}
}

// rewrite writes every key of st eighty times, in the value log, and enough
// beside it that Badger writes its memtables to tables.
func rewrite(t *testing.T, st store.Store) {
	t.Helper()
	for round := range 80 {
		for n := range 2 {
			var pairs []string
			for key := range 100 {
				pairs = append(pairs, fmt.Sprintf("long/%d/%d", n, key), strings.Repeat(string(rune('a'+round%26)), 2000))
				pairs = append(pairs, fmt.Sprintf("short/%d/%d", n, key), strings.Repeat(string(rune('a'+round%26)), 900))
			}
			update(t, st, set(pairs...))
		}
	}
}

func valueLog(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}

func TestReclaimRefusals(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, tiny)
	rewrite(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "Reclaim with a context that has ended", st.Reclaim(ctx), context.Canceled)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Reclaim of a closed store", st.Reclaim(t.Context()), store.ErrClosed)

	readOnly, err := badgerstore.New(openBadger(t, tiny(badger.DefaultOptions(dir)).WithReadOnly(true)))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "Reclaim of a read-only store", readOnly.Reclaim(t.Context()), store.ErrReadOnly)

	memory, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	update(t, memory, set("k", "1"))
	if err := memory.Reclaim(t.Context()); err != nil {
		t.Errorf("Reclaim in memory: %v; want nothing to do", err)
	}
	if err := memory.Close(); err != nil {
		t.Error(err)
	}
}

var _ store.Reclaimer = (*badgerstore.Store)(nil)
