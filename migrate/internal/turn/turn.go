// Package turn is the turn to migrate a schema in a store that several processes share:
// one process has it, the others wait, and one of them takes it when that process has
// given no sign of life for too long.
//
// The record of the turn, which the others watch, says only who has it. What keeps all
// others from writing is the schema's lock: whoever takes the turn changes it in the same
// transaction, and every transaction of a turn reads it.
package turn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

var (
	// ErrLost means that another process has taken the turn, or may have.
	ErrLost = errors.New("the turn to migrate is lost")

	// ErrAgain means that what is stored is not what a run assumed, so that it must
	// look again and go on from there.
	ErrAgain = errors.New("another run took over")
)

// A Record is the value of a schema's turn.
type Record struct {
	Token   []byte `cbor:"token"` // random bytes, new in each turn
	Program string `cbor:"program"`
	Host    string `cbor:"host"`
	PID     int    `cbor:"pid"`
	Since   int64  `cbor:"since"` // Unix milliseconds
	TTL     int64  `cbor:"ttl"`   // milliseconds that it may stand unchanged
	Beat    uint64 `cbor:"beat"`  // grows with each sign of life
}

// String names the process, for people.
func (r Record) String() string {
	on := ""
	if r.Host != "" {
		on = " on " + r.Host
	}
	return fmt.Sprintf("%s%s (process %d, since %s)", r.Program, on, r.PID, time.UnixMilli(r.Since).UTC().Format(time.RFC3339))
}

// Silence is how long the record may stand without a sign of life.
func (r Record) Silence() time.Duration { return time.Duration(r.TTL) * time.Millisecond }

// Keys are those of the records of a schema that a turn reads and writes.
type Keys struct{ Turn, Lock, Progress []byte }

// A Clock is the time as a simulation can have it, too.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error // returns ctx's error once that ends
}

// A Turn is what a process has while it is the one to migrate a store that it shares.
// All that it does to the schema it does through the store that Fenced returns.
type Turn struct {
	Store store.Store
	Keys  Keys
	Clock Clock

	// Record says who takes the turn, and for how long it may be silent. Nothing changes
	// it once the turn is taken: who gives signs of life is not alone in reading it.
	Record Record

	// Read reads whose turn it is, and the value of that record, nil if it is nobody's.
	Read func(store.Reader) (Record, []byte, error)

	// NewLock makes up what the lock is to hold, another value each time.
	NewLock func() ([]byte, error)

	cancel context.CancelCauseFunc
	seen   time.Time // no later than others saw the last sign of life
	beats  uint64    // signs of life, also those that failed: they may be there all the same

	fencing sync.Mutex // also held while the store is asked
	lock    []byte     // what the lock holds
	doubt   bool       // whether a transaction that has read the lock may still be committed

	mu   sync.Mutex // held for a moment only: who loses the turn must not wait
	lost error
}

// Take takes the turn unless another process has it that is alive, as that judges. A
// transaction of a turn before it that is still open can no longer commit.
func (t *Turn) Take(ctx context.Context, alive func(Record, []byte) bool) (taken bool, err error) {
	t.seen = t.Clock.Now()
	data, err := value.Marshal(t.Record)
	if err != nil {
		return false, err
	}
	if t.lock, err = t.NewLock(); err != nil {
		return false, err
	}
	err = certain.Update(ctx, t.Store, func(txn store.Txn) error {
		taken = false
		other, stored, err := t.Read(txn)
		switch {
		case err != nil:
			return err
		case bytes.Equal(stored, data): // by a commit that was not confirmed
			taken = true
			return nil
		case stored != nil && alive(other, stored):
			return nil
		}
		taken = true
		if err := txn.Set(store.Entry{Key: t.Keys.Turn, Value: data}); err != nil {
			return err
		}
		return txn.Set(store.Entry{Key: t.Keys.Lock, Value: t.lock})
	})
	return taken && err == nil, err
}

// Begin returns the context of what is done in the turn, which ends once the turn is
// lost, or after end.
func (t *Turn) Begin(ctx context.Context) (within context.Context, end func()) {
	ctx, t.cancel = context.WithCancelCause(ctx)
	return ctx, func() { t.cancel(nil) }
}

// Keep gives a sign of life again and again, until ctx ends or the turn is lost.
func (t *Turn) Keep(ctx context.Context) {
	ttl := t.Record.Silence()
	for pause := ttl / 3; t.Clock.Sleep(ctx, pause) == nil; {
		pause = ttl / 12
		now := t.Clock.Now()
		err := t.beat(ctx)
		late := now.Sub(t.seen) >= ttl // and not only because the process was paused while it tried
		switch {
		case err == nil:
			pause = ttl / 3
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrLost):
			t.lose(err)
			return
		case late:
			t.lose(fmt.Errorf("%w: no sign of life could be given for %v: %w", ErrLost, ttl, err))
			return
		}
	}
}

// beat gives one sign of life.
func (t *Turn) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.Record.Silence()/3)
	defer cancel()
	now, next := t.Clock.Now(), t.Record
	t.beats++
	next.Beat = t.beats
	data, err := value.Marshal(next)
	if err != nil {
		return err
	}
	err = store.Update(ctx, t.Store, func(txn store.Txn) error {
		if err := t.held(txn); err != nil {
			return err
		}
		return txn.Set(store.Entry{Key: t.Keys.Turn, Value: data})
	})
	if err == nil {
		t.seen = now
	}
	return err
}

// held refuses a transaction that does not see this turn.
func (t *Turn) held(txn store.Txn) error {
	now, stored, err := t.Read(txn)
	switch {
	case err != nil:
		return err
	case stored == nil:
		return fmt.Errorf("%w: another process took it and is done", ErrLost)
	case !bytes.Equal(now.Token, t.Record.Token):
		return fmt.Errorf("%w to %v", ErrLost, now)
	}
	return nil
}

// lose ends what is done in the turn.
func (t *Turn) lose(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost == nil {
		t.lost = err
	}
	t.cancel(err)
}

// Lost returns nil if the turn is not known to be lost.
func (t *Turn) Lost() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// Release gives the turn back. It does nothing if another process has taken it. A
// transaction of it that is still open can no longer be committed, because the lock goes
// or, while a migration is under way, changes.
func (t *Turn) Release(ctx context.Context) error {
	return store.Update(ctx, t.Store, func(txn store.Txn) error {
		err := t.held(txn)
		switch {
		case errors.Is(err, ErrLost):
			return nil // or given back by a commit that was not confirmed
		case err != nil:
			return err
		}
		if err := txn.Delete(t.Keys.Turn); err != nil {
			return err
		}
		_, err = txn.Get(t.Keys.Progress)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return txn.Delete(t.Keys.Lock)
		case err != nil:
			return err
		}
		lock, err := t.NewLock()
		if err != nil {
			return err
		}
		return txn.Set(store.Entry{Key: t.Keys.Lock, Value: lock})
	})
}
