//go:build !linux

package docs_test

import (
	"bytes"
	"testing"
)

func smallDisk(t *testing.T, _ string, section []byte) {
	t.Helper()
	if bytes.Contains(section, []byte("rm big")) {
		t.Skip("a small disk is made on Linux only")
	}
}
