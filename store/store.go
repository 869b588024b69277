// Package store is the contract between kvmigrate and a key-value store: what
// a store must promise so that a schema migration can be atomic, resumable and
// durable on it.
//
// # Model
//
// A [Store] is an ordered map from byte-string keys to entries. [Store.View]
// gives a read-only snapshot, [Store.Update] one attempt at a serializable
// read-write transaction, and [Update] the loop that retries conflicts. Keys
// order by bytes.Compare.
//
// # Partitions
//
// A [Partition] is a named region of the keyspace, the column family of stores
// that have none: every key of it starts with its name and a slash. Keys that
// belong to no partition are the default partition.
//
// # Implementations
//
// Package badgerstore implements the contract over Badger v4, etcdstore, a module of
// its own, over etcd v3, and package overlay over a snapshot of another store, which
// it does not write. Package storetest is the conformance suite that every
// implementation passes.
package store

import (
	"context"
	"iter"
)

// A Store is a transactional, ordered key-value store.
//
// All methods may be called concurrently. After Close every method but Close
// returns an error that matches [ErrClosed]; it MUST NOT hang or panic.
type Store interface {
	// View calls fn with a consistent snapshot of the store: nothing that
	// commits after View was called is visible to fn. It returns fn's error
	// unchanged, or an error that matches ctx.Err's when ctx ended first.
	// The Reader MUST NOT be used after fn returned: its methods then return
	// [ErrTxnDone].
	View(ctx context.Context, fn func(Reader) error) error

	// Update makes one attempt at a read-write transaction: it calls fn once
	// and, if fn returns nil, commits everything that fn wrote or nothing.
	//
	// If fn returns an error, nothing is written and that error is returned
	// unchanged. If fn returns nil although one of its writes failed, nothing
	// is written and the error of the first failed write is returned: a
	// dropped error MUST NOT commit half a transaction. If a key or entry
	// that fn read was changed by another transaction meanwhile, nothing is
	// written and the error matches [ErrConflict].
	// Keys read include keys that were not found, but a Scan protects only
	// the entries it yielded, not the gaps between them. A transaction that
	// wrote nothing need not conflict: what it read was consistent.
	//
	// A store at the other end of a network can lose the answer to a commit; the
	// error then matches [ErrUnknown], and the transaction is written as a whole,
	// now or later, or not at all.
	//
	// Transactions do not wait for each other: one may run inside the
	// callback of another.
	//
	// Use the function [Update] to retry conflicts. A nil error means
	// committed; whether it also means durable is said at Sync.
	Update(ctx context.Context, fn func(Txn) error) error

	// Sync returns once every transaction whose Update returned before Sync
	// was called survives a power loss. It may be called inside View and
	// Update. A store whose commits are durable by
	// themselves returns at once.
	Sync(ctx context.Context) error

	// Limits returns the bounds of one transaction. They do not change
	// during the life of the store.
	Limits() Limits

	// Close waits for running transactions and releases what the store
	// opened itself; a handle that was lent to it stays open. Closing twice
	// is not an error. Calling Close from inside View or Update deadlocks.
	Close() error
}

// A Reader reads one snapshot. It is valid only inside the function that it was
// passed to and MUST NOT be used by several goroutines at once.
type Reader interface {
	// Get returns the entry of key, or an error that matches [ErrNotFound].
	// An entry past its expiry is not found. A value that comes back
	// damaged is an error that matches [ErrCorrupt], never a short value.
	// The caller owns the returned Value; Key is the argument.
	Get(key []byte) (Entry, error)

	// Scan yields the entries that s selects, in key order. The first error
	// is yielded once with a zero Entry and ends the sequence. Breaking out
	// early is legal and releases everything that the scan holds.
	//
	// Key and Value of a yielded entry are valid until the next iteration:
	// copy what you keep. In a Txn, a scan sees the writes that the
	// transaction made before the scan began; whether it sees those made
	// while it runs is not defined.
	Scan(s Scan) iter.Seq2[Entry, error]
}

// A Txn reads and writes within one transaction, under the rules of [Reader].
type Txn interface {
	Reader

	// Set stores e, replacing an entry with the same key, its expiry and
	// its user meta included. It does not retain e.Key or e.Value. The
	// error matches [ErrInvalidKey], [ErrValueTooBig], [ErrTxnTooBig],
	// [ErrTxnDone] or [ErrUnsupported] (for an expiry or user meta in a
	// store that keeps none). After the first failed Set or Delete the
	// transaction can no longer commit.
	Set(e Entry) error

	// Delete removes key. Removing a key that does not exist is no error.
	// It does not retain key. Its errors are those of Set.
	Delete(key []byte) error
}

// An Entry is one key with its value.
type Entry struct {
	Key   []byte
	Value []byte

	// ExpiresAt is when the entry stops to exist, in Unix seconds; 0 is
	// never.
	ExpiresAt uint64

	// Meta is a byte of the program's own that the store keeps beside the
	// value (Badger's user meta).
	Meta byte
}

// A Scan selects the entries of a range of keys. The zero Scan selects every
// entry of the store.
type Scan struct {
	// Prefix restricts the scan to keys that start with it.
	Prefix []byte

	// From, if not nil, is the first key to yield, inclusive: keys before it
	// in the direction of the scan are passed over.
	From []byte

	// Reverse yields the keys in descending order.
	Reverse bool

	// KeysOnly leaves Value nil, and spares a store the work of reading it.
	KeysOnly bool
}

// Limits are the bounds of one transaction of a store. Staying within them
// never fails with [ErrTxnTooBig].
type Limits struct {
	// TxnEntries is the number of Sets and Deletes that fit in one
	// transaction. Writing one key twice counts twice.
	TxnEntries int

	// TxnBytes is the sum of [Limits.Cost] that fits in one transaction.
	TxnBytes int

	// EntryOverhead is what an entry costs beyond its key and value, in
	// bytes.
	EntryOverhead int

	// ApartBytes, if not 0, is the length from which on a value is kept apart
	// from its key and takes none of TxnBytes.
	ApartBytes int

	// KeyBytes and ValueBytes are the longest key and value. An entry whose
	// Cost exceeds TxnBytes can be refused all the same, with
	// [ErrTxnTooBig].
	KeyBytes, ValueBytes int

	// Reserved is what the keys begin with that the engine has for itself, ""
	// if there are none: a Set or Delete of one fails with [ErrInvalidKey].
	Reserved string

	// Volatile says that a commit is not durable until the next Sync: a power
	// failure can take any of those since the last one, each as a whole, and
	// leave later ones.
	Volatile bool

	// TornValueBytes, if not 0, is the length from which on a value can come
	// back empty when the power fails before the next Sync, although its
	// transaction is otherwise there. A transaction that vouches for data
	// must not carry such values.
	TornValueBytes int
}

// Cost returns how many of TxnBytes a Set of e takes, at most.
func (l Limits) Cost(e Entry) int {
	return len(e.Key) + len(e.Value) + l.EntryOverhead
}

// Charge returns how many of TxnBytes a Set of e takes: its Cost, but without a
// value that is kept apart.
func (l Limits) Charge(e Entry) int {
	if l.ApartBytes > 0 && len(e.Value) >= l.ApartBytes {
		return len(e.Key) + l.EntryOverhead
	}
	return l.Cost(e)
}
