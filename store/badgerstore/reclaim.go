package badgerstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
)

// discardRatio is the part of a value log file that must be garbage before it is
// worth rewriting: the one that Badger recommends.
const discardRatio = 0.5

// marks is how many beginnings and ends of transactions Badger may have yet to take note
// of: the room of the channel in its y/watermark.go.
const marks = 100

// settleReads has Badger take note of all transactions that have ended. It drops only what
// none that it thinks open can see, and just after it is opened that can be everything.
func (s *Store) settleReads() {
	for range marks {
		s.db.NewTransaction(false).Discard()
	}
}

// Reclaim implements [store.Reclaimer]. It flattens the LSM tree, which is one step
// and finds the garbage of the value log, and then rewrites the files of the value
// log that are at least half garbage, each in a step. What is in memory only is
// neither flattened nor collected until Badger has written it to a table. Compactors
// stand still meanwhile and are started again.
//
// Transactions that run keep what they see: space that a long one still needs is
// given back by a later Reclaim.
func (s *Store) Reclaim(ctx context.Context) error {
	if err := s.begin(ctx, "reclaim"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if s.opts.ReadOnly {
		return &store.Error{Op: "reclaim", Err: store.ErrReadOnly}
	}
	// Badger's Flatten must not run twice at a time: each would stop and start the
	// compactors of the other.
	if !s.reclaiming.TryLock() {
		return &store.Error{Op: "reclaim", Err: store.ErrBusy}
	}
	defer s.reclaiming.Unlock()
	s.settleReads()
	if err := s.db.Flatten(1); err != nil {
		return wrap("reclaim", nil, err)
	}
	for !s.opts.InMemory {
		if err := ctx.Err(); err != nil {
			return &store.Error{Op: "reclaim", Err: err}
		}
		switch err := s.db.RunValueLogGC(discardRatio); {
		case errors.Is(err, badger.ErrNoRewrite):
			return nil
		case errors.Is(err, badger.ErrRejected) && !s.db.IsClosed():
			return &store.Error{Op: "reclaim", Err: fmt.Errorf("%w: its value log is being collected", store.ErrBusy)}
		case err != nil:
			return wrap("reclaim", nil, err)
		}
	}
	return nil
}
