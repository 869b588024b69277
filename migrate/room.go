package migrate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kvmigrate/kvmigrate/store"
)

// roomInterval is how often a run looks for room on the disk.
const roomInterval = 100 * time.Millisecond

// A room says whether a run may go on writing. A full disk ends the process of an
// engine that maps its files into memory, which loses nothing and says nothing.
type room struct {
	mu     sync.Mutex
	looked time.Time
}

// look returns an error that matches [store.ErrNoSpace] if st has no room left. What
// does not know how much it has is let alone.
func (r *room) look(ctx context.Context, st store.Store) error {
	spacer, ok := store.As[store.Spacer](st)
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.looked) < roomInterval {
		return nil
	}
	if free, needed, err := spacer.Free(ctx); err == nil && free <= needed {
		return fmt.Errorf("%w: %s are free and the store needs %s to put its files in order: make room",
			store.ErrNoSpace, humanize.IBytes(free), humanize.IBytes(needed))
	}
	r.looked = now
	return nil
}
