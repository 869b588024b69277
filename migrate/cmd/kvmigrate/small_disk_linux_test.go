package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of that size at dir, and returns what unmounts it.
func smallDisk(dir, size string) (unmount func() error, err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return func() error { return unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// freeze makes the file system that smallDisk mounted at dir read-only.
func freeze(dir string) error {
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return &os.PathError{Op: "remount", Path: dir, Err: err}
	}
	return nil
}

// mounts reports whether smallDisk works here, which takes root.
func mounts() (bool, error) {
	dir, err := os.MkdirTemp("", "mounts-")
	if err != nil {
		return false, err
	}
	unmount, err := smallDisk(dir, "16k")
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			err = nil
		}
		return false, errors.Join(err, os.Remove(dir))
	}
	return true, errors.Join(unmount(), os.Remove(dir))
}
