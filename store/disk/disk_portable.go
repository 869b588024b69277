//go:build !linux && !darwin

package disk

import (
	"errors"
	"io/fs"
)

// Directories cannot be opened for syncing on Windows.
const syncsDirectories = false

func used(info fs.FileInfo) uint64 { return uint64(info.Size()) }

func lock(string) (release func() error, err error) { return func() error { return nil }, nil }

func exchange(_, _ string) error { return errors.ErrUnsupported }

func isMount(string) bool { return false }

func own(string, fs.FileInfo) error { return nil }
