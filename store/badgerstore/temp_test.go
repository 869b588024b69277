package badgerstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

func TestTempConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		st, err := badgerstore.OpenTemp(t.Context(), t.TempDir(), store.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := st.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return st
	})
}

// A transaction of a temporary store holds one of the store whose limits it has,
// with the bytes that it promises.
func TestTempHoldsATransactionOfItsOriginal(t *testing.T) {
	for name, original := range map[string]store.Limits{
		"small":      open(t, t.TempDir(), small).Limits(),
		"tiny":       open(t, t.TempDir(), tiny).Limits(),
		"no engine":  {},
		"tiny items": {TxnEntries: 50_000, TxnBytes: 100_000},
		"defaults":   {TxnEntries: 94371, TxnBytes: 9059696, EntryOverhead: 24, ApartBytes: 1 << 20, ValueBytes: 1<<30 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := badgerstore.OpenTemp(t.Context(), t.TempDir(), original)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.Close() }()
			got := st.Limits()
			extra := 16 + got.EntryOverhead - original.EntryOverhead
			if got.TxnEntries < original.TxnEntries || got.TxnBytes < original.TxnBytes+extra*original.TxnEntries ||
				got.ValueBytes < original.ValueBytes+16 || original.ApartBytes > 0 && got.ApartBytes > original.ApartBytes {
				t.Errorf("limits %+v\nare too narrow for %+v", got, original)
			}
		})
	}
}

// What a temporary store writes on the disk is its own, unreadable, and gone
// after Close.
func TestTempLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	st, err := badgerstore.OpenTemp(t.Context(), dir, store.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	const secret = "correct horse battery staple"
	update(t, st, set(secret, secret))
	found := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds what was written in the clear", filepath.Base(path))
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("found %d files, %v", found, err)
	}
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("after Close: %v, %v; want an empty directory", left, err)
	}
}

func TestTempWithoutARoom(t *testing.T) {
	st, err := badgerstore.OpenTemp(t.Context(), filepath.Join(t.TempDir(), "absent"), store.Limits{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenTemp below a directory that does not exist = %v, %v; want ErrNotExist", st, err)
	}
}

// A temporary store that holds much is emptied before it is closed.
func TestTempLeavesNothingOfMuch(t *testing.T) {
	for name, size := range map[string]int{"in tables": 32 << 10, "in the value log": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st, err := badgerstore.OpenTemp(t.Context(), dir, store.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			value := string(make([]byte, size))
			for written := 0; written < 24<<20; written += size {
				update(t, st, set(fmt.Sprintf("%08d", written), value))
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("after Close: %v, %v; want an empty directory", left, err)
			}
		})
	}
}
