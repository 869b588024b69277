package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Fate is what becomes of a commit that a store did not confirm.
type Fate int

const (
	// Lost is a commit that never takes effect.
	Lost Fate = iota

	// Done is a commit that took effect before its caller was told.
	Done

	// Late is a commit that takes effect after the next one of the store, unless what
	// it read was changed.
	Late

	// Later is Late, but after the second next.
	Later
)

// Fates are all that can become of a commit that a store did not confirm.
var Fates = []Fate{Lost, Done, Late, Later}

// String returns the fate's name.
func (f Fate) String() string {
	switch f {
	case Lost:
		return "Lost"
	case Done:
		return "Done"
	case Late:
		return "Late"
	case Later:
		return "Later"
	}
	return "Fate(?)"
}

// An Unconfirmed is a store that does not confirm some of its commits, as a store at
// the other end of a network does: their error matches [store.ErrUnknown]. Commits
// are those of transactions that wrote; they are numbered from 1 in the order in
// which they begin. Its methods may be called concurrently.
type Unconfirmed struct {
	store.Store
	fate Fate
	hit  func(commit int) bool

	mu      sync.Mutex
	commits int
	late    []*lateCommit
}

// A lateCommit is a transaction that waits to be committed after others.
type lateCommit struct {
	others  int
	release chan struct{}
	done    chan struct{}
}

// Unconfirm returns st, of whose commits those that hit chooses have an unknown
// outcome and that fate.
func Unconfirm(st store.Store, fate Fate, hit func(commit int) bool) *Unconfirmed {
	return &Unconfirmed{Store: st, fate: fate, hit: hit}
}

// Unwrap returns the store below; see [store.As].
func (u *Unconfirmed) Unwrap() store.Store { return u.Store }

// Commits returns how many commits have begun.
func (u *Unconfirmed) Commits() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.commits
}

// Settle commits what is still to be committed late.
func (u *Unconfirmed) Settle() {
	u.mu.Lock()
	due := u.late
	u.late = nil
	u.mu.Unlock()
	settle(due)
}

// committed commits what is late and due after one commit more.
func (u *Unconfirmed) committed() {
	u.mu.Lock()
	var due, late []*lateCommit
	for _, l := range u.late {
		if l.others--; l.others == 0 {
			due = append(due, l)
		} else {
			late = append(late, l)
		}
	}
	u.late = late
	u.mu.Unlock()
	settle(due)
}

func settle(due []*lateCommit) {
	for _, l := range due {
		close(l.release)
		<-l.done
	}
}

// Update implements [store.Store].
func (u *Unconfirmed) Update(ctx context.Context, fn func(store.Txn) error) error {
	if u.fate >= Late {
		return u.updateLate(ctx, fn)
	}
	var unknown error
	err := u.Store.Update(ctx, func(txn store.Txn) error {
		t := &writingTxn{Txn: txn}
		if err := fn(t); err != nil {
			return err
		}
		if unknown = u.commit(t); u.fate == Lost {
			return unknown
		}
		return nil
	})
	if err == nil {
		err = unknown
	}
	return err
}

// updateLate runs the transaction in a goroutine of its own, where it can wait for
// its commit after the caller has gone on.
func (u *Unconfirmed) updateLate(ctx context.Context, fn func(store.Txn) error) error {
	result := make(chan error, 1)
	wait := &lateCommit{others: int(u.fate-Late) + 1, release: make(chan struct{}), done: make(chan struct{})}
	wrote := false
	go func() {
		defer close(wait.done)
		err := errors.New("the callback ended its goroutine")
		defer func() { result <- err }()
		err = u.Store.Update(context.WithoutCancel(ctx), func(txn store.Txn) error {
			t := &writingTxn{Txn: txn}
			if err := fn(t); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			wrote = t.wrote
			unknown := u.commit(t)
			if unknown == nil {
				return nil
			}
			u.mu.Lock()
			u.late = append(u.late, wait)
			u.mu.Unlock()
			result <- unknown
			<-wait.release
			return nil
		})
	}()
	err := <-result
	if err == nil && wrote {
		u.committed()
	}
	return err
}

// commit counts the commit of t, if it is one, and returns its error if its outcome is
// to be unknown.
func (u *Unconfirmed) commit(t *writingTxn) error {
	if !t.wrote {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.commits++
	if !u.hit(u.commits) {
		return nil
	}
	return &store.Error{Op: "commit", Err: fmt.Errorf("%w: %w", store.ErrUnknown, ErrFault)}
}

// A writingTxn knows whether it wrote.
type writingTxn struct {
	store.Txn
	wrote bool
}

func (t *writingTxn) Set(e store.Entry) error {
	t.wrote = true
	return t.Txn.Set(e)
}

func (t *writingTxn) Delete(key []byte) error {
	t.wrote = true
	return t.Txn.Delete(key)
}
