package cluster

import (
	"context"
	"time"
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
