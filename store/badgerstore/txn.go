package badgerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
)

// badgerPrefix is the part of the keyspace that Badger keeps for itself.
var badgerPrefix = []byte("!badger!")

// txn implements store.Reader and store.Txn over one Badger transaction.
type txn struct {
	ctx    context.Context
	store  *Store
	badger *badger.Txn
	update bool

	done      bool
	poison    error // the first failed write: nothing may commit after it
	entries   int
	bytes     int
	iterators []*badger.Iterator // open ones: Discard panics over them
	arena     []byte             // room for copies of keys and values
}

func newTxn(ctx context.Context, s *Store, update bool) *txn {
	return &txn{ctx: ctx, store: s, badger: s.db.NewTransaction(update), update: update}
}

// end discards the transaction. It runs on every path out of a callback, a
// panic included.
func (t *txn) end() {
	t.done = true
	for _, it := range t.iterators {
		it.Close()
	}
	t.iterators = nil
	t.badger.Discard()
}

func (t *txn) commit() error {
	if t.poison != nil {
		return t.poison
	}
	if err := t.ctx.Err(); err != nil {
		return &store.Error{Op: "commit", Err: err}
	}
	t.done = true
	for _, it := range t.iterators {
		it.Close()
	}
	t.iterators = nil
	if err := t.badger.Commit(); err != nil {
		if t.store.db.IsClosed() {
			err = badger.ErrDBClosed
		}
		return wrap("commit", nil, err)
	}
	return nil
}

// usable says why an operation may not go on.
func (t *txn) usable(op string, key []byte) error {
	if t.done {
		return &store.Error{Op: op, Key: key, Err: store.ErrTxnDone}
	}
	if err := t.ctx.Err(); err != nil {
		return &store.Error{Op: op, Key: key, Err: err}
	}
	if t.store.db.IsClosed() {
		return &store.Error{Op: op, Key: key, Err: store.ErrClosed}
	}
	return nil
}

// Get implements store.Reader.
func (t *txn) Get(key []byte) (store.Entry, error) {
	if err := t.usable("get", key); err != nil {
		return store.Entry{}, err
	}
	item, err := t.badger.Get(key)
	if err != nil {
		return store.Entry{}, wrap("get", bytes.Clone(key), err)
	}
	e := store.Entry{Key: key, ExpiresAt: item.ExpiresAt(), Meta: item.UserMeta()}
	e.Value, err = readValue(item, nil)
	return e, wrap("get", bytes.Clone(key), err)
}

// Scan implements store.Reader.
func (t *txn) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := t.usable("scan", s.Prefix); err != nil {
			yield(store.Entry{}, err)
			return
		}
		if s.Reverse && s.From != nil && len(s.From) == 0 {
			return // no key is at or before the empty one, which Badger takes for the last
		}
		it := t.badger.NewIterator(badger.IteratorOptions{
			Prefix:  seekablePrefix(s),
			Reverse: s.Reverse,
			// Prefetching starts a goroutine an item, which costs more than it
			// saves for values inside the LSM tree.
			PrefetchValues: false,
		})
		t.iterators = append(t.iterators, it)
		defer t.closeIterator(it)

		var key, value []byte
		for it.Seek(start(s)); it.Valid(); it.Next() {
			item := it.Item()
			if !bytes.HasPrefix(item.Key(), s.Prefix) {
				if s.Reverse && bytes.Compare(item.Key(), s.Prefix) > 0 {
					continue
				}
				return
			}
			if bytes.HasPrefix(item.Key(), badgerPrefix) {
				continue
			}
			key = item.KeyCopy(key)
			e := store.Entry{Key: key, ExpiresAt: item.ExpiresAt(), Meta: item.UserMeta()}
			if !s.KeysOnly {
				var err error
				if value, err = readValue(item, value); err != nil {
					yield(store.Entry{}, wrap("scan", bytes.Clone(key), err))
					return
				}
				e.Value = value
			}
			if !yield(e, nil) {
				return
			}
			if err := t.usable("scan", s.Prefix); err != nil {
				yield(store.Entry{}, err)
				return
			}
		}
	}
}

// closeIterator closes it unless the end of the transaction already did.
func (t *txn) closeIterator(it *badger.Iterator) {
	if i := slices.Index(t.iterators, it); i >= 0 {
		t.iterators = slices.Delete(t.iterators, i, i+1)
		it.Close()
	}
}

// seekablePrefix is the prefix that Badger's iterator may use to pass over
// tables. In reverse it stops before it reaches a key that it was asked to seek
// past the prefix for, so a reverse scan filters by itself.
func seekablePrefix(s store.Scan) []byte {
	if s.Reverse {
		return nil
	}
	return s.Prefix
}

// start is the key to seek. A seek in reverse finds the last key at or before
// it.
func start(s store.Scan) []byte {
	if !s.Reverse {
		if bytes.Compare(s.From, s.Prefix) > 0 {
			return s.From
		}
		return s.Prefix
	}
	end := prefixEnd(s.Prefix)
	if s.From != nil && (end == nil || bytes.Compare(s.From, end) < 0) {
		return s.From
	}
	return end
}

// prefixEnd returns the first key after all keys with prefix, or nil if there is
// none.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// errTorn is the damage that a power loss does to a value in an unsynced value
// log: the key survives, the value comes back short.
var errTorn = errors.New("a value is shorter than the length recorded with its key, as after a power loss without sync; restore the store from a backup")

// readValue copies item's value into buf and checks it against the recorded
// length.
func readValue(item *badger.Item, buf []byte) ([]byte, error) {
	value, err := item.ValueCopy(buf)
	if err != nil {
		return nil, err
	}
	// A write of the transaction itself has no recorded length: its size is 0.
	if size := item.ValueSize(); size > int64(len(value)) && size != estimatedSize(item, len(value)) {
		return nil, fmt.Errorf("%w: %w", store.ErrCorrupt, errTorn)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// estimatedSize is what Item.ValueSize reports for a value of n bytes in the
// value log: Badger derives it from the length of the whole record and takes six
// bytes for the record's header, which is really two bytes and three varints.
func estimatedSize(item *badger.Item, n int) int64 {
	keyLen := uint64(len(item.Key()) + 8)
	header := 2 + uvarintLen(keyLen) + uvarintLen(uint64(n)) + uvarintLen(item.ExpiresAt())
	return int64(n + header - 6)
}

func uvarintLen(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

// Set implements store.Txn.
func (t *txn) Set(e store.Entry) error {
	return t.write("set", e, func() error {
		b := badger.NewEntry(t.copy(e.Key), t.copy(e.Value)).WithMeta(e.Meta)
		b.ExpiresAt = e.ExpiresAt
		return t.badger.SetEntry(b)
	})
}

// Delete implements store.Txn.
func (t *txn) Delete(key []byte) error {
	return t.write("delete", store.Entry{Key: key}, func() error {
		return t.badger.Delete(t.copy(key))
	})
}

// write admits one write of e and remembers the first that fails.
func (t *txn) write(op string, e store.Entry, do func() error) error {
	if t.poison != nil {
		return t.poison
	}
	err := t.usable(op, e.Key)
	if err == nil {
		if err = t.admit(e); err == nil {
			err = do()
		}
		err = wrap(op, bytes.Clone(e.Key), err)
	}
	t.poison = err
	return err
}

// admit checks e against the limits and counts it.
func (t *txn) admit(e store.Entry) error {
	l := t.store.limits
	switch {
	case !t.update:
		return store.ErrReadOnly
	case len(e.Key) == 0:
		return fmt.Errorf("%w: it is empty", store.ErrInvalidKey)
	case len(e.Key) > l.KeyBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrInvalidKey, len(e.Key), l.KeyBytes)
	case bytes.HasPrefix(e.Key, badgerPrefix):
		return fmt.Errorf("%w: the prefix %s is reserved by Badger", store.ErrInvalidKey, badgerPrefix)
	case len(e.Value) > l.ValueBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrValueTooBig, len(e.Value), l.ValueBytes)
	}
	t.entries++
	t.bytes += t.cost(e)
	if t.entries > l.TxnEntries || t.bytes > l.TxnBytes {
		return fmt.Errorf("%w: it may have %d writes and %d bytes", store.ErrTxnTooBig, l.TxnEntries, l.TxnBytes)
	}
	return nil
}

// cost is what e takes of a transaction's bytes. A value in the value log
// counts only as a pointer.
func (t *txn) cost(e store.Entry) int {
	if int64(len(e.Value)) >= t.store.opts.ValueThreshold {
		return len(e.Key) + t.store.limits.EntryOverhead
	}
	return t.store.limits.Cost(e)
}

// copy returns a copy of b that lives as long as the transaction: Badger keeps
// the slices it is given.
func (t *txn) copy(b []byte) []byte {
	const chunk = 32 << 10
	if len(b) > chunk/4 {
		return bytes.Clone(b)
	}
	if len(b) > cap(t.arena)-len(t.arena) {
		t.arena = make([]byte, 0, chunk)
	}
	n := len(t.arena)
	t.arena = append(t.arena, b...)
	return t.arena[n:len(t.arena):len(t.arena)]
}
