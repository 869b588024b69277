package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// A RowFunc changes one entry, e: by tx.Set with another Value, which keeps the
// entry's expiry and user meta, by tx.Delete, by both to move it to another key,
// or not at all. It may read and write other keys through tx as well, in the
// same transaction.
//
// e.Key and e.Value are valid until it returns; it may change the bytes of
// e.Value. Several batches are worked on at the same time, each by one goroutine
// in the order of its keys, so a RowFunc must be safe for concurrent use with
// different Txs, unless it is under [Serial]. It runs again if its transaction is
// retried. Within tx it sees what earlier rows of its batch wrote; what other
// batches are writing it never sees half: a Get of a key that they change makes
// the store retry the batch. A Scan is protected only for the entries it yields:
// a RowFunc that scans what other rows insert belongs under Serial.
type RowFunc func(ctx context.Context, tx *Tx, e store.Entry) error

// Each returns an Up that calls fn for every entry whose key starts with prefix,
// in batches of as many as fit well in a transaction; an empty prefix is the
// whole store without the records of its schemas. It is resumed where it was
// interrupted, and the version changes with the last batch. Expired and deleted
// entries are not visited.
//
// A batch that turns out too big for a transaction is halved, down to one entry;
// if that is too big alone, the error matches [store.ErrTxnTooBig]. An error of
// fn, and that one, come as a [*store.Error] with the entry's key as a field.
//
// No entry is visited twice: fn must not Set or Delete a key with the prefix that
// lies beyond e.Key, because it would come along later, or has been read already;
// that is [ErrAhead]. To move
// entries to such keys, move them out of the prefix in one of [Phases] and back
// in the next.
func Each(prefix []byte, fn RowFunc) UpFunc {
	return (&visit{prefix: bytes.Clone(prefix), fn: fn}).up
}

// Rewrite returns an Up that replaces the value of every entry whose key starts
// with prefix by what change makes of it, and keeps its expiry and user meta. An
// entry whose value stays the same is not written. It is [Each] for the most
// common case; the same holds of change as of a [RowFunc]: it must be safe for
// concurrent use, and value is its own until it returns.
func Rewrite(prefix []byte, change func(value []byte) ([]byte, error)) UpFunc {
	return Each(prefix, func(_ context.Context, tx *Tx, e store.Entry) error {
		// A copy, so that a change made in place is seen as one.
		tx.scratch = append(tx.scratch[:0], e.Value...)
		value, err := change(tx.scratch)
		if err != nil || bytes.Equal(value, e.Value) {
			return err
		}
		e.Value = value
		return tx.Set(e)
	})
}

// DropPrefix returns an Up that deletes every entry whose key starts with
// prefix, which must not be empty, in batches as [Each]. Other writers go on
// meanwhile; what they add behind it stays, unless a power failure without
// SyncWrites makes it go over that part again.
func DropPrefix(prefix []byte) UpFunc {
	if len(prefix) == 0 {
		return func(context.Context, *Tx) error {
			return errors.New("DropPrefix of an empty prefix would delete the store")
		}
	}
	return (&visit{prefix: bytes.Clone(prefix), keysOnly: true, again: true, fn: func(_ context.Context, tx *Tx, e store.Entry) error {
		return tx.Delete(e.Key)
	}}).up
}

// Index returns an Up that adds the entries of an index for every row of the
// partition rows, in batches as [Each]. entry is given a row's key within rows and
// its value, and returns the key within index and the value of its entry, which
// may be empty, or a nil key if the row is not indexed. The same holds of it as of
// a [RowFunc]: it must be safe for concurrent use, and id and row are valid until
// it returns. An index entry expires with its row. A row with several entries, one
// for each of its tags, is for [IndexMany].
//
// If two rows have the same key with different values, or index already holds another
// value under one, the error matches [ErrDuplicate]: the value of an entry that must be
// unique is the row's id, or holds it. A key that is not meant to be unique ends with
// the row's id. An entry that is there already with the same value stays, so that
// an index can be built again.
func Index(rows, index store.Partition, entry func(id, row []byte) (key, value []byte, err error)) UpFunc {
	return IndexMany(rows, index, func(id, row []byte, add func(key, value []byte)) error {
		key, value, err := entry(id, row)
		if err == nil && key != nil {
			add(key, value)
		}
		return err
	})
}

// IndexMany is [Index] for rows that have any number of entries each: entries calls
// add for every one, and for none if the row is not indexed. add copies key and
// value, and must not be called after entries returned. All entries of a row are
// written in one transaction.
func IndexMany(rows, index store.Partition, entries func(id, row []byte, add func(key, value []byte)) error) UpFunc {
	return (&visit{prefix: rows.Prefix(), again: true, fn: func(_ context.Context, tx *Tx, row store.Entry) error {
		id, _ := rows.Cut(row.Key)
		var refused error // of the first entry that was
		err := entries(id, row.Value, func(key, value []byte) {
			if refused == nil {
				refused = addToIndex(tx, store.Entry{Key: index.Key(key), Value: value, ExpiresAt: row.ExpiresAt})
			}
		})
		if err != nil {
			return err
		}
		return refused
	}}).up
}

// addToIndex sets e unless it is there.
func addToIndex(tx *Tx, e store.Entry) error {
	old, err := tx.Get(e.Key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return tx.Set(e)
	case err != nil:
		return err
	case !bytes.Equal(old.Value, e.Value):
		return &store.Error{Op: "index", Key: e.Key, Err: ErrDuplicate}
	case old.ExpiresAt != e.ExpiresAt:
		return tx.Set(e)
	}
	return nil
}

// Phases returns an Up that runs ups one after the other, each from its first
// step to its last, all within one version: a back-fill, its verification, then
// the deletion of the old. The version changes with the last step of the last
// one. An up of Phases must not be Phases itself.
//
// A migration that is under way is resumed in its phase, so ups must not change
// once a store can have begun them.
func Phases(ups ...UpFunc) UpFunc {
	return func(ctx context.Context, tx *Tx) error {
		if tx.phases > 0 || len(ups) == 0 {
			return errors.New("Phases wants one phase or more, and none that is Phases itself")
		}
		tx.phases = len(ups)
		if tx.phase > len(ups) {
			return nil // the runner says that the migration has changed
		}
		return ups[tx.phase-1](ctx, tx)
	}
}

// Serial returns up with its batches one after the other, each after the commit
// of the one before it and by one goroutine at a time: for a row function that
// keeps state of its own or scans what earlier rows wrote.
func Serial(up UpFunc) UpFunc {
	return func(ctx context.Context, tx *Tx) error {
		tx.serial = true
		return up(ctx, tx)
	}
}

// A visit is a builder's request to the runner: to make of the step a batch of the
// entries with prefix, and to call fn for each.
type visit struct {
	prefix   []byte
	keysOnly bool
	again    bool // whether fn may be called for a batch again after later ones
	fn       RowFunc
}

// up is the UpFunc of a builder: it makes the request.
func (w *visit) up(_ context.Context, tx *Tx) error {
	switch {
	case w.fn == nil:
		return errors.New("the function for its rows is nil")
	case tx.rows != nil:
		return errMixed
	}
	tx.rows = w
	return nil
}

var errMixed = errors.New("an Up that visits rows must do nothing else in the same step: put the rest in one of Phases")

var errElsewhere = errors.New("the step before stopped outside of the prefix that is visited: a migration that is under way must not change, and steps of one's own belong in one of Phases")

// The size of a batch. Larger ones are not faster, and take more memory.
const (
	batchRows  = 4000
	batchBytes = 1 << 20
	// batchShare is the part of a transaction that the rows of a batch may take
	// when they are read: what is written can be more.
	batchShare = 4
)

// A batch is the entries of one step.
type batch struct {
	*buffer       // until they are visited
	n         int // entries
	bytes     int // of keys and values
	last      []byte
	more      bool // whether entries follow it
	nextLimit int  // of entries in the next batch
}

// A buffer holds the entries of a batch.
type buffer struct {
	spans []span
	arena []byte // keys and values, one after the other
}

// A span is an entry without its bytes.
type span struct {
	key, value int
	expiresAt  uint64
	meta       byte
}

// buffers keeps a few for the next batches, so that a migration of any size
// makes no garbage of them.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

func (b *batch) release() {
	if cap(b.arena) <= 2*batchBytes {
		b.spans, b.arena = b.spans[:0], b.arena[:0]
		buffers.Put(b.buffer)
	}
	b.buffer = nil
}

func (b *batch) add(e store.Entry) {
	b.spans = append(b.spans, span{len(e.Key), len(e.Value), e.ExpiresAt, e.Meta})
	b.arena = append(append(b.arena, e.Key...), e.Value...)
	b.n++
	b.bytes += len(e.Key) + len(e.Value)
	b.last = b.arena[len(b.arena)-len(e.Key)-len(e.Value):][:len(e.Key)]
}

// readRows reads the batch that follows p's position, of at most limit entries
// if that is not 0.
func (tx *Tx) readRows(p Progress, limit int) error {
	if tx.continues || tx.written+tx.deleted > 0 {
		return errMixed
	}
	most := min(batchRows, max(1, tx.limits.TxnEntries/batchShare))
	cost, mostCost := 0, min(batchBytes, tx.limits.TxnBytes/batchShare)
	if limit == 0 {
		limit = most
		if p.rows > 0 {
			limit = min(p.rows, most)
		}
	}
	// A batch that was halved says how many fit about here: grow slowly.
	b := &batch{buffer: buffers.Get().(*buffer), nextLimit: min(limit+limit/8+1, most)}
	tx.batch = b
	scan := store.Scan{Prefix: tx.rows.prefix, KeysOnly: tx.rows.keysOnly}
	if p.cursor != nil {
		if !bytes.HasPrefix(p.cursor, tx.rows.prefix) {
			return errElsewhere // or what lies before the cursor would be passed over
		}
		scan.From = append(bytes.Clone(p.cursor), 0)
	}
	for e, err := range tx.txn.Scan(scan) {
		if err != nil {
			return err
		}
		if p.until != nil && bytes.Compare(e.Key, p.until) > 0 {
			break
		}
		if bytes.HasPrefix(e.Key, tx.reserved) || isRecord(e.Key) {
			continue
		}
		cost += tx.limits.Cost(e)
		if b.n > 0 && (b.n == limit || cost > mostCost) {
			b.more = true
			break
		}
		b.add(e)
	}
	b.last = bytes.Clone(b.last)
	return nil
}

// visitRows calls the row function for each entry of the batch.
func (tx *Tx) visitRows(ctx context.Context) error {
	defer tx.batch.release()
	arena := tx.batch.arena
	for _, s := range tx.batch.spans {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := s.key + s.value
		e := store.Entry{Key: arena[:s.key:s.key], Value: arena[s.key:end:end], ExpiresAt: s.expiresAt, Meta: s.meta}
		arena = arena[end:]
		tx.row = e.Key
		err := call(func() error { return tx.rows.fn(ctx, tx, e) })
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, store.ErrTxnTooBig):
			return err
		default:
			return &store.Error{Op: "visit entry", Key: bytes.Clone(e.Key), Err: err}
		}
	}
	tx.row = nil
	return nil
}

// blame makes of a transaction that a batch overflowed one that is to be tried
// with fewer rows, or names the one row that is too big.
func (tx *Tx) blame(err error) error {
	switch {
	case !errors.Is(err, store.ErrTxnTooBig) || tx == nil || tx.batch == nil || tx.batch.n == 0:
		return err
	case tx.batch.n > 1:
		return &overflowError{rows: tx.batch.n, err: err}
	}
	return &store.Error{Op: "visit entry", Key: tx.batch.last, Err: fmt.Errorf("%w: %w", errRowTooBig, err)}
}

var errRowTooBig = errors.New("what is written for one entry exceeds a transaction")

// An overflowError says that a batch does not fit in a transaction. It is not for
// callers: the runner tries with fewer rows.
type overflowError struct {
	rows int
	err  error
}

func (e *overflowError) Error() string { return e.err.Error() }
func (e *overflowError) Unwrap() error { return e.err }
