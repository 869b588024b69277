// Package confirm commits transactions that may be tried again when a store does not
// confirm them.
package confirm

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/store"
)

// maxUnknown is how many commits in a row a store may leave unconfirmed.
const maxUnknown = 5

// Update is [store.Update], but tries again, up to five times in all, after a commit that
// the store did not confirm. fn must find what such an attempt did, and must read what it
// writes: then of two attempts one conflicts, and none takes effect after a later one.
//
// The error matches [store.ErrUnknown] if it is not known what became of an attempt. It
// is known if fn returns one of refusals, for which what it read must differ from what an
// attempt before has read.
func Update(ctx context.Context, st store.Store, fn func(store.Txn) error, refusals ...error) error {
	var unknown error
	for range maxUnknown {
		err := store.Update(ctx, st, fn)
		switch {
		case errors.Is(err, store.ErrUnknown):
			unknown = err
			if ctx.Err() != nil {
				return err
			}
		case err == nil, unknown == nil, matches(err, refusals):
			return err
		default:
			return fmt.Errorf("%w: %w", unknown, err)
		}
	}
	return unknown
}

func matches(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
