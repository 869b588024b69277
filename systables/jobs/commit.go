package jobs

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// maxUnknown is how many commits in a row a store may leave unconfirmed before a change
// is given up.
const maxUnknown = 5

// refusals are errors of a transaction that changes nothing, because of what it read.
var refusals = []error{ErrKeyTaken, ErrFinished, ErrCancelled, errTaken}

// commit is [store.Update], but tries again after a commit that the store did not
// confirm. fn must find what such an attempt did, and must read what it writes: then of
// two attempts one conflicts, and none takes effect after a later one. The error matches
// [store.ErrUnknown] if it is not known what became of an attempt.
func commit(ctx context.Context, st store.Store, fn func(store.Txn) error) error {
	var unknown error
	for range maxUnknown {
		err := store.Update(ctx, st, fn)
		switch {
		case errors.Is(err, store.ErrUnknown):
			unknown = err
			if ctx.Err() != nil {
				return err
			}
		case err == nil, unknown == nil, refused(err):
			return err
		default:
			return fmt.Errorf("%w: %w", unknown, err)
		}
	}
	return unknown
}

func refused(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// change changes the row of a job in a transaction of [commit] and returns it. change
// must make the same of the same row each time.
func (m *Manager) change(ctx context.Context, id systables.JobID, change func(systables.Job) (systables.Job, error)) (changed systables.Job, err error) {
	tried := false
	err = commit(ctx, m.st, func(tx store.Txn) error {
		return systables.Jobs.Update(tx, id, func(job systables.Job) (systables.Job, error) {
			if tried && reflect.DeepEqual(job, changed) {
				return job, nil // an attempt that was not confirmed took effect
			}
			next, err := change(job)
			if err != nil {
				return job, err
			}
			changed, tried = next, true
			return next, nil
		})
	})
	return changed, err
}
