package migrate_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// spaced is a store on a disk with so much room that needs 56 MiB of it.
type spaced struct {
	store.Store
	free atomic.Uint64
	err  error
}

func (s *spaced) Free(context.Context) (free, needed uint64, err error) {
	return s.free.Load(), 56 << 20, s.err
}

func TestNoRoom(t *testing.T) {
	st := &spaced{Store: openStore(t)}
	st.free.Store(12 << 20)
	before := contents(t, st)
	_, err := up(t, st, scenario)
	if !errors.Is(err, store.ErrNoSpace) || !isType[*migrate.MigrationError](err) {
		t.Errorf("Up without room = %v; want a MigrationError that matches ErrNoSpace", err)
	}
	if want := "no space left on the disk: 12 MiB are free and the store needs 56 MiB to put its files in order: make room"; !strings.Contains(err.Error(), want) {
		t.Errorf("Up without room = %v; want it to say %q", err, want)
	}
	if got := contents(t, st); got != before {
		t.Errorf("Up without room wrote\n%s", got)
	}
	st.free.Store(56<<20 + 1)
	mustUp(t, st, scenario)
}

// A store that cannot say how much room it has is let alone.
func TestRoomUnknown(t *testing.T) {
	mustUp(t, &spaced{Store: openStore(t), err: store.ErrUnsupported}, scenario)
}
