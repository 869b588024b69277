package space_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/internal/space"
	"github.com/kvmigrate/kvmigrate/store"
)

// told is a store that says how much room it has.
type told struct {
	store.Store
	err error
}

func (t told) Free(context.Context) (free, needed uint64, err error) { return 1 << 30, 5 << 20, t.err }

func TestFor(t *testing.T) {
	broken := errors.New("broken")
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		st             store.Store
		entries, bytes uint64
		need, free     uint64
		err            error
	}{
		"nothing":        {told{}, 0, 0, 37 * mib, 1 << 30, nil},
		"little":         {told{}, 1 << 15, 9 * mib, (37 + 3*10) * mib, 1 << 30, nil},
		"much":           {told{}, 0, 1000 * mib, (37 + 2*1000 + 128) * mib, 1 << 30, nil},
		"no spacer":      {nil, 1, 1, 0, 0, nil},
		"cannot say it":  {told{err: store.ErrUnsupported}, 1, 1, 0, 0, nil},
		"cannot, either": {told{err: errors.ErrUnsupported}, 1, 1, 0, 0, nil},
		"broken":         {told{err: broken}, 1, 1, 0, 0, broken},
	} {
		need, free, err := space.For(t.Context(), tt.st, tt.entries, tt.bytes)
		if need != tt.need || free != tt.free || !errors.Is(err, tt.err) {
			t.Errorf("%s: For = %d, %d, %v; want %d, %d, %v", name, need, free, err, tt.need, tt.free, tt.err)
		}
	}
}
