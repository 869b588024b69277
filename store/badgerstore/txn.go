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
const badgerPrefix = "!badger!"

// reader implements store.Reader over one Badger transaction.
type reader struct {
	ctx       context.Context
	db        *badger.DB
	badger    *badger.Txn
	iterators []*badger.Iterator // open ones: Discard panics over them
	done      bool
}

// txn implements store.Txn. What only writes need is not in reader, so that
// reading allocates less.
type txn struct {
	reader

	store   *Store
	poison  error // the first failed write: nothing may commit after it
	entries int
	bytes   int
	arena   []byte // room for copies of keys and values
}

func newReader(ctx context.Context, db *badger.DB, update bool) reader {
	return reader{ctx: ctx, db: db, badger: db.NewTransaction(update)}
}

// end discards the transaction. It runs on every path out of a callback, a
// panic included.
func (r *reader) end() {
	r.done = true
	if r.db.IsClosed() {
		// The database was closed behind our back. Nobody listens to Discard
		// then, so that it hangs sooner or later, and the last iterator to
		// close could remove a file that the next Open has created.
		return
	}
	r.closeIterators()
	r.badger.Discard()
}

func (r *reader) closeIterators() {
	for _, it := range r.iterators {
		it.Close()
	}
	r.iterators = nil
}

func (t *txn) commit() error {
	if t.poison != nil {
		return t.poison
	}
	if err := t.ctx.Err(); err != nil {
		return &store.Error{Op: "commit", Err: err}
	}
	if t.db.IsClosed() {
		return &store.Error{Op: "commit", Err: store.ErrClosed}
	}
	t.done = true
	t.closeIterators()
	if err := t.badger.Commit(); err != nil {
		if t.db.IsClosed() {
			err = badger.ErrDBClosed
		}
		return wrap("commit", nil, err)
	}
	return nil
}

// usable says why an operation may not go on.
func (r *reader) usable(op string, key []byte) error {
	err := r.ctx.Err()
	switch {
	case r.done:
		err = store.ErrTxnDone
	case err == nil && r.db.IsClosed():
		err = store.ErrClosed
	}
	if err == nil {
		return nil
	}
	return wrap(op, key, err)
}

// Get implements store.Reader.
func (r *reader) Get(key []byte) (store.Entry, error) {
	if err := r.usable("get", key); err != nil {
		return store.Entry{}, err
	}
	item, err := r.badger.Get(key)
	if err != nil {
		if r.db.IsClosed() {
			err = badger.ErrDBClosed
		}
		return store.Entry{}, wrap("get", key, err)
	}
	e := store.Entry{Key: key, ExpiresAt: item.ExpiresAt(), Meta: item.UserMeta()}
	if e.Value, err = readValue(item, nil); err != nil {
		return store.Entry{}, wrap("get", key, err)
	}
	return e, nil
}

// Scan implements store.Reader.
func (r *reader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := r.usable("scan", nil); err != nil {
			yield(store.Entry{}, err)
			return
		}
		if s.Reverse && s.From != nil && len(s.From) == 0 {
			return // no key is at or before the empty one, which Badger takes for the last
		}
		it := r.badger.NewIterator(badger.IteratorOptions{
			Prefix:  seekablePrefix(s),
			Reverse: s.Reverse,
			// Prefetching starts a goroutine an item, which costs more than it
			// saves for values inside the LSM tree.
			PrefetchValues: false,
		})
		r.iterators = append(r.iterators, it)
		defer r.closeIterator(it)

		var key, value []byte
		it.Seek(start(s))
		if s.Reverse && it.Valid() && !it.ValidForPrefix(s.Prefix) {
			it.Next() // the seek found the very key that ends the prefix
		}
		// Item marks its key as read, so it is called only for keys to yield: a
		// neighbour of the range must not cause a conflict.
		for ; it.ValidForPrefix(s.Prefix); it.Next() {
			item := it.Item()
			key = item.KeyCopy(key)
			e := store.Entry{Key: key, ExpiresAt: item.ExpiresAt(), Meta: item.UserMeta()}
			if !s.KeysOnly {
				var err error
				if value, err = readValue(item, value); err != nil {
					yield(store.Entry{}, wrap("scan", key, err))
					return
				}
				e.Value = value
			}
			if !yield(e, nil) {
				return
			}
			if err := r.usable("scan", nil); err != nil {
				yield(store.Entry{}, err)
				return
			}
		}
	}
}

// closeIterator closes it unless the end of the transaction already did.
func (r *reader) closeIterator(it *badger.Iterator) {
	if i := slices.Index(r.iterators, it); i >= 0 {
		r.iterators = slices.Delete(r.iterators, i, i+1)
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
	if torn(item, len(value)) {
		return nil, fmt.Errorf("%w: %w", store.ErrCorrupt, errTorn)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// torn reports whether a value that came back with n bytes had another length
// when it was written. Only a value in the value log can: Badger logs a failed
// read of it and returns nothing. Beside the key is recorded the length of its
// record, which is a header of two bytes and three varints, the key with its
// version, the value and a checksum.
func torn(item *badger.Item, n int) bool {
	const version, checksum = 8, 4
	record, key := item.EstimatedSize(), int64(len(item.Key()))
	// ValueSize takes an estimate of record's other parts from it if the value is
	// in the value log, and only the key if it is not. Both are 0 for a write of
	// the transaction itself.
	if record-item.ValueSize() <= key {
		return false
	}
	header := 2 + uvarintLen(uint64(key+version)) + uvarintLen(uint64(n)) + uvarintLen(item.ExpiresAt())
	return record != int64(header)+key+version+int64(n)+checksum
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
	if t.poison != nil && !t.done {
		return t.poison
	}
	err := t.usable(op, e.Key)
	if err == nil {
		if err = t.admit(e); err == nil {
			err = do()
		}
		err = wrap(op, e.Key, err)
	}
	t.poison = err
	return err
}

// admit checks e against the limits and counts it.
func (t *txn) admit(e store.Entry) error {
	l := t.store.limits
	if err := admit(l, e); err != nil {
		return err
	}
	t.entries++
	t.bytes += l.Charge(e)
	if t.entries > l.TxnEntries || t.bytes > l.TxnBytes {
		return fmt.Errorf("%w: it may have %d writes and %d bytes", store.ErrTxnTooBig, l.TxnEntries, l.TxnBytes)
	}
	return nil
}

// admit checks an entry by itself.
func admit(l store.Limits, e store.Entry) error {
	switch {
	case len(e.Key) == 0:
		return fmt.Errorf("%w: it is empty", store.ErrInvalidKey)
	case len(e.Key) > l.KeyBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrInvalidKey, len(e.Key), l.KeyBytes)
	case bytes.HasPrefix(e.Key, []byte(badgerPrefix)):
		return fmt.Errorf("%w: the prefix %s is reserved by Badger", store.ErrInvalidKey, badgerPrefix)
	case len(e.Value) > l.ValueBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrValueTooBig, len(e.Value), l.ValueBytes)
	}
	return nil
}

// copy returns a copy of b that lives as long as the transaction: Badger keeps
// the slices it is given.
func (t *txn) copy(b []byte) []byte {
	const least, most = 512, 32 << 10
	if len(b) > most/4 {
		return bytes.Clone(b)
	}
	if len(b) > cap(t.arena)-len(t.arena) {
		t.arena = make([]byte, 0, min(most, max(least, 4*len(b), 4*cap(t.arena))))
	}
	n := len(t.arena)
	t.arena = append(t.arena, b...)
	return t.arena[n:len(t.arena):len(t.arena)]
}
