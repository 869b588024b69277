package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A fault is something that happens to a process.
type fault struct {
	kind faultKind
	at   int // the operation of the store at which it happens, or after which to the next commit
}

type faultKind string

const (
	kill          faultKind = "killed"
	fail          faultKind = "an error"
	cancel        faultKind = "cancelled"
	pause         faultKind = "paused"
	killCommitted faultKind = "killed after the commit"
	conflict      faultKind = "a conflict"
	unknownLost   faultKind = "unknown, and never committed"
	unknownDone   faultKind = "unknown, and committed"
	unknownLate   faultKind = "unknown, and committed later"
)

var (
	errKilled = errors.New("the process is dead")
	errFault  = errors.New("an error of the store")
	errStuck  = errors.New("a run that does not end")
)

// pauseTime is long enough for others to take the turn.
const pauseTime = 3 * ttl

// mostOperations is how many operations no run needs.
const mostOperations = 300_000

// A process is what one program has of a machine. It implements store.Store.
type process struct {
	*machine
	name    string
	entries int  // of a transaction of a migration
	jitter  bool // whether operations take time, by chance, so that goroutines overtake each other
	cancel  context.CancelFunc
	trace   func(format string, args ...any)

	mu         sync.Mutex
	random     *rand.Rand
	faults     []fault // in order, those to come
	operations int
	dead       bool
	resumes    time.Time // before that it is paused
}

// step is called before each operation, and returns its error if it has one.
func (p *process) step(ctx context.Context, op string, key []byte) error {
	p.mu.Lock()
	p.operations++
	f, due := p.due(op)
	if due {
		p.trace("%s: %s at operation %d, %s %q", p.name, f.kind, p.operations, op, key)
	}
	now := time.Now()
	if f.kind == pause {
		p.resumes = now.Add(pauseTime)
	}
	rest := p.resumes.Sub(now)
	if p.jitter && p.random.IntN(3) == 0 {
		rest += time.Duration(p.random.IntN(1 << p.random.IntN(24))) // at times longer than many operations take
	}
	p.dead = p.dead || f.kind == kill
	dead, stuck := p.dead, p.operations > mostOperations
	p.mu.Unlock()
	if rest > 0 {
		time.Sleep(rest)
	}
	switch {
	case dead:
		return errKilled
	case stuck:
		return errStuck
	case f.kind == fail:
		return &store.Error{Op: op, Err: errFault}
	case f.kind == cancel:
		p.cancel()
	}
	return ctx.Err()
}

// due returns the fault that happens to this operation.
func (p *process) due(op string) (f fault, due bool) {
	if len(p.faults) == 0 || p.operations < p.faults[0].at {
		return f, false
	}
	f = p.faults[0]
	switch f.kind {
	case kill, fail, cancel, pause:
	default:
		return fault{}, false // of the next commit
	}
	p.faults = p.faults[1:]
	return f, true
}

func (p *process) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := p.step(ctx, "view", nil); err != nil {
		return err
	}
	return fn(&operations{ctx: ctx, p: p, t: p.begin()})
}

func (p *process) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := p.step(ctx, "update", nil); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // it may commit although its caller has gone
	t := &operations{ctx: ctx, p: p, t: p.begin(), left: p.entries}
	if err := fn(t); err != nil {
		return err
	}
	if t.failed != nil {
		return t.failed
	}
	if len(t.t.writes) == 0 {
		return nil
	}
	if err := p.step(ctx, "commit", nil); err != nil {
		return err
	}
	return p.settle(t.t)
}

// settle commits t, or does what the fault of that commit is.
func (p *process) settle(t *transaction) error {
	p.mu.Lock()
	var f fault
	if len(p.faults) > 0 && p.operations >= p.faults[0].at {
		f, p.faults = p.faults[0], p.faults[1:]
		p.trace("%s: %s at operation %d, commit", p.name, f.kind, p.operations)
	}
	p.dead = p.dead || f.kind == killCommitted
	p.mu.Unlock()
	unknown := &store.Error{Op: "commit", Err: store.ErrUnknown}
	switch f.kind {
	case conflict:
		return &store.Error{Op: "commit", Err: store.ErrConflict}
	case unknownLost:
		return unknown
	case unknownLate:
		p.machine.mu.Lock()
		p.late = append(p.late, t)
		p.machine.mu.Unlock()
		return unknown
	}
	err := p.commit(t)
	switch {
	case err != nil:
		return err
	case f.kind == unknownDone:
		return unknown
	case f.kind == killCommitted:
		return errKilled
	}
	p.mu.Lock()
	arrives := p.random.IntN(3) == 0
	p.mu.Unlock()
	if arrives {
		p.arrive()
	}
	return nil
}

func (p *process) Sync(ctx context.Context) error {
	if err := p.step(ctx, "sync", nil); err != nil {
		return err
	}
	p.sync()
	return nil
}

func (p *process) Limits() store.Limits {
	return store.Limits{TxnEntries: p.entries, TxnBytes: 1 << 20, KeyBytes: 1 << 10, ValueBytes: 1 << 16, Volatile: p.volatile}
}

func (p *process) Shared() bool { return p.shared }
func (*process) Close() error   { return nil }

// operations is a transaction of a process, with its faults. It implements store.Txn.
type operations struct {
	ctx    context.Context
	p      *process
	t      *transaction
	left   int   // how many writes of the migration still fit
	failed error // the first
}

func (o *operations) step(op string, key []byte) error {
	if o.failed == nil {
		o.failed = o.p.step(o.ctx, op, key)
	}
	return o.failed
}

func (o *operations) Get(key []byte) (store.Entry, error) {
	if err := o.step("get", key); err != nil {
		return store.Entry{}, err
	}
	return o.t.Get(key)
}

func (o *operations) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := o.step("scan", s.Prefix); err != nil {
			yield(store.Entry{}, err)
			return
		}
		for e, err := range o.t.Scan(s) {
			if !yield(e, err) {
				return
			}
		}
	}
}

func (o *operations) Set(e store.Entry) error {
	return o.write("set", e.Key, func() error { return o.t.Set(e) })
}

func (o *operations) Delete(key []byte) error {
	return o.write("delete", key, func() error { return o.t.Delete(key) })
}

// write makes a write if it fits. The records of the schema always do: how many there
// are is not what the store's limits are to show here.
func (o *operations) write(op string, key []byte, do func() error) error {
	if err := o.step(op, key); err != nil {
		return err
	}
	if !bytes.HasPrefix(key, []byte("system:")) {
		o.left--
	}
	if o.left < 0 {
		o.failed = &store.Error{Op: op, Key: bytes.Clone(key), Err: store.ErrTxnTooBig}
		return o.failed
	}
	return do()
}
