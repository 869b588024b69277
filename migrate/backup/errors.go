package backup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/internal/fit"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
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

// A RefusalError says which entries of a backup a store cannot keep, for one of the
// reasons. It comes in a [*FileError], several together in a *multierror.Error, before
// anything was written, and matches [store.ErrUnsupported].
type RefusalError struct {
	// Reason is "expiry" or "meta" (the user meta) if the store keeps none of these, "key"
	// or "value" if that is too long for it, or "reserved" if the key is one that the
	// store has for itself.
	Reason string

	Entries uint64
	First   []byte // the key of the first one; keys can be secret, and are not in the text
}

var refused = map[string]string{
	fit.Expires:     "with an expiry",
	fit.HasMeta:     "with a user meta",
	fit.LongKey:     "with a key that is too long",
	fit.ReservedKey: "with a key that it has for itself",
	fit.LongValue:   "with a value that is too long",
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("%s %s", plural.Of(e.Entries, "entry"), refused[e.Reason])
}

// Is reports whether target is store.ErrUnsupported.
func (*RefusalError) Is(target error) bool { return target == store.ErrUnsupported }

// refusal returns what of the backup at path a store cannot keep as an error, nil if that
// is nothing.
func refusal(path string, found []fit.Misfit) error {
	if len(found) == 0 {
		return nil
	}
	faults := &multierror.Error{ErrorFormat: func(errs []error) string {
		texts := make([]string, len(errs))
		for i, err := range errs {
			texts[i] = err.Error()
		}
		return strings.Join(texts, ", ")
	}}
	for _, m := range found {
		faults = multierror.Append(faults, &RefusalError{m.Reason, m.Entries, m.First})
	}
	return &FileError{path, fmt.Errorf("the store cannot keep all that is in it: %w; nothing was written. "+
		"Restore it into a store of the kind that it was taken from, change these entries there, and copy that store", faults)}
}

// An UnfinishedError says that a backup is being restored into a store, or that a restore
// was interrupted. Restoring the same backup once more finishes it.
type UnfinishedError struct {
	Content string    // identifies the backup, as [Info].Content does
	File    string    // the name of its file, without the directory
	Entries uint64    // in it
	Started time.Time // UTC, milliseconds

	// Err, if not nil, is why that cannot be read; the other fields are zero then.
	Err error
}

func (e *UnfinishedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the store is a restore that is not finished, and its record is damaged: %v: "+
			"remove what is in it and restore again", e.Err)
	}
	return fmt.Sprintf("the store is a restore that is not finished: of %s, with %s, begun at %s. "+
		"Restore the same file into it again to finish it", e.File, plural.Of(e.Entries, "entry"), e.Started.Format(time.RFC3339))
}

// Unwrap returns Err.
func (e *UnfinishedError) Unwrap() error { return e.Err }

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
