package badgerstore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// files returns the names and contents of the files in dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(data)
	}
	return found
}

func TestOpenReadOnly(t *testing.T) {
	for name, configure := range map[string]func(badger.Options) badger.Options{"plain": small, "all values in the value log": allPointers, "encrypted": encrypted} {
		t.Run(name, func(t *testing.T) { testOpenReadOnly(t, configure) })
	}
}

func testOpenReadOnly(t *testing.T, configure func(badger.Options) badger.Options) {
	dir := newDir(t, configure, "k", "v")
	before := files(t, dir)
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: configure, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	wantContents(t, st, "k=v")
	wantError(t, "Update of a store that is open read-only", st.Update(t.Context(), set("k", "w")), store.ErrReadOnly)
	second, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: configure, ReadOnly: true})
	if err != nil {
		t.Fatalf("a second reader: %v", err)
	}
	if err := errors.Join(second.Close(), st.Close()); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(before, files(t, dir)) {
		t.Error("reading changed the directory")
	}

	open(t, dir, configure)
	_, err = badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: configure, ReadOnly: true})
	wantError(t, "opening read-only what another program writes", err, store.ErrLocked)
	absent := filepath.Join(dir, "absent")
	_, err = badgerstore.Open(t.Context(), absent, badgerstore.Options{ReadOnly: true})
	wantError(t, "opening read-only what is not there", err, fs.ErrNotExist)
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening read-only made a directory: %v", err)
	}
}

// A store as a kill leaves it is not put in order behind the reader's back.
func TestOpenReadOnlyAfterAKill(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T) string{
		"open memtable": func(t *testing.T) string {
			dir := t.TempDir()
			update(t, open(t, dir, tiny), set("k", "v"))
			return copyDir(t, dir)
		},
		"empty memtable":  func(t *testing.T) string { return withEmpty(t, "mem") },
		"empty value log": func(t *testing.T) string { return withEmpty(t, "vlog") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := leave(t)
			before := files(t, dir)
			st, err := badgerstore.Open(context.Background(), dir, badgerstore.Options{Configure: tiny, ReadOnly: true})
			if err == nil {
				defer func() { _ = st.Close() }()
			}
			wantError(t, "opening read-only after a kill", err, store.ErrUnsupported)
			if !cmp.Equal(before, files(t, dir)) {
				t.Error("the attempt changed the directory")
			}
			wantContents(t, open(t, dir, tiny), "k=v")
		})
	}
}

// withEmpty returns the directory of a store with an empty log file.
func withEmpty(t *testing.T, ext string) string {
	t.Helper()
	dir := newDir(t, tiny, "k", "v")
	if err := os.WriteFile(nextFile(t, dir, ext), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
