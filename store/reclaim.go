package store

import "context"

// A Reclaimer is a Store that can give back the room of what was overwritten and
// deleted when it is told to. A Store need not be one.
type Reclaimer interface {
	// Reclaim merges what the store keeps of older versions of its entries and
	// gives their room back, until there is nothing more to gain. It reads and
	// writes much, so it belongs to a quiet hour; transactions go on meanwhile.
	// It obeys ctx between its steps, and what they did stays. The error matches
	// [ErrBusy] if the store does the same already, and [ErrReadOnly] if it was
	// opened so.
	Reclaim(ctx context.Context) error
}
