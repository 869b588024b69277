package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// What goes wrong in a store. Every error of a Store that is not the callback's
// own or the context's matches one of these with errors.Is, or is a failure of
// the engine below that kvmigrate cannot name.
var (
	// ErrNotFound means that the key does not exist, or its entry has expired.
	ErrNotFound = errors.New("key not found")

	// ErrConflict means that another transaction changed what this one had read.
	// Nothing was written; [Update] tries again.
	ErrConflict = errors.New("transaction conflict")

	// ErrTxnTooBig means that the transaction would exceed the store's [Limits].
	// Nothing was written.
	ErrTxnTooBig = errors.New("transaction too big")

	// ErrInvalidKey means that the key is empty, too long, or reserved by the engine.
	ErrInvalidKey = errors.New("invalid key")

	// ErrValueTooBig means that the value is longer than the store's [Limits] allow.
	ErrValueTooBig = errors.New("value too big")

	// ErrReadOnly means that the store was opened read-only.
	ErrReadOnly = errors.New("store is read-only")

	// ErrTxnDone means that a Reader or Txn was used after its callback returned.
	ErrTxnDone = errors.New("transaction already ended")

	// ErrClosed means that the store is closed, or the handle lent to it is.
	ErrClosed = errors.New("store is closed")

	// ErrBusy means that the engine refuses writes for the moment, for example while
	// it drops a prefix. Nothing was written; [Update] tries again.
	ErrBusy = errors.New("store refuses writes for the moment")

	// ErrSnapshotGone means that the store no longer keeps the snapshot that the
	// transaction reads, because it ran for too long. Nothing was written; [Update]
	// tries again.
	ErrSnapshotGone = errors.New("snapshot is no longer kept")

	// ErrUnknown means that the store did not confirm a commit: the transaction may
	// have been committed, may be committed later, or never. [Update] does not try
	// again; who does must read what it wrote first, in the same transaction, so
	// that of two attempts one conflicts.
	ErrUnknown = errors.New("outcome of the commit is unknown")

	// ErrLocked means that another process has the store open; a [*LockedError] says
	// which.
	ErrLocked = errors.New("store is in use by another process")

	// ErrCorrupt means that the store returned something other than what was written.
	ErrCorrupt = errors.New("store is corrupt")

	// ErrNoSpace means that the disk, or the quota of a server, has no room for what is
	// to be written. Nothing was, unless the error matches [ErrUnknown] as well.
	ErrNoSpace = errors.New("no space left on the disk")

	// ErrUnsupported means that the store cannot do what was asked, or was opened in a
	// way that breaks the contract of this package.
	ErrUnsupported = errors.New("not supported by this store")
)

// A LockedError says who has a store open, as far as that can be told. It matches
// [ErrLocked].
type LockedError struct {
	PID     int       // of the process, 0 if it is not known
	Command string    // the name of its program, "" if it is not known
	Since   time.Time // when it opened the store, zero if it is not known

	// Gone says that the process with that PID has ended without closing the store,
	// so that another one has it, which did not leave its PID: a child of that
	// process, or one that only reads.
	Gone bool
}

func (e *LockedError) Error() string {
	since := ""
	if !e.Since.IsZero() {
		since = ", since " + e.Since.UTC().Format(time.RFC3339)
	}
	switch {
	case e.PID == 0:
		return "store is in use by a process that did not leave its PID, as one that only reads: stop it, or wait until it ends, and try again"
	case e.Gone:
		return fmt.Sprintf("store is in use by a process that is not known: PID %d, which had it%s, is gone and may have left it to a child. Look for one with lsof or fuser, stop it, and try again", e.PID, since)
	case e.PID == os.Getpid():
		return "store is in use by this process, which has had it open" + strings.TrimPrefix(since, ",") + ": use that, or close it first"
	}
	name := fmt.Sprintf("PID %d", e.PID)
	if e.Command != "" {
		name += ", " + e.Command
	}
	return fmt.Sprintf("store is in use by another process (%s%s): stop it, or wait until it ends, and try again", name, since)
}

// Is reports whether target is ErrLocked.
func (*LockedError) Is(target error) bool { return target == ErrLocked }

// Retriable reports whether err says that a transaction wrote nothing and may commit
// when it is tried again: it matches [ErrConflict], [ErrBusy] or [ErrSnapshotGone].
func Retriable(err error) bool {
	return errors.Is(err, ErrConflict) || errors.Is(err, ErrBusy) || errors.Is(err, ErrSnapshotGone)
}

// An Error says which operation of a store failed and on which key. The key is
// a field and not part of the text, because keys can be secret and texts end up
// in logs.
type Error struct {
	Op  string // "get", "scan", "set", "delete", "commit", "open", "sync", …
	Key []byte // nil if the operation has no single key
	Err error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
