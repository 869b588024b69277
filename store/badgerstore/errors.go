package badgerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"

	"github.com/kvmigrate/kvmigrate/store"
)

// sentinels maps Badger's errors to the contract's.
var sentinels = []struct{ badger, store error }{
	{badger.ErrKeyNotFound, store.ErrNotFound},
	{badger.ErrConflict, store.ErrConflict},
	{badger.ErrTxnTooBig, store.ErrTxnTooBig},
	{badger.ErrEmptyKey, store.ErrInvalidKey},
	{badger.ErrInvalidKey, store.ErrInvalidKey},
	{badger.ErrBannedKey, store.ErrInvalidKey},
	{badger.ErrReadOnlyTxn, store.ErrReadOnly},
	{badger.ErrDiscardedTxn, store.ErrTxnDone},
	{badger.ErrDBClosed, store.ErrClosed},
	{badger.ErrBlockedWrites, store.ErrBusy},
	{badger.ErrInvalidRequest, store.ErrUnsupported},
	{badger.ErrManagedTxn, store.ErrUnsupported},
	{badger.ErrNamespaceMode, store.ErrUnsupported},
	{badger.ErrWindowsNotSupported, store.ErrUnsupported},
	{badger.ErrTruncateNeeded, store.ErrCorrupt},
}

// mapped is an error of Badger that also matches a sentinel of the contract. It
// has the sentinel's text: Badger's can contain keys.
type mapped struct{ sentinel, cause error }

func (e *mapped) Error() string   { return e.sentinel.Error() }
func (e *mapped) Unwrap() []error { return []error{e.sentinel, e.cause} }

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
	return &store.Error{Op: op, Key: bytes.Clone(key), Err: translate(err, key)}
}

func translate(err error, key []byte) error {
	for _, s := range sentinels {
		if errors.Is(err, s.store) {
			return err
		}
		if errors.Is(err, s.badger) {
			return &mapped{s.store, err}
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

// wrapOpen turns an error of badger.Open into one of the contract. Badger's lock
// error has no type, only a text.
func wrapOpen(dir string, err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "Cannot acquire directory lock"):
		err = fmt.Errorf("%w%s: stop it, or wait until it ends, and try again", store.ErrLocked, holder(dir))
	case errors.Is(err, badger.ErrEncryptionKeyMismatch):
		err = fmt.Errorf("the store was created with another encryption key, or with none: open it with the one it was created with: %w", err)
	}
	return &store.Error{Op: "open badger store " + dir, Err: err}
}
