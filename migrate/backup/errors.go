package backup

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/disk"
)

// What is wrong with a file. Each comes in a [*FileError], and before anything was
// written.
var (
	// ErrForeign means that the file is no backup, or one of another schema.
	ErrForeign = errors.New("not a backup of this schema")

	// ErrDamaged means that the file is cut short, or was altered since it was written.
	ErrDamaged = errors.New("it is damaged")

	// ErrFormat means that a newer kvmigrate wrote the file, in a format that this one
	// does not know.
	ErrFormat = errors.New("it has a newer format than this program knows")

	// ErrKey means that the backup is encrypted, and the key is missing or another.
	ErrKey = errors.New("it is encrypted, and the key is missing or another")
)

// ErrNotEmpty means that a backup was to be restored into a store that holds something.
// Nothing was written.
var ErrNotEmpty = errors.New("the store is not empty")

// ErrInsideStore means that a backup was to be kept inside the directory of its store.
var ErrInsideStore = errors.New("it is in the directory of the store, which a restore moves away; keep backups in another")

// ErrDifferent means that a store does not hold what a backup does.
var ErrDifferent = errors.New("the store differs from the backup")

// A FileError says which file cannot be used.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("backup %s: %v", e.Path, e.Err) }

// Unwrap returns Err.
func (e *FileError) Unwrap() error { return e.Err }

// A NoSpaceError says that there is no room: for a backup, or for the store that one is
// to be restored into.
type NoSpaceError struct {
	Dir  string // where, "" for where the store is
	Need uint64 // bytes, an estimate; 0 if the disk was full before anybody knew
	Free uint64 // bytes
	Err  error  // of the write that failed; nil if nothing was written
}

func (e *NoSpaceError) Error() string {
	where := e.Dir
	if where == "" {
		where = "the file system of the store"
	}
	if e.Need == 0 {
		return fmt.Sprintf("no space left in %s: %v", where, e.Err)
	}
	return fmt.Sprintf("not enough space in %s: about %s are needed and %s are free", where, humanize.IBytes(e.Need), humanize.IBytes(e.Free))
}

// Unwrap returns Err.
func (e *NoSpaceError) Unwrap() error { return e.Err }

// Is reports whether target is store.ErrNoSpace.
func (*NoSpaceError) Is(target error) bool { return target == store.ErrNoSpace }

// full says of a write that failed for want of room how much there is.
func full(dir string, err error) error {
	if !disk.IsFull(err) {
		return err
	}
	free, _ := disk.Free(dir) // 0 says it as well
	return &NoSpaceError{Dir: dir, Free: free, Err: err}
}
