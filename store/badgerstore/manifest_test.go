package badgerstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// TestLostManifest: Badger deletes every table that its manifest does not list.
// A store whose manifest lost them all must be refused with its tables in place.
func TestLostManifest(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing":        os.Remove,
		"cut to a stump": func(path string) error { return os.Truncate(path, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t, small, "k", "v")
			tables := func() []string {
				found, err := filepath.Glob(filepath.Join(dir, "*.sst"))
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			before := tables()
			if len(before) == 0 {
				t.Fatal("the store has no table to lose")
			}
			if err := damage(filepath.Join(dir, "MANIFEST")); err != nil {
				t.Fatal(err)
			}
			_, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("Open = %v, want ErrCorrupt", err)
			}
			if diff := cmp.Diff(before, tables()); diff != "" {
				t.Errorf("tables (-before +after):\n%s", diff)
			}
		})
	}
}
