// Package certain runs transactions of which it must be known whether they are committed.
package certain

import (
	"context"
	"errors"

	"github.com/kvmigrate/kvmigrate/store"
)

// MaxUnknown is how many commits in a row may have an unknown outcome.
const MaxUnknown = 5

// Update is [store.Update], and runs fn again after a commit with an unknown outcome, up
// to MaxUnknown times or until ctx ends: then the error matches [store.ErrUnknown]. fn
// must see for itself whether it was committed before, or come to the same when it is
// committed twice.
func Update(ctx context.Context, st store.Store, fn func(store.Txn) error) error {
	for unknown := 0; ; unknown++ {
		err := store.Update(ctx, st, fn)
		if !errors.Is(err, store.ErrUnknown) || unknown == MaxUnknown || ctx.Err() != nil {
			return err
		}
	}
}
