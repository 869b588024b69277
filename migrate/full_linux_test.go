package migrate_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// TestDiskFull fills a real file system during a rewrite: the run stops in time, says
// why, and goes on from there once there is room.
func TestDiskFull(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=110m"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting a file system takes root")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	st, err := badgerstore.Open(t.Context(), filepath.Join(mount, "store"), badgerstore.Options{Configure: small})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	const rows = 30_000
	entries := many("app/", rows)
	random := rand.NewChaCha8([32]byte{}) // what Badger cannot compress
	for i := range entries {
		entries[i].Value = make([]byte, 500)
		_, _ = random.Read(entries[i].Value)
	}
	load(t, st, entries...)

	o := one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		e.Value = grown(e.Value)
		return tx.Set(e)
	}))
	_, err = migrate.Up(t.Context(), st, o)
	failed, ok := errors.AsType[*migrate.MigrationError](err)
	if !ok || !errors.Is(err, store.ErrNoSpace) || failed.Progress == nil {
		t.Fatalf("Up on a small disk = %v; want a MigrationError with progress that matches ErrNoSpace", err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_REMOUNT, "size=600m"); err != nil {
		t.Fatal(err)
	}
	report := mustRun(t, st, o)
	if report.Applied[0].KeysWritten != rows {
		t.Errorf("%d keys written; want each of %d once", report.Applied[0].KeysWritten, rows)
	}
	for i, e := range entriesOf(t, st, "app/") {
		if want := grown(entries[i].Value); !bytes.Equal(want, e.Value) {
			t.Fatalf("row %d has %d bytes; want %d that follow from the old ones", i, len(e.Value), len(want))
		}
	}
}

// grown is value and four times as much that follows from it and does not compress.
func grown(value []byte) []byte {
	out := bytes.Clone(value)
	for range 4 {
		key := sha256.Sum256(out)
		more := make([]byte, len(value))
		_, _ = rand.NewChaCha8(key).Read(more)
		out = append(out, more...)
	}
	return out
}
