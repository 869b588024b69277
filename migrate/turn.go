package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// How long a turn may stand without a sign of life: unless Options say otherwise, and
// at the least.
const (
	defaultTTL = 10 * time.Second
	leastTTL   = 100 * time.Millisecond
)

// How hard a run that ends tries to give its turn back.
const (
	releaseTime     = 2 * time.Second
	releaseAttempts = 3
)

// A Holder is the process whose turn it is to migrate a schema in a store that several
// processes share (see [store.Sharer]).
type Holder struct {
	Program string
	Host    string // its name, "" if it does not know it
	PID     int
	Since   time.Time // when it took the turn, by its clock; UTC, milliseconds
}

// String names the process, for people.
func (h Holder) String() string {
	on := ""
	if h.Host != "" {
		on = " on " + h.Host
	}
	return fmt.Sprintf("%s%s (process %d, since %s)", h.Program, on, h.PID, h.Since.Format(time.RFC3339))
}

// turnRecord is the value of a schema's turn.
type turnRecord struct {
	Token   []byte `cbor:"token"` // random bytes, new in each turn
	Program string `cbor:"program"`
	Host    string `cbor:"host"`
	PID     int    `cbor:"pid"`
	Since   int64  `cbor:"since"` // Unix milliseconds
	TTL     int64  `cbor:"ttl"`   // milliseconds that it may stand unchanged
	Beat    uint64 `cbor:"beat"`  // grows with each sign of life
}

func (t turnRecord) holder() Holder {
	return Holder{Program: t.Program, Host: t.Host, PID: t.PID, Since: time.UnixMilli(t.Since).UTC()}
}

func (t turnRecord) ttl() time.Duration { return time.Duration(t.TTL) * time.Millisecond }

// readTurn reads whose turn it is. data is the record's value, nil if it is nobody's.
func (r *Runner) readTurn(s store.Reader) (t turnRecord, data []byte, err error) {
	e, err := s.Get(r.keys.turn)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return t, nil, nil
	case err != nil:
		return t, nil, r.unreadable(r.keys.turn, "whose turn it is to migrate", err)
	}
	if err := value.Unmarshal(e.Value, &t); err != nil {
		return t, nil, r.undecodable(r.keys.turn, "whose turn it is to migrate", err)
	}
	return t, e.Value, nil
}

// errTurnLost: another process has taken the turn, or may have.
var errTurnLost = errors.New("the turn to migrate is lost")

// A turn is what this process has while it is the one to migrate a store that it
// shares. The record of it, which others watch, says only who that is. What keeps all
// others from writing is the schema's lock: whoever takes the turn changes it in the
// same transaction, and every transaction of a turn reads it.
type turn struct {
	*Runner
	token  []byte
	cancel context.CancelCauseFunc

	record turnRecord // as it was last written
	seen   time.Time  // no later than others saw it

	fencing sync.Mutex // also held while the store is asked
	lock    []byte     // what the lock holds
	doubt   bool       // whether a transaction that has read the lock may still be committed

	mu   sync.Mutex // held for a moment only: who loses the turn must not wait
	lost error
}

func (r *Runner) newTurn() *turn {
	host, _ := os.Hostname() // who has none is known by the rest
	token := newToken()
	return &turn{Runner: r, token: token, record: turnRecord{
		Token: token, Program: r.programName(), Host: legible(host), PID: os.Getpid(), TTL: r.ttl.Milliseconds(),
	}}
}

// take takes the turn unless another process has it that is alive, as that judges. A
// transaction of a turn before it that is still open can no longer commit.
func (t *turn) take(ctx context.Context, alive func(turnRecord, []byte) bool) (taken bool, err error) {
	t.seen, t.record.Since = time.Now(), t.clock().UnixMilli()
	data, err := value.Marshal(t.record)
	if err != nil {
		return false, err
	}
	if t.lock, err = t.newLock(); err != nil {
		return false, err
	}
	err = certain.Update(ctx, t.store, func(txn store.Txn) error {
		taken = false
		other, stored, err := t.readTurn(txn)
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
		if err := txn.Set(store.Entry{Key: t.keys.turn, Value: data}); err != nil {
			return err
		}
		return txn.Set(store.Entry{Key: t.keys.lock, Value: t.lock})
	})
	return taken && err == nil, err
}

// run migrates up to target, keeps the turn meanwhile and gives it back.
func (t *turn) run(ctx context.Context, target uint32) (report Report, err error) {
	ctx, t.cancel = context.WithCancelCause(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		t.keep(ctx)
	}()
	defer func() {
		t.cancel(nil)
		<-kept
		t.release(ctx)
	}()
	worker, err := New(fenced{t.store, t}, t.options)
	if err != nil {
		return report, err
	}
	worker.inTurn = true
	found, report, err := worker.look(ctx, target)
	if err == nil && !found.settled(target) {
		err = worker.advanceGated(ctx, found, target, &report)
	}
	return report, err
}

// keep gives a sign of life again and again, until ctx ends or the turn is lost.
func (t *turn) keep(ctx context.Context) {
	for pause := t.ttl / 3; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = t.ttl / 12
		now := time.Now()
		err := t.beat(ctx)
		late := now.Sub(t.seen) >= t.ttl // and not only because the process was paused while it tried
		switch {
		case err == nil:
			pause = t.ttl / 3
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTurnLost):
			t.lose(err)
			return
		case late:
			t.lose(fmt.Errorf("%w: no sign of life could be given for %v: %w", errTurnLost, t.ttl, err))
			return
		}
	}
}

// beat gives one sign of life.
func (t *turn) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.ttl/3)
	defer cancel()
	now, next := time.Now(), t.record
	next.Beat++
	t.record.Beat = next.Beat // also if it fails, because it may be there all the same
	data, err := value.Marshal(next)
	if err != nil {
		return err
	}
	err = store.Update(ctx, t.store, func(txn store.Txn) error {
		if err := t.held(txn); err != nil {
			return err
		}
		return txn.Set(store.Entry{Key: t.keys.turn, Value: data})
	})
	if err == nil {
		t.record, t.seen = next, now
	}
	return err
}

// held refuses a transaction that does not see this turn.
func (t *turn) held(txn store.Txn) error {
	now, stored, err := t.readTurn(txn)
	switch {
	case err != nil:
		return err
	case stored == nil:
		return fmt.Errorf("%w: another process took it and is done", errTurnLost)
	case !bytes.Equal(now.Token, t.token):
		return fmt.Errorf("%w to %v", errTurnLost, now.holder())
	}
	return nil
}

// lose ends the run of the turn.
func (t *turn) lose(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost == nil {
		t.lost = err
	}
	t.cancel(err)
}

// whyLost returns nil if the turn is not known to be lost.
func (t *turn) whyLost() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// release gives the turn back, also if ctx has ended.
func (t *turn) release(ctx context.Context) {
	if t.whyLost() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	err := errors.New("not tried")
	for attempt := 0; attempt < releaseAttempts && err != nil && ctx.Err() == nil; attempt++ {
		err = store.Update(ctx, t.store, t.releaseIn)
	}
	if err != nil {
		t.log.WarnContext(ctx, fmt.Sprintf("%s schema: the turn to migrate was not given back, so that others wait %v before they take it: %v", t.schema, t.ttl, err))
	}
}

// releaseIn gives the turn back in txn. A transaction of it that is still open can no
// longer be committed, because the lock goes or, while a migration is under way,
// changes.
func (t *turn) releaseIn(txn store.Txn) error {
	err := t.held(txn)
	switch {
	case errors.Is(err, errTurnLost):
		return nil // or given back by a commit that was not confirmed
	case err != nil:
		return err
	}
	if err := txn.Delete(t.keys.turn); err != nil {
		return err
	}
	under, err := t.underWay(txn)
	switch {
	case err != nil:
		return err
	case !under:
		return txn.Delete(t.keys.lock)
	}
	lock, err := t.newLock()
	if err != nil {
		return err
	}
	return txn.Set(store.Entry{Key: t.keys.lock, Value: lock})
}

// fence returns what the lock holds for a transaction of the turn. After a commit
// with an unknown outcome it changes the lock first, so that the commit is there by
// then or never will be.
func (t *turn) fence(ctx context.Context) ([]byte, error) {
	t.fencing.Lock()
	defer t.fencing.Unlock()
	if !t.doubt {
		return t.lock, nil
	}
	lock, err := t.newLock()
	if err != nil {
		return nil, err
	}
	err = certain.Update(ctx, t.store, func(txn store.Txn) error {
		if err := t.held(txn); err != nil {
			return err
		}
		e, err := txn.Get(t.keys.lock)
		if err == nil && bytes.Equal(e.Value, lock) || err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return txn.Set(store.Entry{Key: t.keys.lock, Value: lock})
	})
	if err != nil {
		return nil, err
	}
	t.lock, t.doubt = lock, false
	return lock, nil
}

// insist refuses a transaction that does not see lock.
func (t *turn) insist(txn store.Txn, lock []byte) error {
	e, err := txn.Get(t.keys.lock)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case err != nil || !bytes.Equal(e.Value, lock):
		return t.notHeld(txn)
	}
	return nil
}

// notHeld says why the lock has changed: because the turn has, or because another
// transaction of it found a reason to.
func (t *turn) notHeld(txn store.Txn) error {
	if err := t.held(txn); err != nil {
		return err
	}
	return errAgain
}

// A fenced is the store of a turn: no transaction of it commits once another process
// has taken the turn.
type fenced struct {
	store.Store
	turn *turn
}

// Unwrap returns the store below; see [store.As].
func (f fenced) Unwrap() store.Store { return f.Store }

// Update implements [store.Store].
func (f fenced) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := f.update(ctx, fn)
	switch {
	case errors.Is(err, store.ErrUnknown):
		f.turn.fencing.Lock()
		f.turn.doubt = true
		f.turn.fencing.Unlock()
	case errors.Is(err, errTurnLost):
		f.turn.lose(err)
	}
	return err
}

func (f fenced) update(ctx context.Context, fn func(store.Txn) error) error {
	lock, err := f.turn.fence(ctx)
	if err != nil {
		return err
	}
	return f.Store.Update(ctx, func(txn store.Txn) error {
		if err := f.turn.insist(txn, lock); err != nil {
			return err
		}
		return fn(txn)
	})
}
