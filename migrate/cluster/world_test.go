package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A world is one run of the simulation: processes that use and migrate one store, of
// which one at a time does one operation, and what happens to them, all as the seed
// has it.
type world struct {
	rng     *rand.Rand
	now     time.Duration
	store   *memory
	procs   []*proc
	tasks   []*task
	holdUp  []pending // commits that take effect later
	cur     *task
	calm    bool // whether nothing goes wrong any more
	newest  int  // the program that was deployed last
	names   int
	gap     gap
	version uint32 // that is stored

	fault error // what must not be

	traces bool
	trace  []string
}

type pending struct {
	at time.Duration
	do func()
}

// A gap is what is left out of the protocol.
type gap string

const (
	noGate       gap = "no gate"
	looksOnce    gap = "no second look"
	staysOpen    gap = "the store is not closed"
	impatient    gap = "a silent node is evicted at once"
	joinsBlindly gap = "a node that joins does not look for an intent"
	ungated      gap = "transactions do not look at the version"
	unfenced     gap = "migrations are not fenced"
	unsettled    gap = "a commit of unknown outcome is not settled"
	keepsIntent  gap = "the intent of a dead migrator stays"
	keepsTurn    gap = "the turn of a dead migrator stays"
)

// A task is one line of execution of a process.
type task struct {
	proc *proc
	name string
	wake time.Duration
	next func() (struct{}, bool)
	give func(struct{}) bool
	done bool
}

// errKilled ends the tasks of a process that was killed.
var errKilled = errors.New("killed")

// spawn starts a task of p.
func (w *world) spawn(p *proc, name string, do func()) *task {
	t := &task{proc: p, name: name, wake: w.now}
	t.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			t.done = true
			if r := recover(); r != nil && r != any(errKilled) {
				panic(r)
			}
		}()
		t.give = yield
		if !p.dead {
			do()
		}
	})
	w.tasks = append(w.tasks, t)
	return t
}

// step lets the others go first. The process may be dead when it goes on.
func (w *world) step(what string) {
	t := w.cur
	w.tracef("%s", what)
	if !w.calm && what != "sleep" {
		chance := w.rng.IntN(3000)
		if t.proc.migrates { // where it hurts most
			chance /= 8
		}
		switch {
		case chance < 6:
			t.proc.paused = w.now + w.pause()
			w.tracef("is paused until %v", t.proc.paused)
			if t.proc.migrates && len(w.alive()) < 6 {
				w.start(max(1, t.proc.max()-1-w.rng.IntN(2)))
			}
		case chance < 8:
			w.kill(t.proc)
			if t.proc.migrates && w.rng.IntN(2) == 0 {
				w.rollBack()
			}
		}
	}
	t.give(struct{}{})
	if t.proc.dead {
		panic(errKilled)
	}
}

// tracef notes what the current task does.
func (w *world) tracef(format string, args ...any) {
	if !w.traces {
		return
	}
	who := "world"
	if w.cur != nil {
		who = w.cur.proc.name + " " + w.cur.name
	}
	w.trace = append(w.trace, fmt.Sprintf("%8.3fs %-14s %s", w.now.Seconds(), who, fmt.Sprintf(format, args...)))
}

// failf notes what must not be.
func (w *world) failf(format string, args ...any) {
	if w.fault == nil {
		w.fault = fmt.Errorf("at %.3fs: %s", w.now.Seconds(), fmt.Sprintf(format, args...))
		w.tracef("FAULT: %v", w.fault)
	}
}

// Now and Sleep are the clock of all processes.
func (w *world) Now() time.Time { return time.Unix(0, 0).Add(w.now) }

func (w *world) Sleep(ctx context.Context, d time.Duration) error {
	w.cur.wake = w.now + d
	w.step("sleep")
	return ctx.Err()
}

// nap sleeps for up to d.
func (w *world) nap(d time.Duration) { _ = w.Sleep(context.Background(), w.upTo(d)) }

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d)) + 1) }

// pause is how long a process stands still: often not long enough to be taken for dead.
func (w *world) pause() time.Duration {
	if w.rng.IntN(2) == 0 {
		return w.upTo(simTTL)
	}
	return w.upTo(4 * simTTL)
}

// What becomes of a commit.
type fate int

const (
	usual fate = iota
	lost
	unconfirmed
	late
)

func (w *world) fate() fate {
	if w.calm || w.rng.IntN(100) >= 5 {
		return usual
	}
	return []fate{lost, unconfirmed, late}[w.rng.IntN(3)]
}

func (w *world) late(do func()) {
	delay := w.upTo(15 * time.Second)
	if w.rng.IntN(2) == 0 {
		delay /= 100
	}
	w.holdUp = append(w.holdUp, pending{w.now + delay, do})
}

// run lets the world go on until then, or until something happened that must not.
func (w *world) run(until time.Duration) {
	for w.now < until && w.fault == nil {
		w.cur = nil
		w.settleLate()
		if !w.calm {
			w.trouble()
		}
		var ready []*task
		next := until
		w.tasks = slices.DeleteFunc(w.tasks, func(t *task) bool { return t.done })
		for _, t := range w.tasks {
			at := max(t.wake, t.proc.paused)
			if t.proc.dead || at <= w.now {
				ready = append(ready, t)
			}
			next = min(next, at)
		}
		if len(ready) == 0 {
			w.now = max(w.now+time.Millisecond, next)
			continue
		}
		w.cur = ready[w.rng.IntN(len(ready))]
		w.cur.next()
		w.now += w.upTo(10 * time.Millisecond)
	}
	w.cur = nil
}

func (w *world) settleLate() {
	var left []pending
	for _, p := range w.holdUp {
		if p.at > w.now {
			left = append(left, p)
			continue
		}
		w.tracef("a late commit")
		p.do()
	}
	w.holdUp = left
}

// close ends all tasks.
func (w *world) close() {
	for _, p := range w.procs {
		p.dead = true
	}
	for _, t := range w.tasks {
		for !t.done {
			w.cur = t
			if _, ok := t.next(); !ok {
				break
			}
		}
	}
}

const latestProgram = 7

// trouble makes something happen now and then.
func (w *world) trouble() {
	if w.rng.IntN(400) > 0 {
		return
	}
	alive := w.alive()
	var victim *proc
	if len(alive) > 0 {
		victim = alive[w.rng.IntN(len(alive))]
	}
	switch what := w.rng.IntN(12); {
	case victim == nil, what < 3 && len(alive) < 6:
		w.start(max(1, w.newest-w.rng.IntN(3)))
	case what < 5:
		w.newest = min(w.newest+1, latestProgram)
		w.start(w.newest)
	case what < 6:
		w.kill(victim)
	case what < 7:
		w.kill(victim)
		w.start(victim.max())
	case what < 9:
		victim.paused = w.now + w.pause()
		w.tracef("pauses %s until %v", victim.name, victim.paused)
	case what < 10:
		w.tracef("asks %s to leave", victim.name)
		victim.leaving = true
	case what < 11: // the rolling upgrade of one
		victim.leaving = true
		w.start(w.newest)
	default:
		w.rollBack()
	}
}

// rollBack replaces the newest program by the one before it.
func (w *world) rollBack() {
	if w.newest == 1 {
		return
	}
	for _, p := range w.alive() {
		if p.max() >= w.newest {
			w.kill(p)
		}
	}
	w.newest--
	w.start(w.newest)
	w.start(w.newest)
}

func (w *world) alive() (alive []*proc) {
	for _, p := range w.procs {
		if !p.dead && !p.gone {
			alive = append(alive, p)
		}
	}
	return alive
}

func (w *world) kill(p *proc) {
	w.tracef("kills %s", p.name)
	p.dead = true
}

// start starts a process of that program.
func (w *world) start(program int) *proc {
	w.names++
	p := &proc{world: w, program: uint32(program), name: fmt.Sprintf("p%d(v%d)", w.names, program)}
	if w.rng.IntN(4) > 0 {
		p.span = 1
	}
	w.tracef("starts %s", p.name)
	w.procs = append(w.procs, p)
	w.spawn(p, "main", p.main)
	return p
}

func newWorld(seed uint64, g gap, traces bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), gap: g, traces: traces, newest: 2}
	w.store = &memory{world: w, data: map[string]item{}}
	return w
}

func (w *world) newID() string {
	return hex.EncodeToString(fmt.Appendf(nil, "%08d", w.rng.IntN(1e8)))
}

func (w *world) schedule() string { return strings.Join(w.trace, "\n") }

var silent = slog.New(slog.DiscardHandler)
