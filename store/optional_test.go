package store_test

import (
	"context"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
)

type sized struct{ store.Store }

func (sized) Size(context.Context) (uint64, error) { return 7, nil }

type wrapper struct{ store.Store }

func (w wrapper) Unwrap() store.Store { return w.Store }

// TestAs: what a store can do besides is seen through those that say what they wrap.
func TestAs(t *testing.T) {
	type opaque struct{ store.Store }
	for name, tt := range map[string]struct {
		st   store.Store
		want bool
	}{
		"itself":           {sized{}, true},
		"wrapped twice":    {wrapper{wrapper{sized{}}}, true},
		"opaque":           {opaque{sized{}}, false},
		"a wrapper of nil": {wrapper{}, false},
		"nil":              {nil, false},
	} {
		s, ok := store.As[store.Sizer](tt.st)
		if ok != tt.want {
			t.Errorf("%s: As = %t, want %t", name, ok, tt.want)
			continue
		}
		if ok {
			if size, err := s.Size(t.Context()); size != 7 || err != nil {
				t.Errorf("%s: Size = %d, %v; want 7", name, size, err)
			}
		}
	}
}
