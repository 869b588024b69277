package overlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// reader implements store.Reader over a transaction of the scratch store and the
// snapshot of the base.
type reader struct {
	ctx      context.Context
	store    *Store
	scratch  store.Reader
	layer    uint32 // the top one
	protects bool   // whether what is read must not change before the commit
	scans    map[*merge]struct{}
	done     bool
}

// txn implements store.Txn.
type txn struct {
	reader
	scratchTxn store.Txn

	poison  error // the first failed write: nothing may commit after it
	entries int
	bytes   int
	written Written
}

// end ends the transaction, and the scans that were left open.
func (r *reader) end() {
	r.done = true
	for m := range r.scans {
		m.stop()
	}
}

// usable says why an operation may not go on.
func (r *reader) usable(op string, key []byte) error {
	err := r.ctx.Err()
	if r.done {
		err = store.ErrTxnDone
	}
	if err == nil {
		return nil
	}
	if key == nil {
		return &store.Error{Op: op, Err: err}
	}
	return rekey(op, key, err)
}

// Get implements store.Reader.
func (r *reader) Get(key []byte) (store.Entry, error) {
	if err := r.usable("get", key); err != nil {
		return store.Entry{}, err
	}
	if len(key) == 0 {
		return store.Entry{}, rekey("get", key, fmt.Errorf("%w: it is empty", store.ErrInvalidKey))
	}
	e, ok, err := r.find(r.layer, key)
	switch {
	case err != nil:
		return store.Entry{}, rekey("get", key, err)
	case !ok:
		return store.Entry{}, rekey("get", key, store.ErrNotFound)
	}
	return e, nil
}

// find looks key up in a layer and those below it.
func (r *reader) find(top uint32, key []byte) (e store.Entry, ok bool, err error) {
	for _, layer := range r.below(top) {
		switch e, err := r.scratch.Get(layered(layer, key)); {
		case err == nil:
			e, ok, err := decode(key, e.Value)
			return e, ok && !expired(e), err
		case !errors.Is(err, store.ErrNotFound):
			return store.Entry{}, false, err
		}
	}
	e, err = r.store.base.get(key)
	if errors.Is(err, store.ErrNotFound) {
		return store.Entry{}, false, nil
	}
	return e, err == nil, err
}

// below returns a layer and those below it. Before the first Settle there is only the
// one that is written to.
func (r *reader) below(top uint32) []uint32 {
	switch {
	case r.layer == settled+1 && top == settled:
		return nil
	case r.layer == settled+1:
		return []uint32{top}
	case top == settled:
		return []uint32{settled}
	}
	return []uint32{top, settled}
}

func expired(e store.Entry) bool {
	return e.ExpiresAt != 0 && e.ExpiresAt <= uint64(time.Now().Unix())
}

// Scan implements store.Reader.
func (r *reader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := r.usable("scan", nil); err != nil {
			yield(store.Entry{}, err)
			return
		}
		m := r.merge(s)
		defer r.close(m)
		for {
			e, err := m.next()
			if err == nil && e.Key == nil {
				return
			}
			if err == nil && r.protects && !m.fromTop() {
				err = r.protect(e.Key)
			}
			if err != nil {
				yield(store.Entry{}, unkeyed("scan", err))
				return
			}
			if s.KeysOnly {
				e.Value = nil
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

// protect makes a change of key, which lies below the top layer, a conflict: the
// scratch store protects a key that was looked for and not found.
func (r *reader) protect(key []byte) error {
	_, err := r.scratch.Get(layered(r.layer, key))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// unkeyed returns an error of the stores below without their key, which is not
// one of the overlay's.
func unkeyed(op string, err error) error {
	if e, ok := errors.AsType[*store.Error](err); ok {
		err = e.Err
	}
	return &store.Error{Op: op, Err: err}
}

// Set implements store.Txn.
func (t *txn) Set(e store.Entry) error {
	err := t.write("set", e, func() error {
		return t.scratchTxn.Set(store.Entry{Key: layered(t.layer, e.Key), Value: encode(e)})
	})
	if err == nil {
		t.written.Sets++
	}
	return err
}

// Delete implements store.Txn.
func (t *txn) Delete(key []byte) error {
	err := t.write("delete", store.Entry{Key: key}, func() error {
		return t.scratchTxn.Set(store.Entry{Key: layered(t.layer, key), Value: deletion})
	})
	if err == nil {
		t.written.Deletes++
	}
	return err
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
		if err != nil {
			err = rekey(op, e.Key, err)
		}
	}
	t.poison = err
	return err
}

// admit checks e against the limits of the base and counts it.
func (t *txn) admit(e store.Entry) error {
	l := t.store.limits
	switch {
	case len(e.Key) == 0:
		return fmt.Errorf("%w: it is empty", store.ErrInvalidKey)
	case len(e.Key) > l.KeyBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrInvalidKey, len(e.Key), l.KeyBytes)
	case l.Reserved != "" && bytes.HasPrefix(e.Key, []byte(l.Reserved)):
		return fmt.Errorf("%w: the prefix %s is reserved by the store", store.ErrInvalidKey, l.Reserved)
	case len(e.Value) > l.ValueBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrValueTooBig, len(e.Value), l.ValueBytes)
	}
	charge := l.Charge(e)
	t.entries++
	t.bytes += charge
	if t.entries > l.TxnEntries || t.bytes > l.TxnBytes {
		return fmt.Errorf("%w: it may have %d writes and %d bytes", store.ErrTxnTooBig, l.TxnEntries, l.TxnBytes)
	}
	apart := l.Cost(e) - charge
	t.written.ApartBytes += uint64(apart)
	t.written.Bytes += uint64(len(e.Key) + len(e.Value) - apart)
	return nil
}
