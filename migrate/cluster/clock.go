package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A clock is the time as a simulation can have it, too.
type clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error // returns ctx's error once that ends
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// maxUnknown is how many commits in a row may have an unknown outcome.
const maxUnknown = 5

// certainly runs fn in a transaction until it is known to be committed. fn must come
// to the same when it is committed twice.
func certainly(ctx context.Context, st store.Store, fn func(store.Txn) error) error {
	for unknown := 0; ; unknown++ {
		err := store.Update(ctx, st, fn)
		if !errors.Is(err, store.ErrUnknown) || unknown == maxUnknown || ctx.Err() != nil {
			return err
		}
	}
}
