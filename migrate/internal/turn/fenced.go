package turn

import (
	"bytes"
	"context"
	"errors"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/store"
)

// Fenced returns the store of the turn: no transaction of it commits once another process
// has taken the turn, and none begins while one whose outcome is unknown may still be
// committed.
func (t *Turn) Fenced() store.Store { return fenced{t.Store, t} }

type fenced struct {
	store.Store
	turn *Turn
}

// Unwrap returns the store below; see [store.As].
func (f fenced) Unwrap() store.Store { return f.Store }

// Update implements [store.Store].
func (f fenced) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := f.update(ctx, fn)
	switch {
	case errors.Is(err, store.ErrUnknown):
		f.turn.fencing.Lock()
		f.turn.doubt = true
		f.turn.fencing.Unlock()
	case errors.Is(err, ErrLost):
		f.turn.lose(err)
	}
	return err
}

func (f fenced) update(ctx context.Context, fn func(store.Txn) error) error {
	lock, err := f.turn.fence(ctx)
	if err != nil {
		return err
	}
	return f.Store.Update(ctx, func(txn store.Txn) error {
		if err := f.turn.insist(txn, lock); err != nil {
			return err
		}
		return fn(txn)
	})
}

// fence returns what the lock holds for a transaction of the turn. After a commit
// with an unknown outcome it changes the lock first, so that the commit is there by
// then or never will be.
func (t *Turn) fence(ctx context.Context) ([]byte, error) {
	t.fencing.Lock()
	defer t.fencing.Unlock()
	if !t.doubt {
		return t.lock, nil
	}
	lock, err := t.NewLock()
	if err != nil {
		return nil, err
	}
	err = certain.Update(ctx, t.Store, func(txn store.Txn) error {
		if err := t.held(txn); err != nil {
			return err
		}
		e, err := txn.Get(t.Keys.Lock)
		if err == nil && bytes.Equal(e.Value, lock) || err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return txn.Set(store.Entry{Key: t.Keys.Lock, Value: lock})
	})
	if err != nil {
		return nil, err
	}
	t.lock, t.doubt = lock, false
	return lock, nil
}

// insist refuses a transaction that does not see lock.
func (t *Turn) insist(txn store.Txn, lock []byte) error {
	e, err := txn.Get(t.Keys.Lock)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case err != nil || !bytes.Equal(e.Value, lock):
		return t.notHeld(txn)
	}
	return nil
}

// notHeld says why the lock has changed: because the turn has, or because another
// transaction of it found a reason to.
func (t *Turn) notHeld(txn store.Txn) error {
	if err := t.held(txn); err != nil {
		return err
	}
	return ErrAgain
}
