// Package overlay implements [store.Store] over a snapshot of another one that it
// does not write: what is written goes to a scratch store, and what is read is
// both, merged. It is how a migration is tried without being made.
//
// # Layers
//
// The base is read through one View, which is open from New to Close: programs
// that go on writing to it do not change what the overlay shows. Above it lie, in
// the scratch store, what was settled and what was written since. [Store.Changes]
// compares the last layer with those below it, and [Store.Settle] moves it down.
//
// # What is the base's, and what is not
//
// An overlay accepts and refuses by the limits of its base, so that batches that
// follow them are those that the base would see. It knows of no other reason for
// which a base refuses an entry, such as an expiry that it does not keep. Conflicts between transactions are found by the
// scratch store. A transaction may also conflict over the first key behind those
// that a scan yielded.
//
// Nothing is durable: the scratch store goes when the overlay does.
package overlay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Store is a base with changes over it. Its methods may be called concurrently.
type Store struct {
	scratch store.Store
	limits  store.Limits
	base    *snapshot

	// Transactions hold life for reading, Settle while it moves a layer, Close
	// for good.
	life    sync.RWMutex
	closed  atomic.Bool
	closing sync.Once
	layer   uint32 // that is written to; guarded by life

	mu      sync.Mutex
	written Written
}

// Written is what the transactions of a Store were told to write when they
// committed, whether or not a later one wrote it again.
type Written struct {
	Transactions uint64
	Sets         uint64
	Deletes      uint64
	Bytes        uint64 // of keys and values, without those in ApartBytes
	ApartBytes   uint64 // of values that the base keeps apart from their keys
}

// New returns a Store that shows what base holds now. Its changes go to scratch,
// which must be empty, must not be used by anything else meanwhile, and must hold
// in a transaction what one of base does and 16 bytes more an entry; otherwise the
// error matches [store.ErrUnsupported].
//
// ctx is for New alone. Base and scratch are lent: they stay open at Close, which
// must come before theirs.
func New(ctx context.Context, base, scratch store.Store) (*Store, error) {
	limits, err := fit(base.Limits(), scratch.Limits())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, &store.Error{Op: "open overlay", Err: err}
	}
	s, err := open(ctx, base)
	if err != nil {
		return nil, err
	}
	return &Store{scratch: scratch, limits: limits, base: s, layer: settled + 1}, nil
}

// fit returns the limits of an overlay.
func fit(base, scratch store.Limits) (store.Limits, error) {
	extra := prefixLen + headerLen + max(0, scratch.EntryOverhead-base.EntryOverhead)
	apart := scratch.ApartBytes > 0 && scratch.ApartBytes <= base.ApartBytes+headerLen
	if scratch.TxnEntries < base.TxnEntries || scratch.TxnBytes < base.TxnBytes+extra*base.TxnEntries || base.ApartBytes > 0 && !apart {
		return store.Limits{}, &store.Error{Op: "open overlay", Err: fmt.Errorf(
			"%w: a transaction of the scratch store holds less than one of the store below", store.ErrUnsupported)}
	}
	base.KeyBytes = min(base.KeyBytes, scratch.KeyBytes-prefixLen)
	base.ValueBytes = min(base.ValueBytes, scratch.ValueBytes-headerLen)
	return base, nil
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.view(ctx, func(r *reader) error { return fn(r) })
}

func (s *Store) view(ctx context.Context, fn func(*reader) error) error {
	if err := s.begin("view"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	return s.scratch.View(ctx, func(r store.Reader) error {
		v := &reader{ctx: ctx, store: s, scratch: r, layer: s.layer}
		defer v.end()
		return fn(v)
	})
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := s.begin("update"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	var written Written
	err := s.scratch.Update(ctx, func(tx store.Txn) error {
		t := &txn{reader: reader{ctx: ctx, store: s, scratch: tx, layer: s.layer, protects: true}, scratchTxn: tx}
		defer t.end()
		err := fn(t)
		if err == nil {
			err = t.poison
		}
		written = t.written
		return err
	})
	if err == nil {
		s.count(written)
	}
	return err
}

// begin admits one transaction, or says why not. The caller unlocks life.
func (s *Store) begin(op string) error {
	if !s.life.TryRLock() {
		return &store.Error{Op: op, Err: s.unavailable()}
	}
	return nil
}

// unavailable is why life cannot be had.
func (s *Store) unavailable() error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return store.ErrBusy
}

func (s *Store) count(w Written) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written.Transactions++
	s.written.Sets += w.Sets
	s.written.Deletes += w.Deletes
	s.written.Bytes += w.Bytes
	s.written.ApartBytes += w.ApartBytes
}

// Written returns what was written since New.
func (s *Store) Written() Written {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// Sync implements [store.Store]. It makes nothing durable, because nothing of an
// overlay is meant to be.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.begin("sync"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if err := ctx.Err(); err != nil {
		return &store.Error{Op: "sync", Err: err}
	}
	return nil
}

// Free implements [store.Spacer]: it is what is free to the scratch store, and what that
// needs.
func (s *Store) Free(ctx context.Context) (free, needed uint64, err error) {
	spacer, ok := store.As[store.Spacer](s.scratch)
	if !ok {
		return 0, 0, &store.Error{Op: "find free space", Err: store.ErrUnsupported}
	}
	return spacer.Free(ctx)
}

// Limits implements [store.Store]. They are the base's, but keys and values may
// be a few bytes shorter if the scratch store takes no longer ones.
func (s *Store) Limits() store.Limits { return s.limits }

// Close implements [store.Store]: it waits for running transactions and lets go
// of the base.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.life.Lock()
		err = s.base.close()
	})
	return err
}

// A layer is a region of the scratch store: its number, and then the key.
const (
	settled   = 0 // the layer of what was settled
	prefixLen = 4
)

// layered returns key as it is in layer, in a new slice.
func layered(layer uint32, key []byte) []byte {
	b := make([]byte, prefixLen, prefixLen+len(key))
	binary.BigEndian.PutUint32(b, layer)
	return append(b, key...)
}

// The value of an entry of a layer is a header and the value of the overlay's
// entry. A deletion is a header alone. The expiry is in the header, because an
// entry that the scratch store dropped would let the one below it show.
const (
	headerLen = 10 // 1 if it exists, its user meta, its expiry
	exists    = 1
)

func encode(e store.Entry) []byte {
	b := make([]byte, headerLen, headerLen+len(e.Value))
	b[0], b[1] = exists, e.Meta
	binary.BigEndian.PutUint64(b[2:], e.ExpiresAt)
	return append(b, e.Value...)
}

// deletion is the value of a deleted entry.
var deletion = make([]byte, headerLen)

// decode returns the entry of key that data encodes. It shares data's memory.
func decode(key, data []byte) (e store.Entry, ok bool, err error) {
	if len(data) < headerLen {
		return store.Entry{}, false, fmt.Errorf("%w: an entry of the scratch store is too short", store.ErrCorrupt)
	}
	e = store.Entry{Key: key, Meta: data[1], ExpiresAt: binary.BigEndian.Uint64(data[2:]), Value: data[headerLen:]}
	return e, data[0] == exists, nil
}

// rekey returns an error of the scratch store as one about the overlay's key.
func rekey(op string, key []byte, err error) error {
	if e, ok := errors.AsType[*store.Error](err); ok {
		err = e.Err
	}
	return &store.Error{Op: op, Key: append([]byte(nil), key...), Err: err}
}
