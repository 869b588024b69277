package overlay

import (
	"bytes"
	"context"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Change is what became of one key. Its memory is valid until the function that
// it was passed to returns.
type Change struct {
	Key           []byte
	Before, After *store.Entry // nil if there was or is none
}

// Changes calls fn, in the order of the keys, for each key whose entry is not what
// it was at New or at the last Settle. A key that was set to what it held, or was
// added and deleted again, did not change. It reads one snapshot and holds one
// change in memory. An error of fn ends it and is returned.
func (s *Store) Changes(ctx context.Context, fn func(Change) error) error {
	return s.view(ctx, func(r *reader) error {
		for e, err := range r.scratch.Scan(store.Scan{Prefix: layered(r.layer, nil)}) {
			if err != nil {
				return unkeyed("changes", err)
			}
			c, err := r.change(e)
			if err != nil {
				return unkeyed("changes", err)
			}
			if same(c.Before, c.After) {
				continue
			}
			if err := fn(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// change compares an entry of the top layer with what lies below it.
func (r *reader) change(e store.Entry) (Change, error) {
	c := Change{Key: e.Key[prefixLen:]}
	after, ok, err := decode(c.Key, e.Value)
	if err != nil {
		return c, err
	}
	if ok && !expired(after) {
		c.After = &after
	}
	before, ok, err := r.find(settled, c.Key)
	if ok {
		c.Before = &before
	}
	return c, err
}

func same(a, b *store.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta && bytes.Equal(a.Value, b.Value)
}

// The size of a transaction of Settle, where the scratch store allows it.
const (
	settleEntries = 1000
	settleBytes   = 1 << 20
)

// Settle makes what the Store shows now what later [Store.Changes] are compared
// with. The error matches [store.ErrBusy] if a transaction is running, and nothing
// is done, and [store.ErrNoSpace] if the scratch store has no room left. After another error Changes is not to be trusted.
func (s *Store) Settle(ctx context.Context) error {
	if !s.life.TryLock() {
		return &store.Error{Op: "settle", Err: s.unavailable()}
	}
	defer s.life.Unlock()
	err := s.scratch.View(ctx, func(r store.Reader) error {
		var batch []store.Entry
		limits, size := s.scratch.Limits(), 0
		for e, err := range r.Scan(store.Scan{Prefix: layered(s.layer, nil)}) {
			if err != nil {
				return err
			}
			e = store.Entry{Key: layered(settled, e.Key[prefixLen:]), Value: bytes.Clone(e.Value)}
			cost := limits.Cost(e)
			if len(batch) == min(settleEntries, limits.TxnEntries) || size+cost > min(settleBytes, limits.TxnBytes) {
				if err := s.settle(ctx, batch); err != nil {
					return err
				}
				batch, size = batch[:0], 0
			}
			batch, size = append(batch, e), size+cost
		}
		return s.settle(ctx, batch)
	})
	if err != nil {
		return unkeyed("settle", err)
	}
	s.layer++
	return nil
}

func (s *Store) settle(ctx context.Context, batch []store.Entry) error {
	if free, needed, err := s.Free(ctx); err == nil && free <= needed {
		return store.ErrNoSpace
	}
	return store.Update(ctx, s.scratch, func(tx store.Txn) error {
		for _, e := range batch {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	})
}
