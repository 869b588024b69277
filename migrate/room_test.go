package migrate_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// spaced is a store on a disk with so much room.
type spaced struct {
	store.Store
	free atomic.Uint64
	err  error
}

func (s *spaced) Free(context.Context) (uint64, error) { return s.free.Load(), s.err }

func TestNoRoom(t *testing.T) {
	st := &spaced{Store: openStore(t)}
	before := contents(t, st)
	_, err := up(t, st, scenario)
	if !errors.Is(err, store.ErrNoSpace) || !isType[*migrate.MigrationError](err) {
		t.Errorf("Up without room = %v; want a MigrationError that matches ErrNoSpace", err)
	}
	if got := contents(t, st); got != before {
		t.Errorf("Up without room wrote\n%s", got)
	}
	st.free.Store(1)
	mustUp(t, st, scenario)
}

// A store that cannot say how much room it has is let alone.
func TestRoomUnknown(t *testing.T) {
	mustUp(t, &spaced{Store: openStore(t), err: store.ErrUnsupported}, scenario)
}
