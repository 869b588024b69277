package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// The bounds of Update's retries: about ten seconds in all, so that a
// transaction loses to a steady stream of rivals with an error and not silently.
const (
	maxAttempts = 100
	minPause    = time.Millisecond
	maxPause    = 200 * time.Millisecond
)

// Update runs fn in a transaction of st and tries again, after a short random
// pause, when the error is [Retriable]: the transaction met a conflict, a store that
// was briefly busy, or took too long. It gives up after 100 attempts with an error that
// matches the last one's, and at once when ctx ends, with an error that matches
// ctx's too. Every other error it returns as it is.
//
// fn may run several times: it must be a pure function of its Txn.
func Update(ctx context.Context, st Store, fn func(Txn) error) error {
	pause := minPause
	for attempt := 1; ; attempt++ {
		err := st.Update(ctx, fn)
		if !Retriable(err) {
			return err
		}
		if attempt == maxAttempts {
			return fmt.Errorf("gave up after %d attempts: %w", attempt, err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w after attempt %d: %w", ctx.Err(), attempt, err)
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}
