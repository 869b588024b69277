package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A fake is a store whose nth Update returns what update says; it has nothing
// else.
type fake struct {
	store.Store
	attempts int
	update   func(attempt int) error
}

func (f *fake) Update(ctx context.Context, fn func(store.Txn) error) error {
	f.attempts++
	if err := fn(nil); err != nil {
		return err
	}
	return f.update(f.attempts)
}

func nothing(store.Txn) error { return nil }

func TestUpdateRetries(t *testing.T) {
	other := errors.New("something else")
	conflict := &store.Error{Op: "commit", Err: store.ErrConflict}
	busy := &store.Error{Op: "commit", Err: store.ErrBusy}
	wrongly := func(err error) []error { return []error{err, nil} }
	for _, test := range []struct {
		name     string
		results  []error // of one attempt after another, the last one for ever
		want     error
		attempts int
	}{
		{"at once", []error{nil}, nil, 1},
		{"after a conflict", []error{conflict, nil}, nil, 2},
		{"after a busy store", []error{busy, nil}, nil, 2},
		{"after a lost snapshot", []error{fmt.Errorf("wrapped: %w", store.ErrSnapshotGone), nil}, nil, 2},
		{"after both", []error{conflict, busy, fmt.Errorf("wrapped: %w", conflict), nil}, nil, 4},
		{"at the last attempt", append(repeat(conflict, 99), nil), nil, 100},
		{"never, for conflicts", []error{conflict}, store.ErrConflict, 100},
		{"never, for a busy store", []error{busy}, store.ErrBusy, 100},
		{"not for another error", wrongly(other), other, 1},
		{"not for another error after a conflict", []error{conflict, other, nil}, other, 2},
		{"not for a big transaction", wrongly(store.ErrTxnTooBig), store.ErrTxnTooBig, 1},
		{"not for a read-only store", wrongly(store.ErrReadOnly), store.ErrReadOnly, 1},
		{"not for a closed store", wrongly(store.ErrClosed), store.ErrClosed, 1},
		{"not for an unknown outcome", wrongly(store.ErrUnknown), store.ErrUnknown, 1},
		{"not for a full store", wrongly(store.ErrNoSpace), store.ErrNoSpace, 1},
		{"not for a locked store", wrongly(store.ErrLocked), store.ErrLocked, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{update: func(attempt int) error { return test.results[min(attempt, len(test.results))-1] }}
				start := time.Now()
				err := store.Update(t.Context(), f, nothing)
				if !errors.Is(err, test.want) {
					t.Errorf("Update: %v; want an error that matches %v", err, test.want)
				}
				if f.attempts != test.attempts {
					t.Errorf("Update made %d attempts; want %d", f.attempts, test.attempts)
				}
				if spent := time.Since(start); (spent > 0) != (test.attempts > 1) || spent > 30*time.Second {
					t.Errorf("Update paused for %v over %d attempts; want short pauses between them and no other", spent, f.attempts)
				}
			})
		})
	}
}

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func TestUpdateReturnsOtherErrorsUnchanged(t *testing.T) {
	want := errors.New("of the callback")
	f := &fake{}
	if err := store.Update(t.Context(), f, func(store.Txn) error { return want }); err != want {
		t.Errorf("Update = %v; want the callback's error unchanged", err)
	}
}

func TestUpdateContext(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(ctx context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, context.DeadlineExceeded},
		{"cancel", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, context.Canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := test.end(t.Context())
				defer cancel()
				start := time.Now()
				f := &fake{update: func(int) error { return store.ErrConflict }}
				err := store.Update(ctx, f, nothing)
				if !errors.Is(err, test.want) || !errors.Is(err, store.ErrConflict) {
					t.Errorf("Update whose context ended while it conflicted: %v; want an error that matches both", err)
				}
				// The clock is synctest's, so that the pause ends exactly then.
				if spent := time.Since(start); spent != time.Second {
					t.Errorf("Update returned after %v; want it to end with its context, after 1s", spent)
				}
			})
		})
	}
}
