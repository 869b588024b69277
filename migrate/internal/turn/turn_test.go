package turn_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/turn"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/value"
)

var keys = turn.Keys{Turn: []byte("turn"), Lock: []byte("lock"), Progress: []byte("progress")}

func read(r store.Reader) (now turn.Record, data []byte, err error) {
	e, err := r.Get(keys.Turn)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return now, nil, nil
	case err != nil:
		return now, nil, err
	}
	return now, e.Value, value.Unmarshal(e.Value, &now)
}

// A restless clock lets nobody sleep, and counts how often somebody wanted to.
type restless struct{ slept atomic.Int64 }

func (*restless) Now() time.Time { return time.Now() }

func (r *restless) Sleep(ctx context.Context, _ time.Duration) error {
	r.slept.Add(1)
	return ctx.Err()
}

// An unsure store says of no transaction that sets work whether it is committed.
type unsure struct{ store.Store }

var work = []byte("work")

func (s unsure) Update(ctx context.Context, fn func(store.Txn) error) error {
	var txn watched
	err := s.Store.Update(ctx, func(inner store.Txn) error {
		txn = watched{Txn: inner}
		return fn(&txn)
	})
	if err == nil && txn.works {
		return store.ErrUnknown
	}
	return err
}

type watched struct {
	store.Txn
	works bool
}

func (w *watched) Set(e store.Entry) error {
	w.works = w.works || bytes.Equal(e.Key, work)
	return w.Txn.Set(e)
}

// TestKeepInDoubt: signs of life go on while a run asks what became of its commits. The
// race detector sees whether the two share what they must not.
func TestKeepInDoubt(t *testing.T) {
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	var locks atomic.Uint64
	clock := new(restless)
	mine := &turn.Turn{
		Store: unsure{st}, Keys: keys, Clock: clock, Read: read,
		Record:  turn.Record{Token: []byte("mine"), TTL: time.Hour.Milliseconds()},
		NewLock: func() ([]byte, error) { return value.Marshal(locks.Add(1)) },
	}
	if taken, err := mine.Take(t.Context(), nil); !taken || err != nil {
		t.Fatalf("Take = %v, %v", taken, err)
	}
	ctx, end := mine.Begin(t.Context())
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		mine.Keep(ctx)
	}()
	for n := 0; n < 100 || clock.slept.Load() < 100; n++ {
		err := mine.Fenced().Update(ctx, func(txn store.Txn) error { return txn.Set(store.Entry{Key: work}) })
		if !errors.Is(err, store.ErrUnknown) {
			t.Errorf("Update = %v, want ErrUnknown", err)
			break
		}
	}
	end()
	<-kept
	if err := mine.Lost(); err != nil {
		t.Error(err)
	}
	err = st.View(t.Context(), func(r store.Reader) error {
		now, _, err := read(r)
		if string(now.Token) != "mine" || now.Beat == 0 {
			t.Errorf("the record is %+v, want signs of life in the turn", now)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
