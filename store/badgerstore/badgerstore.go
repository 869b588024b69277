// Package badgerstore implements [store.Store] over Badger v4.
//
// # Whose database
//
// [New] borrows a database that the program opened and goes on using; Close
// leaves it open. [Open] opens a directory itself, with SyncWrites on, and Close
// closes it.
//
// # What it adds to Badger
//
// Badger commits what was queued before an ErrTxnTooBig, panics when a
// transaction ends under an open iterator, hangs when it is used after Close,
// keeps the caller's slices, ends the process over some values in memory, names keys
// in its errors, and can return an empty value for one that a power loss tore. This
// package turns each of these into the contract's behaviour.
// Transactions are refused at 90 % of Badger's own limits, because one near the
// limit can end the process when it meets a small memtable.
//
// # What it cannot add
//
// Badger takes a damaged block of a table for the end of that table: its keys seem
// absent, to Get and to Scan. Only VerifyChecksum of the database below finds that,
// and may say so by a panic. And a lent database must not be closed while a
// transaction runs: what starts after it was closed gets [store.ErrClosed], what
// runs at that moment can hang or crash.
//
// # Durability
//
// With SyncWrites a commit is durable. Without it, as in a database that was
// opened with Badger's defaults, it is not, and Badger's own Sync leaves out
// memtables that were rotated and not yet flushed; [Store.Sync] therefore makes
// every file of the directory durable.
package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Store is a Badger database behind the contract of package store. Its methods
// may be called concurrently.
type Store struct {
	db     *badger.DB
	opts   badger.Options
	limits store.Limits
	owned  bool
	temp   string // the directory to remove on closing, "" if none

	building bool // whether Replace throws it away if it cannot be filled

	// Transactions hold life for reading. Close takes it for good, and from then
	// on, while it waits for them, no other begins.
	life    sync.RWMutex
	closing sync.Once

	reclaiming sync.Mutex // held by Reclaim

	large atomic.Bool // for Free, which need not look at all files of a large store

	syncing sync.Mutex
	durable map[string]bool // files that Sync made durable, and whether they stay as they are
}

// New returns a Store over a database that the caller opened, keeps using, and
// closes. The database must not be in managed mode and must have
// DetectConflicts, Badger's default: without it a stale writer overwrites a
// newer one and a migration can be lost. Such a database, and a closed one, is
// refused with an error that matches [store.ErrUnsupported] or
// [store.ErrClosed].
func New(db *badger.DB) (*Store, error) {
	if db == nil {
		return nil, &store.Error{Op: "use badger database", Err: fmt.Errorf("%w: the database is nil", store.ErrUnsupported)}
	}
	if db.IsClosed() {
		return nil, &store.Error{Op: "use badger database", Err: store.ErrClosed}
	}
	opts := db.Opts()
	if managed(db) {
		return nil, &store.Error{Op: "use badger database", Err: fmt.Errorf(
			"%w: it is in managed mode, where the program and not Badger orders transactions; open it with badger.Open", store.ErrUnsupported)}
	}
	if !opts.DetectConflicts {
		return nil, &store.Error{Op: "use badger database", Err: fmt.Errorf(
			"%w: DetectConflicts is off, so two programs could both run a migration; open it with WithDetectConflicts(true)", store.ErrUnsupported)}
	}
	return &Store{db: db, opts: opts, limits: limits(db, opts), durable: map[string]bool{}}, nil
}

// managed reports whether the program orders the transactions of db. Badger has
// no accessor for it, but refuses NewTransactionAt with a panic if it does so
// itself.
func managed(db *badger.DB) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	db.NewTransactionAt(0, false).Discard()
	return true
}

// limits are 90 % of Badger's.
func limits(db *badger.DB, opts badger.Options) store.Limits {
	l := store.Limits{
		TxnEntries: int(db.MaxBatchCount() * 9 / 10),
		TxnBytes:   int(db.MaxBatchSize() * 9 / 10),
		// Two bytes of meta and ten for the version, or a 12-byte pointer
		// more for a value in the value log.
		EntryOverhead: 24,
		KeyBytes:      65000,
		ValueBytes:    int(opts.ValueLogFileSize),
		Reserved:      badgerPrefix,
		ApartBytes:    max(1, int(opts.ValueThreshold)),
	}
	switch {
	case opts.InMemory:
		l.ApartBytes = 0
		l.ValueBytes = max(0, min(memoryThreshold(db)-1, l.TxnBytes-l.EntryOverhead-1))
	case !opts.SyncWrites:
		l.Volatile = true
		l.TornValueBytes = max(1, int(opts.ValueThreshold))
	}
	return l
}

// memoryThreshold finds the ValueThreshold that a database in memory was opened
// with, because its Opts no longer tell: Badger refuses longer values there. A
// value of exactly that length it accepts and then ends the process over it.
func memoryThreshold(db *badger.DB) int {
	longest := int(db.MaxBatchSize())
	// Badger dumps the first KiB of a value that it refuses, though it be shorter.
	value := make([]byte, max(longest, 1<<10)+1)
	return sort.Search(longest, func(n int) bool {
		t := db.NewTransaction(true)
		defer t.Discard()
		return t.Set([]byte{0}, value[:n+1]) != nil
	})
}

// DB returns the database below, for what the contract does not cover. Writing
// to kvmigrate's own keys through it breaks every promise of this module.
func (s *Store) DB() *badger.DB { return s.db }

// Dir implements [store.Locator].
func (s *Store) Dir() string {
	if s.opts.InMemory {
		return ""
	}
	return s.opts.Dir
}

// Limits implements [store.Store]. The bounds are 90 % of Badger's own.
func (s *Store) Limits() store.Limits { return s.limits }

// View implements [store.Store].
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := s.begin(ctx, "view"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	r := newReader(ctx, s.db, false)
	defer r.end()
	return fn(&r)
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := s.begin(ctx, "update"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if s.opts.ReadOnly {
		return &store.Error{Op: "update", Err: store.ErrReadOnly}
	}
	t := &txn{reader: newReader(ctx, s.db, true), store: s}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	return t.commit()
}

// begin admits one transaction, or says why not. The caller unlocks life.
func (s *Store) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return &store.Error{Op: op, Err: err}
	}
	if !s.life.TryRLock() {
		return &store.Error{Op: op, Err: store.ErrClosed}
	}
	// A lent database may be closed behind our back, and a transaction of a
	// closed database hangs.
	if s.db.IsClosed() {
		s.life.RUnlock()
		return &store.Error{Op: op, Err: store.ErrClosed}
	}
	return nil
}

// Close implements [store.Store]: it waits for running transactions and, if
// this Store opened the database, closes it.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.life.Lock()
		if s.temp != "" {
			err = s.drop()
		}
		if s.owned {
			err = errors.Join(err, s.db.Close())
		}
		if s.temp != "" {
			err = errors.Join(err, os.RemoveAll(s.temp))
		}
	})
	if errors.Is(err, badger.ErrDBClosed) {
		return nil
	}
	return wrap("close", nil, err)
}
