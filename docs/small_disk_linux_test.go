package docs_test

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk makes dir, in which the store of a section about a full disk lies, a file
// system that a file of the name big all but fills.
func smallDisk(t *testing.T, dir string, section []byte) {
	t.Helper()
	if !bytes.Contains(section, []byte("rm big")) {
		return
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=120m"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting a file system takes root")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
