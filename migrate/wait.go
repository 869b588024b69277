package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/pulse"
	"github.com/kvmigrate/kvmigrate/migrate/internal/turn"
	"github.com/kvmigrate/kvmigrate/store"
)

// The pauses between two looks at whose turn it is.
const (
	leastPoll = 20 * time.Millisecond
	mostPoll  = time.Second
)

// patience is how long the store may be out of reach of a run that waits.
const patience = 30 * time.Second

// upInTurn is UpTo in a store that other processes write, too: one of them works at a
// time, and mostly there is nothing left to do for those that waited.
func (r *Runner) upInTurn(ctx context.Context, target uint32) (Report, error) {
	var before Report // of a turn that was lost
	for {
		found, report, err := r.look(ctx, target)
		report = before.then(report)
		if err != nil || found.settled(target) {
			return report, err
		}
		t, err := r.awaitTurn(ctx, target)
		switch {
		case err != nil:
			return report, err
		case t == nil:
			continue
		}
		report, err = r.runTurn(ctx, t, target)
		report = before.then(report)
		lost := t.Lost()
		if err == nil || lost == nil || ctx.Err() != nil {
			return report, err
		}
		r.log.WarnContext(ctx, fmt.Sprintf("stopped migrating %s schema, in which nothing is lost: %v", r.schema, lost))
		before = report
	}
}

// then returns what r, unless it is zero, and next, of a run after it, come to.
func (r Report) then(next Report) Report {
	if r.Schema == "" {
		return next
	}
	next.From, next.Adopted = r.From, r.Adopted || next.Adopted
	next.To = max(r.To, next.To) // of which nothing is known if it could not look
	next.Applied = append(r.Applied, next.Applied...)
	if r.Backup != nil {
		next.Backup = r.Backup
	}
	return next
}

// A waiting is a run that waits for its turn.
type waiting struct {
	*Runner
	target uint32
	watch  pulse.Watch
	began  time.Time
	seen   time.Time // when the store last answered
	first  []byte    // the first turn that it saw, whoever had it
	signs  bool      // whether there was a sign of life since
	holder []byte    // the token of the one that was told of
	told   time.Time
}

// A sight is what a waiting run sees of the one that works.
type sight struct {
	turn     turn.Record
	alive    bool // whether there is a turn, of a process that lives
	dead     bool // whether there is one, of a process that does not
	version  uint32
	progress *Progress
}

// awaitTurn returns a turn that it took, or nil once the version is target. How long it
// waits is Options.Wait, but not less than it takes to see whether the process that
// has the turn is alive.
func (r *Runner) awaitTurn(ctx context.Context, target uint32) (*turn.Turn, error) {
	now := time.Now()
	w := &waiting{Runner: r, target: target, began: now, seen: now}
	t := r.newTurn()
	for pause := leastPoll; ; pause = min(2*pause, mostPoll, r.ttl/10) {
		s, err := w.see(ctx)
		switch {
		case err != nil:
			return nil, err
		case s == nil: // the store did not answer
		case s.version >= target:
			return nil, nil
		case s.alive && w.signs && r.wait != 0 && time.Since(w.began) >= r.wait:
			return nil, &BusyError{Schema: r.schema, Holder: holderOf(s.turn), Version: s.version, Progress: s.progress}
		case s.alive:
			w.tell(ctx, s)
		default:
			if s.dead {
				r.log.WarnContext(ctx, fmt.Sprintf("taking over from %v, which has given no sign of life for %v", holderOf(s.turn), s.turn.Silence()))
			}
			t.Record.Since = r.clock().UnixMilli()
			taken, err := t.Take(ctx, w.alive)
			if err != nil {
				return nil, fmt.Errorf("%s schema: take the turn to migrate: %w", r.schema, err)
			}
			if taken {
				return t, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s schema: wait for the turn to migrate: %w", r.schema, ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// see looks at the store once. It returns nil if that does not answer, as while a
// cluster has no leader, for as long as there is patience.
func (w *waiting) see(ctx context.Context) (*sight, error) {
	s := new(sight)
	asked := time.Now()
	bounded, cancel := context.WithTimeout(ctx, w.ttl/3)
	defer cancel()
	err := w.store.View(bounded, func(r store.Reader) (err error) {
		*s = sight{}
		var data []byte
		if s.turn, data, err = w.readTurn(r); err != nil {
			return err
		}
		if data != nil {
			s.alive = w.alive(s.turn, data)
			s.dead = !s.alive
		}
		if s.version, _, err = w.readVersion(r); err != nil || s.version >= w.target {
			return err
		}
		s.progress, err = w.readProgress(r, s.version)
		return err
	})
	switch {
	case err == nil:
		w.seen = time.Now()
		return s, nil
	case ctx.Err() == nil && !errors.Is(err, ErrRefused) && asked.Sub(w.seen) < patience:
		return nil, nil // also if this process was paused since it asked
	}
	return nil, err
}

// alive judges by the time that whoever has the turn allows others to take it after.
func (w *waiting) alive(t turn.Record, data []byte) bool {
	switch {
	case w.first == nil:
		w.first = bytes.Clone(data)
	case !bytes.Equal(data, w.first):
		w.signs = true
	}
	w.watch.TTL = t.Silence()
	return w.watch.Alive("", data)
}

// tell says who works and how far that is: at once, and again with each heartbeat.
func (w *waiting) tell(ctx context.Context, s *sight) {
	now := time.Now()
	if bytes.Equal(w.holder, s.turn.Token) && (w.heartbeat < 0 || now.Sub(w.told) < w.heartbeat) {
		return
	}
	w.holder, w.told = s.turn.Token, now
	how := fmt.Sprintf("at v%d", s.version)
	if s.progress != nil {
		how = fmt.Sprintf("at v%d with %v", s.version, s.progress)
	}
	w.log.InfoContext(ctx, fmt.Sprintf("waiting for %v, which migrates %s schema: it is %s", holderOf(s.turn), w.schema, how))
	w.observeWaiting(s, now)
}

func (w *waiting) observeWaiting(s *sight, now time.Time) {
	l := w.registry.ladder()
	next := l.next(s.version)
	if !l.has(next) {
		return
	}
	holder := holderOf(s.turn)
	e := Event{Kind: Waiting, Schema: w.schema, Migration: l.at(next), Phase: 1, Phases: 1, Elapsed: now.Sub(w.began), Holder: &holder}
	if p := s.progress; p != nil && p.Version == next {
		e.Phase, e.Phases, e.Steps, e.Done, e.Bytes = p.Phase, p.Phase, p.Transactions, p.Visited, p.VisitedBytes
	}
	w.observe(e)
}
