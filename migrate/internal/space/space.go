// Package space says whether a store has room for what it is about to be filled with.
package space

import (
	"context"
	"errors"

	"github.com/kvmigrate/kvmigrate/store"
)

// For returns how much of the disk st needs to take entries whose keys and values have
// that many bytes, what it needs at any time included, and how much is free. Both are 0
// if st cannot say it.
func For(ctx context.Context, st store.Store, entries, bytes uint64) (need, free uint64, err error) {
	s, ok := store.As[store.Spacer](st)
	if !ok {
		return 0, 0, nil
	}
	free, needed, err := s.Free(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, store.ErrUnsupported):
		return 0, 0, nil
	case err != nil:
		return 0, 0, err
	}
	// What the engine logs is on the disk together with what it made of it, and what it
	// needs at any time grows with the store up to what logs take.
	const overhead, least, logs = 32, 32 << 20, 128 << 20
	size := bytes + overhead*entries
	return needed + 2*size + min(size, logs) + least, free, nil
}
