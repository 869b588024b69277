package store

import (
	"context"
	"iter"
)

// As returns st as a T, which is one of the interfaces that a Store need not have, or
// else the first T among the stores that st wraps. A Store that wraps another says so by
// a method Unwrap() Store: if it does not, an encrypted store passes for one that is not.
func As[T any](st Store) (t T, ok bool) {
	for st != nil {
		if t, ok = st.(T); ok {
			return t, true
		}
		wrapper, ok := st.(interface{ Unwrap() Store })
		if !ok {
			break
		}
		st = wrapper.Unwrap()
	}
	return t, false
}

// A Sizer is a Store that knows how much room it takes. A Store need not be one.
type Sizer interface {
	// Size returns the bytes that the store takes on the disk, with what it
	// keeps of older versions of its entries and has not yet given back. It
	// may be called at any time before Close, and is 0 for a store in memory.
	Size(ctx context.Context) (bytes uint64, err error)
}

// A Spacer is a Store that knows how much room is left. A Store need not be one.
type Spacer interface {
	// Free returns the bytes that are free on the store's disk, and those of them that
	// it needs itself to put its files in order, as it is now: once no more than needed
	// are free it is time to stop. The error matches errors.ErrUnsupported or
	// [ErrUnsupported] if that cannot be said.
	Free(ctx context.Context) (free, needed uint64, err error)
}

// An Encrypter is a Store that can keep its entries encrypted, which therefore must
// not leave it in the clear. A Store need not be one.
type Encrypter interface {
	// EncryptionKey returns the key, nil if the store is not encrypted. The
	// caller must not change it.
	EncryptionKey() []byte
}

// A Locator is a Store with a directory of its own on this machine, in which others
// may leave files beside the store's. A Store need not be one.
type Locator interface {
	// Dir returns the directory, "" if there is none, as for a store in memory.
	Dir() string
}

// A Sharer is a Store that several processes can have open at once. Who migrates one
// takes turns with others, and looks which programs use it. A Store need not be one.
type Sharer interface {
	// Shared reports whether other processes can write the store while it is open.
	Shared() bool
}

// A Loader is a Store that can be filled faster than by transactions, as long as nobody
// else uses it. A Store need not be one.
type Loader interface {
	// Load fills the store, which must be empty, with entries, each of which is valid
	// until the next one is asked for, and makes them durable. Their keys must be in
	// order, and each there once. The error matches [ErrUnsupported] if the store
	// cannot be loaded; then no entry was asked for. It is that of entries if they end
	// with one, and otherwise like those of [Txn.Set]. After any but the first the store
	// holds some of the entries, and so it does after a kill: only a store that is then
	// thrown away can be loaded.
	Load(ctx context.Context, entries iter.Seq2[Entry, error]) error
}
