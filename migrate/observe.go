package migrate

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/store"
)

// An EventKind is what an Event reports.
type EventKind int

// What happens to a migration: it starts, commits steps, and finishes or fails. Before
// the first of a run the store may be backed up, and another process may be waited for.
const (
	Started EventKind = iota
	Batch
	Finished
	Failed
	BackingUp
	Waiting
)

// String returns the kind in lower case.
func (k EventKind) String() string {
	switch k {
	case Started:
		return "started"
	case Batch:
		return "batch"
	case Finished:
		return "finished"
	case Failed:
		return "failed"
	case BackingUp:
		return "backing up"
	case Waiting:
		return "waiting"
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// An Event tells an Observer how far a migration has come. Of each migration that
// a run applies there is one Started, a Batch after each committed step, and then
// Finished or Failed. Small migrations that share a transaction have all started
// before the first of them is finished, and those after one that failed have neither.
//
// If Options.Backup is set, BackingUps come before the first Started, with that
// migration and of the rest only Phase, Done, Total, Bytes, Rate and Elapsed: phase 1
// writes the backup, or compares the store with one that is there, and phase 2 reads it
// back.
//
// While a run waits for another process that migrates the store, which both share,
// there is a Waiting as often as Options.Heartbeat says, with the migration that comes
// next, Holder, Elapsed, and what that process has done of it. If a run loses its turn
// it waits, too, and migrations that had started can start again.
type Event struct {
	Kind   EventKind
	Schema string
	Migration

	Phase, Phases int           // the phase that the last step belongs to, from 1
	Steps         uint64        // committed by this run
	Done          uint64        // entries visited in this phase, also by runs that were interrupted
	Total         uint64        // entries of this phase, an estimate; 0 as long as there is none
	Bytes         uint64        // keys and values of those that are done
	Rate          float64       // entries a second, over the last ten times that it was asked for and at least a second each
	Elapsed       time.Duration // since Started
	ETA           time.Duration // until the phase is done; 0 if not known

	// Began is when the migration began, or in this run went on; of a Batch, when
	// the step did, which is before the end of those before it if they overlap. It is
	// zero of a BackingUp.
	Began time.Time

	Applied *Applied // of a Finished: its record in history, nil if another runner wrote it
	Err     error    // of a Failed
	Holder  *Holder  // of a Waiting: the process that works
}

// String says it for people: what happened, what is done of what, how fast, how
// long it may still take, and the error.
func (e Event) String() string {
	text := fmt.Sprintf("v%d -> v%d (%s)", e.from(), e.Version, e.Name)
	if e.Kind == BackingUp {
		text = fmt.Sprintf("backup of v%d", e.from())
	}
	if e.Kind == Waiting {
		text += fmt.Sprintf(", waiting for %v", e.Holder)
	}
	if e.Phases > 1 {
		text += fmt.Sprintf(", phase %d of %d", e.Phase, e.Phases)
	}
	switch e.Kind {
	case Started:
		text += " started"
		if e.Done > 0 {
			text += ": goes on after " + plural.Of(e.Done, "entry")
		}
		return text
	case Finished, Failed:
		text += " " + e.Kind.String()
	}
	switch {
	case e.Total > 0:
		text += fmt.Sprintf(": %d of %s (%d %%)", e.Done, plural.Of(e.Total, "entry"), e.Done*100/e.Total)
	case e.Done > 0 || e.Kind == BackingUp:
		text += ": " + plural.Of(e.Done, "entry")
	default:
		text += ": " + plural.Of(e.Steps, "step")
	}
	text += fmt.Sprintf(" in %v", e.Elapsed.Round(time.Second))
	if e.Rate > 0 {
		text += fmt.Sprintf(", %.0f/s", e.Rate)
	}
	if e.ETA > 0 {
		text += fmt.Sprintf(", about %v left", e.ETA.Round(time.Second))
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// The rate is taken over a window of samples.
const (
	samples      = 10
	sampleLength = time.Second
)

// A meter measures one migration and tells the observer and the log of it.
type meter struct {
	*Runner
	began      time.Time
	background sync.WaitGroup

	mu      sync.Mutex
	event   Event
	samples []sample // of the current phase, oldest first
	counted bool     // whether the entries of the phase are being counted
}

// A sample is how many entries were done at a moment.
type sample struct {
	at   time.Time
	done uint64
}

// newMeter returns the meter of m, which goes on from p if that is not nil.
func newMeter(r *Runner, m Migration, p *Progress) *meter {
	t := &meter{Runner: r, began: time.Now(), event: Event{Kind: Batch, Schema: r.schema, Migration: m, Phase: 1, Phases: 1}}
	if p != nil {
		t.event.Phase, t.event.Phases = p.Phase, p.Phase // and perhaps more, as the first step will tell
		t.event.Done, t.event.Bytes = p.Visited, p.VisitedBytes
	}
	t.samples = []sample{{t.began, t.event.Done}}
	return t
}

// start returns the context of the migration. stop ends everything in the
// background.
func (t *meter) start(ctx context.Context) (ctxOfRun context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, func() {
		cancel()
		t.background.Wait()
	}
}

// A heart logs how far the migration is that runs now, so that nobody waits in
// silence. One heart serves all migrations of a run: many of them are shorter than
// it takes to start one.
type heart struct {
	meter atomic.Pointer[meter]
	stop  context.CancelFunc
	done  chan struct{}
}

// newHeart returns a heart that beats until stopped, in the log and in the file
// that other processes read.
func (r *Runner) newHeart(ctx context.Context, plan Plan) *heart {
	ctx, cancel := context.WithCancel(ctx)
	h := &heart{stop: cancel, done: make(chan struct{})}
	log, stopLog := ticks(r.heartbeat)
	file, stopFile := ticks(liveInterval)
	go func() {
		defer close(h.done)
		defer stopLog()
		defer stopFile()
		live := r.newLiveFile(plan)
		defer live.remove()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-log:
				if t := h.meter.Load(); t != nil {
					r.log.InfoContext(ctx, "still migrating "+t.measure(now).String())
				}
			case now := <-file:
				if t := h.meter.Load(); t != nil {
					live.write(ctx, now, t.measure(now))
				}
			}
		}
	}()
	return h
}

// ticks returns a ticker's channel, which never ticks if d is negative.
func ticks(d time.Duration) (ticks <-chan time.Time, stop func()) {
	if d < 0 {
		return nil, func() {}
	}
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// end stops the heart and waits for it.
func (h *heart) end() {
	h.stop()
	<-h.done
}

// committed reports a step.
func (t *meter) committed(out outcome) {
	now := time.Now()
	t.mu.Lock()
	if phase := out.tx.phase; phase != t.event.Phase {
		t.event.Phase, t.event.Total, t.event.ETA, t.counted = phase, 0, 0, false
		t.samples = []sample{{now, 0}}
	}
	t.event.Phases = max(1, out.tx.phases)
	t.event.Steps++
	t.event.Done, t.event.Bytes = out.visited, out.visitedBytes
	t.event.Began, t.event.Applied = out.began, out.applied
	t.mu.Unlock()
	t.tell(Batch, nil)
}

// count begins to count the entries that are left of the phase, once. Without an
// observer nobody hears of the total before the first heartbeat, and most
// migrations are done by then.
func (t *meter) count(ctx context.Context, after outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counted || t.observer == nil && t.heartbeat < 0 {
		return
	}
	t.counted = true
	phase := t.event.Phase
	scan := store.Scan{Prefix: after.tx.rows.prefix, From: append(bytes.Clone(after.tx.batch.last), 0), KeysOnly: true}
	var delay time.Duration
	if t.observer == nil {
		delay = t.heartbeat / 2
	}
	t.background.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		n := after.visited
		count := func(s store.Reader) error {
			for e, err := range s.Scan(scan) {
				if err != nil {
					return err
				}
				if !bytes.HasPrefix(e.Key, []byte(t.keys.reserved)) && !isRecord(e.Key) {
					n++
				}
			}
			return nil
		}
		err := call(func() error { return t.store.View(ctx, count) })
		t.mu.Lock()
		defer t.mu.Unlock()
		if err == nil && phase == t.event.Phase { // without an estimate it goes as well
			t.event.Total = n
		}
	})
}

// measure returns the event as it is now, in the middle of the migration.
func (t *meter) measure(now time.Time) Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.event
	e.Elapsed = now.Sub(t.began)
	if e.Total > 0 {
		e.Total = max(e.Total, e.Done)
	}
	oldest := t.samples[0]
	if seconds := now.Sub(oldest.at).Seconds(); seconds > 0 {
		e.Rate = float64(e.Done-oldest.done) / seconds
	}
	e.ETA = 0
	if e.Total > e.Done && e.Rate > 0 {
		e.ETA = time.Duration(float64(e.Total-e.Done) / e.Rate * float64(time.Second))
	}
	if now.Sub(t.samples[len(t.samples)-1].at) >= sampleLength {
		t.samples = append(t.samples, sample{now, e.Done})
		t.samples = t.samples[max(0, len(t.samples)-samples):]
	}
	return *e
}

// tell tells the observer.
func (t *meter) tell(kind EventKind, err error) {
	if t.observer == nil {
		return
	}
	e := t.measure(time.Now())
	e.Kind, e.Err = kind, err
	if kind != Batch {
		e.Began = t.began
	}
	if kind != Finished {
		e.Applied = nil
	}
	t.observe(e)
}

// oneAtATime returns an observer that several goroutines may call.
func oneAtATime(observer func(Event)) func(Event) {
	var calling sync.Mutex
	return func(e Event) {
		calling.Lock()
		defer calling.Unlock()
		observer(e)
	}
}

// observe calls the observer, if there is one.
func (r *Runner) observe(e Event) {
	if r.observer == nil {
		return
	}
	if err := call(func() error { r.observer(e); return nil }); err != nil {
		r.log.Error(fmt.Sprintf("the observer of migrations failed: %v", err))
	}
}
