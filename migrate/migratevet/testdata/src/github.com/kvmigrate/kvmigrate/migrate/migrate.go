// Package migrate is as much of the real one as the analyzer looks at.
package migrate

import (
	"iter"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

type Tx struct{ store.Txn }

func (tx *Tx) Now() time.Time                                          { return time.Time{} }
func (tx *Tx) Cursor() []byte                                          { return nil }
func (tx *Tx) Continue(cursor []byte)                                  {}
func (tx *Tx) Get(key []byte) (store.Entry, error)                     { return store.Entry{}, nil }
func (tx *Tx) Scan(s store.Scan) iter.Seq2[store.Entry, error]         { return nil }
func (tx *Tx) Set(e store.Entry) error                                 { return nil }
func (tx *Tx) Delete(key []byte) error                                 { return nil }
func (tx *Tx) Update(key []byte, f func([]byte) ([]byte, error)) error { return nil }
