package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store/disk"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFree(t *testing.T) {
	if bytes, err := disk.Free(t.TempDir()); bytes == 0 || err != nil {
		t.Errorf("Free = %d, %v; want room", bytes, err)
	}
	if _, err := disk.Free(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Free of an absent directory: %v, want os.ErrNotExist", err)
	}
}

// TestUsed: a file with holes counts for what it takes, and files below count too.
func TestUsed(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "below", "file"), string(make([]byte, 100<<10)))
	write(t, filepath.Join(dir, "hole"), "")
	if err := os.Truncate(filepath.Join(dir, "hole"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if bytes, err := disk.Used(dir); bytes < 100<<10 || bytes > 1<<20 || err != nil {
		t.Errorf("Used = %d, %v; want some 100 KiB", bytes, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if bytes, err := disk.Used(link); bytes < 100<<10 || err != nil {
		t.Errorf("Used of a link = %d, %v; want what the directory takes", bytes, err)
	}
	if _, err := disk.Used(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Used of an absent directory: %v, want os.ErrNotExist", err)
	}
}

func TestIsFull(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EFBIG: true,
		fmt.Errorf("write: %w", &os.PathError{Err: syscall.ENOSPC}): true,
		syscall.EACCES: false, nil: false,
	} {
		if got := disk.IsFull(err); got != want {
			t.Errorf("IsFull(%v) = %t, want %t", err, got, want)
		}
	}
}

func TestMkdirAll(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b")
	for range 2 {
		if err := disk.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			t.Errorf("%s is %v, %v; want a directory", dir, info, err)
		}
	}
	write(t, filepath.Join(base, "file"), "")
	for _, bad := range []string{"file", "file/below"} {
		if err := disk.MkdirAll(filepath.Join(base, bad), 0o700); err == nil {
			t.Errorf("MkdirAll(%s) succeeded", bad)
		}
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	release, err := disk.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Lock(dir); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("Lock of what is locked: %v, want ErrLocked", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if release, err = disk.Lock(dir); err != nil {
		t.Fatalf("Lock after its release: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestExchange(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, filepath.Join(a, "name"), "a")
	write(t, filepath.Join(b, "name"), "b")
	err := disk.Exchange(a, b)
	if errors.Is(err, errors.ErrUnsupported) {
		a, b = b, a // nothing was changed
	} else if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, path := range []string{a, b} {
		text, err := os.ReadFile(filepath.Join(path, "name"))
		if err != nil {
			t.Fatal(err)
		}
		got[path] = string(text)
	}
	if diff := cmp.Diff(map[string]string{a: "b", b: "a"}, got); diff != "" {
		t.Errorf("after Exchange (-want +got):\n%s", diff)
	}
	if err := disk.Exchange(a, filepath.Join(dir, "absent")); err == nil {
		t.Error("Exchange with an absent directory succeeded")
	}
}

// TestTakeAfter: a restored store belongs to whom the old one belonged, even if root
// restored it.
func TestTakeAfter(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "fresh")
	write(t, filepath.Join(old, "file"), "")
	write(t, filepath.Join(fresh, "file"), "")
	if err := os.Chmod(old, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := disk.TakeAfter(fresh, old); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(fresh)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v, %v; want 0750", info.Mode(), err)
	}
	if err := disk.SyncTree(dir); err != nil {
		t.Error(err)
	}
}
