package badgerstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"

	"github.com/kvmigrate/kvmigrate/store"
)

// sentinels maps Badger's errors to the contract's. They are values to return, so
// that a key which is not there costs no more than it must.
var sentinels = []mapped{
	{store.ErrNotFound, badger.ErrKeyNotFound},
	{store.ErrConflict, badger.ErrConflict},
	{store.ErrTxnTooBig, badger.ErrTxnTooBig},
	{store.ErrInvalidKey, badger.ErrEmptyKey},
	{store.ErrInvalidKey, badger.ErrInvalidKey},
	{store.ErrInvalidKey, badger.ErrBannedKey},
	{store.ErrReadOnly, badger.ErrReadOnlyTxn},
	{store.ErrTxnDone, badger.ErrDiscardedTxn},
	{store.ErrClosed, badger.ErrDBClosed},
	{store.ErrBusy, badger.ErrBlockedWrites},
	{store.ErrUnsupported, badger.ErrInvalidRequest},
	{store.ErrUnsupported, badger.ErrManagedTxn},
	{store.ErrUnsupported, badger.ErrNamespaceMode},
	{store.ErrUnsupported, badger.ErrWindowsNotSupported},
	{store.ErrCorrupt, badger.ErrTruncateNeeded},
}

// mapped is an error of Badger that also matches a sentinel of the contract. It
// has the sentinel's text: Badger's can contain keys.
type mapped struct{ sentinel, cause error }

func (e *mapped) Error() string { return e.sentinel.Error() }
func (e *mapped) Unwrap() error { return e.cause }

// Is matches the sentinel. An Unwrap of both errors would allocate at every match.
func (e *mapped) Is(target error) bool { return target == e.sentinel }

// redacted is an error of Badger that the contract has no name for, without the
// keys and values in its text.
type redacted struct {
	text  string
	cause error
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.cause }

// redact keeps the first line of err's text, because hex dumps follow it, and
// takes key out of that.
func redact(err error, key []byte) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if len(key) > 0 {
		text = strings.ReplaceAll(text, fmt.Sprintf("%q", key), "(key)")
	}
	return &redacted{text, err}
}

// wrap turns an error, of Badger or of this package, into one of the contract. It
// copies key.
func wrap(op string, key []byte, err error) error {
	if err == nil {
		return nil
	}
	// A key that is not there is part of every start-up and of many reads: the
	// error and its copy of a key of usual length are one allocation.
	var e struct {
		store.Error
		room [40]byte
	}
	e.Op, e.Err = op, translate(err, key)
	if key != nil {
		e.Key = append(e.room[:0], key...)
	}
	return &e.Error
}

func translate(err error, key []byte) error {
	for i := range sentinels {
		s := &sentinels[i]
		switch {
		case err == s.cause: //nolint:errorlint // the plain error needs no wrapper of its own
			return s
		case errors.Is(err, s.sentinel):
			return err
		case errors.Is(err, s.cause):
			return &mapped{s.sentinel, err}
		}
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case strings.Contains(err.Error(), y.ErrChecksumMismatch.Error()):
		return &mapped{store.ErrCorrupt, err}
	}
	return redact(err, key)
}

// wrapOpen turns an error of badger.Open into one of the contract.
func wrapOpen(dir string, err error) error {
	switch {
	case isLocked(err):
		err = holder(dir)
	case errors.Is(err, badger.ErrEncryptionKeyMismatch):
		err = fmt.Errorf("the store was created with another encryption key, or with none: open it with the one it was created with: %w", err)
	default:
		err = cmp.Or(unwritable(err), err)
	}
	return &store.Error{Op: "open badger store " + dir, Err: err}
}

// unwritable returns why a directory cannot be written, nil if err is of something else.
// The file LOCK is the first that Badger writes, and its report has no type, only a text.
func unwritable(err error) error {
	text := err.Error()
	if !strings.Contains(text, "Cannot write pid file") {
		return nil
	}
	for _, why := range []syscall.Errno{syscall.EACCES, syscall.EPERM, syscall.EROFS} {
		if strings.HasSuffix(text, why.Error()) {
			return fmt.Errorf("the directory cannot be written: %w", why)
		}
	}
	return nil
}
