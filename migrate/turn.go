package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/turn"
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
	return turn.Record{Program: h.Program, Host: h.Host, PID: h.PID, Since: h.Since.UnixMilli()}.String()
}

func holderOf(t turn.Record) Holder {
	return Holder{Program: t.Program, Host: t.Host, PID: t.PID, Since: time.UnixMilli(t.Since).UTC()}
}

// readTurn reads whose turn it is. data is the record's value, nil if it is nobody's.
func (r *Runner) readTurn(s store.Reader) (t turn.Record, data []byte, err error) {
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

// wallClock is a [turn.Clock].
type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (r *Runner) newTurn() *turn.Turn {
	host, _ := os.Hostname() // who has none is known by the rest
	return &turn.Turn{
		Store: r.store, Clock: wallClock{}, Read: r.readTurn, NewLock: r.newLock,
		Keys: turn.Keys{Turn: r.keys.turn, Lock: r.keys.lock, Progress: r.keys.progress},
		Record: turn.Record{
			Token: newToken(), Program: r.programName(), Host: legible(host), PID: os.Getpid(), TTL: r.ttl.Milliseconds(),
		},
	}
}

// runTurn migrates up to target, keeps the turn meanwhile and gives it back.
func (r *Runner) runTurn(ctx context.Context, t *turn.Turn, target uint32) (report Report, err error) {
	ctx, end := t.Begin(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		t.Keep(ctx)
	}()
	defer func() {
		end()
		<-kept
		r.release(ctx, t)
	}()
	worker, err := New(t.Fenced(), r.options)
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

// release gives the turn back, also if ctx has ended.
func (r *Runner) release(ctx context.Context, t *turn.Turn) {
	if t.Lost() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	err := errors.New("not tried")
	for attempt := 0; attempt < releaseAttempts && err != nil && ctx.Err() == nil; attempt++ {
		err = t.Release(ctx)
	}
	if err != nil {
		r.log.WarnContext(ctx, fmt.Sprintf("%s schema: the turn to migrate was not given back, so that others wait %v before they take it: %v", r.schema, r.ttl, err))
	}
}
