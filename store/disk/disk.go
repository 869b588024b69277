// Package disk is what kvmigrate needs of a file system beyond package os: room,
// durable names, locks that die with their process, and two directories exchanged
// in one step. What a system does not have is an error that matches
// errors.ErrUnsupported.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrLocked means that another process, or another holder in this one, has the
// lock.
var ErrLocked = errors.New("locked by another process")

// Free returns how many bytes an unprivileged program can still write to the file
// system of dir.
func Free(dir string) (uint64, error) {
	bytes, err := free(dir)
	if err != nil {
		return 0, &fs.PathError{Op: "look for free space in", Path: dir, Err: err}
	}
	return bytes, nil
}

// Used returns the bytes that the files in dir and below it take on the disk,
// which for a file with holes is less than its length. Files that vanish meanwhile
// count for nothing. dir may be a link to a directory.
func Used(dir string) (uint64, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, err
	}
	var bytes uint64
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				bytes += used(info)
			}
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		return err
	})
	return bytes, err
}

// IsFull reports whether err is that of a write for which there was no room: the
// disk is full, or a quota or a limit on the size of files is reached.
func IsFull(err error) bool { return isFull(err) }

// Sync makes a file durable, or the names in a directory.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if info, statErr := f.Stat(); statErr == nil && info.IsDir() && !syncsDirectories {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// SyncTree makes every file in dir and below it durable, and their names in it.
func SyncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return Sync(path)
	})
}

// MkdirAll is os.MkdirAll, and makes the names of the directories that it creates
// durable.
func MkdirAll(dir string, perm os.FileMode) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, perm) // which has nothing to create, or says what is in the way
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return Sync(parent)
}

// Lock takes the lock of a file or directory, without waiting. It is held until
// release is called or the process ends, however it ends. The error matches
// [ErrLocked] if another holds it. Badger locks its directories in the same way.
// Windows has no such lock, and refuses to rename or remove open files instead: there
// Lock does nothing.
func Lock(path string) (release func() error, err error) { return lock(path) }

// Exchange swaps the names of two directories of one file system in one step: at
// each moment both names exist. The error matches errors.ErrUnsupported, and
// nothing is changed, if the system or the file system cannot do it.
func Exchange(a, b string) error {
	if err := exchange(a, b); err != nil {
		return fmt.Errorf("exchange %s and %s: %w", a, b, err)
	}
	return nil
}

// IsMount reports whether dir is the root of a mounted file system, which cannot
// be renamed.
func IsMount(dir string) bool { return isMount(dir) }

// TakeAfter gives the files in dir and below it the owner of the file or directory
// like, and dir the permissions of it, as far as this process may.
func TakeAfter(dir, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, info.Mode().Perm()); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return own(path, info)
	})
}
