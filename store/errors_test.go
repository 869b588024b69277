package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
)

func TestErrorHidesKey(t *testing.T) {
	err := fmt.Errorf("migrate: %w", &store.Error{Op: "get", Key: []byte("secret"), Err: store.ErrNotFound})
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error %q; want no key in the text", err)
	}
	var e *store.Error
	if !errors.As(err, &e) || string(e.Key) != "secret" || !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v; want a *store.Error with the key that matches ErrNotFound", err)
	}
}

func TestSentinelsAreDistinct(t *testing.T) {
	sentinels := []error{
		store.ErrNotFound, store.ErrConflict, store.ErrTxnTooBig, store.ErrInvalidKey, store.ErrValueTooBig, store.ErrReadOnly,
		store.ErrTxnDone, store.ErrClosed, store.ErrBusy, store.ErrLocked, store.ErrCorrupt, store.ErrUnsupported,
		store.ErrSnapshotGone, store.ErrUnknown, store.ErrNoSpace,
	}
	for i, a := range sentinels {
		for j, b := range sentinels {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("errors.Is(%v, %v) = %t", a, b, i != j)
			}
		}
	}
}

func TestCost(t *testing.T) {
	l := store.Limits{EntryOverhead: 24}
	if got := l.Cost(store.Entry{Key: []byte("key"), Value: []byte("value")}); got != 3+5+24 {
		t.Errorf("Cost = %d; want key, value and overhead, 32", got)
	}
}
