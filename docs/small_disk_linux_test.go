package docs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk puts the store of a section about a full disk on one: data lies on a file
// system that a file of the name big all but fills.
func smallDisk(t *testing.T, dir string, section []byte) {
	t.Helper()
	if !bytes.Contains(section, []byte("rm data/big")) {
		return
	}
	disk := filepath.Join(dir, "data")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=120m"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting a file system takes root")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
