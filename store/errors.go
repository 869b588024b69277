package store

import "errors"

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

	// ErrLocked means that another process has the store open.
	ErrLocked = errors.New("store is in use by another process")

	// ErrCorrupt means that the store returned something other than what was written.
	ErrCorrupt = errors.New("store is corrupt")

	// ErrUnsupported means that the store cannot do what was asked, or was opened in a
	// way that breaks the contract of this package.
	ErrUnsupported = errors.New("not supported by this store")
)

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
