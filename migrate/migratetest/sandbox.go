package migratetest

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A sandbox is a store in memory that begins in no time, for the thousands that
// [Crash] needs. It has one user at a time, who meets no conflict. Its limits say
// less than it takes, so that a few rows make several batches.
type sandbox struct {
	limits  store.Limits  // what it takes
	entries []store.Entry // in the order of their keys; a commit makes a new slice
}

// again returns another sandbox that holds the same.
func (s *sandbox) again() *sandbox { return &sandbox{s.limits, s.entries} }

func (s *sandbox) Limits() store.Limits {
	l := s.limits
	l.TxnEntries = min(l.TxnEntries, 200)
	return l
}

func (s *sandbox) Sync(ctx context.Context) error { return ctx.Err() }

func (s *sandbox) Close() error { return nil }

func (s *sandbox) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn(&sandboxTxn{base: s.entries, now: uint64(time.Now().Unix())})
}

func (s *sandbox) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx := &sandboxTxn{base: s.entries, now: uint64(time.Now().Unix()), room: s.limits, changes: map[string]*store.Entry{}}
	if err := fn(tx); err != nil {
		return err
	}
	if tx.failed != nil {
		return tx.failed
	}
	s.entries = tx.merged()
	return nil
}

// A sandboxTxn is what a sandbox held when it began, and changes to that.
type sandboxTxn struct {
	base    []store.Entry
	now     uint64                  // Unix seconds: what has expired is not there
	room    store.Limits            // what still fits
	changes map[string]*store.Entry // by key, nil if it is deleted
	failed  error                   // the first write that was refused
}

func (tx *sandboxTxn) Get(key []byte) (store.Entry, error) {
	e, changed := tx.changes[string(key)]
	if !changed {
		if i, ok := find(tx.base, key); ok {
			e = &tx.base[i]
		}
	}
	if e == nil || tx.expired(e) {
		return store.Entry{}, &store.Error{Op: "get", Key: bytes.Clone(key), Err: store.ErrNotFound}
	}
	return store.Entry{Key: key, Value: bytes.Clone(e.Value), ExpiresAt: e.ExpiresAt, Meta: e.Meta}, nil
}

func (tx *sandboxTxn) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		key, value := []byte{}, []byte{}
		for e := range selected(tx.merged(), s) {
			if tx.expired(e) {
				continue
			}
			key = append(key[:0], e.Key...)
			out := store.Entry{Key: key, ExpiresAt: e.ExpiresAt, Meta: e.Meta}
			if !s.KeysOnly {
				value = append(value[:0], e.Value...)
				out.Value = value
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// selected yields the entries of all that s selects.
func selected(all []store.Entry, s store.Scan) iter.Seq[*store.Entry] {
	return func(yield func(*store.Entry) bool) {
		first, _ := find(all, s.Prefix)
		all := all[first:]
		if i := slices.IndexFunc(all, func(e store.Entry) bool { return !bytes.HasPrefix(e.Key, s.Prefix) }); i >= 0 {
			all = all[:i]
		}
		if s.From != nil {
			i, found := find(all, s.From)
			switch {
			case !s.Reverse:
				all = all[i:]
			case found:
				all = all[:i+1]
			default:
				all = all[:i]
			}
		}
		for i := range all {
			if s.Reverse {
				i = len(all) - 1 - i
			}
			if !yield(&all[i]) {
				return
			}
		}
	}
}

func (tx *sandboxTxn) Set(e store.Entry) error {
	e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	return tx.write("set", e.Key, &e)
}

func (tx *sandboxTxn) Delete(key []byte) error { return tx.write("delete", key, nil) }

func (tx *sandboxTxn) write(op string, key []byte, e *store.Entry) error {
	tx.room.TxnEntries--
	tx.room.TxnBytes -= len(key) + tx.room.EntryOverhead
	size := 0
	if e != nil {
		size = len(e.Value)
		tx.room.TxnBytes -= size
	}
	var err error
	switch {
	case tx.failed != nil:
		return tx.failed
	case len(key) == 0 || len(key) > tx.room.KeyBytes || tx.room.Reserved != "" && bytes.HasPrefix(key, []byte(tx.room.Reserved)):
		err = store.ErrInvalidKey
	case size > tx.room.ValueBytes:
		err = store.ErrValueTooBig
	case tx.room.TxnEntries < 0 || tx.room.TxnBytes < 0:
		err = store.ErrTxnTooBig
	default:
		tx.changes[string(key)] = e
		return nil
	}
	tx.failed = &store.Error{Op: op, Key: bytes.Clone(key), Err: err}
	return tx.failed
}

func (tx *sandboxTxn) expired(e *store.Entry) bool {
	return e.ExpiresAt != 0 && e.ExpiresAt <= tx.now
}

// merged returns the base with the changes, in order.
func (tx *sandboxTxn) merged() []store.Entry {
	if len(tx.changes) == 0 {
		return tx.base
	}
	rest, merged := tx.base, make([]store.Entry, 0, len(tx.base)+len(tx.changes))
	for _, key := range slices.Sorted(maps.Keys(tx.changes)) {
		i, found := find(rest, []byte(key))
		merged = append(merged, rest[:i]...)
		if found {
			i++
		}
		rest = rest[i:]
		if e := tx.changes[key]; e != nil {
			merged = append(merged, *e)
		}
	}
	return append(merged, rest...)
}

// find returns where key is in entries, or would be.
func find(entries []store.Entry, key []byte) (i int, found bool) {
	return slices.BinarySearchFunc(entries, key, func(e store.Entry, key []byte) int { return bytes.Compare(e.Key, key) })
}
