// Package store is as much of the real one as the analyzer looks at.
package store

import (
	"context"
	"errors"
	"iter"
)

var ErrNotFound = errors.New("not found")

type Store interface {
	Update(ctx context.Context, fn func(Txn) error) error
}

type Reader interface {
	Get(key []byte) (Entry, error)
	Scan(s Scan) iter.Seq2[Entry, error]
}

type Txn interface {
	Reader
	Set(e Entry) error
	Delete(key []byte) error
}

type Entry struct{ Key, Value []byte }

type Scan struct{ Prefix []byte }
