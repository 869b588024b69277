// Package jobs runs the jobs of system.jobs in the background.
//
// # Life of a job
//
// [Manager.Submit] stores a job as pending. A manager claims it in a transaction
// that makes it running and gives it a token, runs the executor that was registered
// for its type, and stores what came of it:
//
//	pending -> running -> completed
//	   ^          |  `--> failed
//	   |          |  `--> cancelled
//	   `----------'  a retry after an error, or after an interruption
//
// Jobs run in the order of their NotBefore, which is when they were created unless
// they were submitted, or are tried again, for later. Nothing is submitted by itself: a
// program that wants a job each night submits one, with an idempotency key that names the
// night. docs/jobs.md shows how.
//
// [Manager.Wait] returns a job when it has ended; [systables.Jobs], [systables.JobsByStatus]
// and [systables.QueuedJobs] read them at any time.
//
// # Several managers
//
// Any number of managers may work on one store, in one process or several. A job is
// run by one at a time: what changes a running job, or writes through its
// [Run.Update], checks the token in the same transaction. A manager renews the lease
// of its running jobs; one that does so no more, because its process died, loses them
// when the lease ends, or at once if a manager with the same [Options.NodeID] starts.
// Leases compare the clocks of the machines, which must agree to well within
// [Options.Lease].
//
// # What an executor must expect
//
// Its process can die between its work and the transaction that stores its result. So
// a job can be run again from the start after it did all of its work, never while
// another run of it can still write through [Run.Update].
package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
)

// The statuses of a job.
const (
	Pending   = "pending"
	Running   = "running"
	Completed = "completed"
	Failed    = "failed"
	Cancelled = "cancelled"
)

var (
	// ErrUnknownType means that no executor is registered for a job's type.
	ErrUnknownType = errors.New("no executor is registered for this type of job")

	// ErrKeyTaken means that the idempotency key belongs to a job of another type
	// or with other parameters.
	ErrKeyTaken = errors.New("idempotency key belongs to another job")

	// ErrFinished means that the job is completed or failed and cannot be
	// cancelled.
	ErrFinished = errors.New("job is finished")

	// ErrPermanent says, in an executor's error, that trying again is of no use.
	ErrPermanent = errors.New("permanent failure")

	// ErrCancelled is the cause of a run's context if its job was cancelled.
	ErrCancelled = errors.New("job was cancelled")

	// ErrShutdown is the cause of a run's context if its manager is shut down.
	ErrShutdown = errors.New("job manager shuts down")

	// ErrLost is the cause of a run's context if its lease could not be renewed or
	// another manager took the job over, and the error of [Run.Update] then.
	ErrLost = errors.New("run has lost its job")
)

// Options say how a manager works. The zero Options are right for most programs. What is
// negative and must not be is an error of [Manager.Start].
type Options struct {
	// Concurrency is how many jobs run at a time, at most. 0 is 2.
	Concurrency int

	// NodeID is the name of this node in the jobs that it runs. If it is given,
	// no two managers that live at a time may have the same: jobs that a manager
	// finds running under its own name when it starts count as interrupted. If
	// it is empty each manager gets a name of its own, and finds such jobs
	// interrupted when their lease ends.
	NodeID string

	// Lease is how long a running job stays its manager's without a sign of
	// life. It is renewed at a third of it. 0 is 30 s, and less than 10 ms is too
	// short.
	Lease time.Duration

	// Poll is the interval at which a manager with a free place looks for jobs
	// that others have submitted; its own it notices at once. 0 is 2 s, less
	// than 0 is never.
	Poll time.Duration

	// Grace is how long Shutdown waits for jobs after it told them to stop. 0 is
	// 5 s.
	Grace time.Duration

	// Logger receives what becomes of jobs. Nil means slog.Default.
	Logger *slog.Logger

	// Now is the clock of what is stored and of what is due, which several goroutines
	// read at the same time. Nil means time.Now. Waiting is done in real time all the
	// same.
	Now func() time.Time
}

// A Manager submits jobs and runs them. Its methods may be called concurrently.
type Manager struct {
	st        store.Store
	o         Options
	executors map[string]executor // not changed after Start
	faults    *multierror.Error   // of the options and of Register

	wake chan struct{} // has an element if there may be something to do

	starting sync.Mutex         // held by Start and Shutdown
	closed   bool               // by Shutdown
	stop     context.CancelFunc // of the dispatcher, nil before Start
	stopped  chan struct{}      // closed when it has ended

	mu       sync.Mutex
	running  map[systables.JobID]*Run
	idle     chan struct{} // closed when running becomes empty; nil if it is
	finished chan struct{} // closed, and replaced, whenever a job ends here

	recoverAt time.Time // the dispatcher's: when it looks for interrupted jobs again
}

// New returns a manager of the jobs in st, whose system tables must be at the
// version of this program: see [systables.Initialize]. It does nothing before Start
// but submit and cancel.
func New(st store.Store, o Options) *Manager {
	wrong := o.faults()
	o.Concurrency = cmp.Or(o.Concurrency, 2)
	if o.NodeID == "" {
		host, _ := os.Hostname() // without it, the rest is as unique
		o.NodeID = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:8])
	}
	o.Lease = cmp.Or(o.Lease, 30*time.Second)
	o.Poll = cmp.Or(o.Poll, 2*time.Second)
	o.Grace = cmp.Or(o.Grace, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Manager{
		st: st, o: o, faults: wrong,
		executors: map[string]executor{},
		wake:      make(chan struct{}, 1),
		running:   map[systables.JobID]*Run{},
		finished:  make(chan struct{}),
	}
}

// minLease is as short as a lease can be that is stored in milliseconds and renewed at a
// third of it.
const minLease = 10 * time.Millisecond

func (o Options) faults() (wrong *multierror.Error) {
	if o.Concurrency < 0 {
		wrong = multierror.Append(wrong, errors.New("concurrency is negative"))
	}
	if o.Lease != 0 && o.Lease < minLease {
		wrong = multierror.Append(wrong, fmt.Errorf("a lease of %v is too short: want %v at least", o.Lease, minLease))
	}
	if o.Grace < 0 {
		wrong = multierror.Append(wrong, errors.New("grace is negative"))
	}
	return wrong
}

// NodeID returns the name of this node in the jobs that the manager runs.
func (m *Manager) NodeID() string { return m.o.NodeID }

// A Policy says what becomes of a job that does not complete. The zero Policy tries
// it five times, an interrupted run included. Nothing in it may be negative.
type Policy struct {
	// Attempts is how many runs of a job are begun at most. 0 is 5. A run that
	// Shutdown interrupts does not count.
	Attempts int

	// Backoff is the pause after the first run that failed. It doubles with each
	// run, up to an hour. 0 is 1 s.
	Backoff time.Duration

	// Timeout ends a run. 0 is never.
	Timeout time.Duration

	// FailInterrupted makes a job fail whose process died in the middle of it,
	// instead of running it again.
	FailInterrupted bool
}

// maxBackoff bounds the pause between two runs of a job.
const maxBackoff = time.Hour

func (p Policy) attempts() int32 { return int32(min(cmp.Or(p.Attempts, 5), math.MaxInt32)) }

// pause is how long a job waits after its run number n.
func (p Policy) pause(n int32) time.Duration {
	d := cmp.Or(p.Backoff, time.Second)
	for ; n > 1 && d < maxBackoff; n-- {
		d *= 2
	}
	return min(d, maxBackoff)
}

// An executor runs the jobs of one type.
type executor struct {
	policy Policy
	check  func(ctx context.Context, params string) error
	run    func(ctx context.Context, run *Run, params string) (any, error)
}

// Register makes run the executor of the jobs of a type. Their parameters are a JSON
// object that decodes into P, a struct, as package encoding/json does it, but without
// unknown or repeated fields and with the exact names. If P or *P has a method
// Validate() error, it must return nil; so must checks, which [Manager.Submit] alone
// calls, with its context, to look at what P cannot know. Submit refuses other parameters
// with all of their faults; Validate and checks are therefore called with those, too,
// whose other fields could be decoded. A stored job whose parameters are at fault fails
// when it is run.
//
// What run returns is stored as JSON in the job's result, unless it is nil; it must be
// within 64 KiB. Several jobs of the type can run at the same time, so that run must be safe
// for concurrent use, and so must checks. run must obey its ctx, whose cause is one of the
// errors of this package or, after [Policy.Timeout], matches [context.DeadlineExceeded], and
// write through [Run.Update]. If it panics, or ends its goroutine, its job has failed as by an
// error, a [*PanicError], and the stack is in the job's trace.
//
// Register must not be called after Start, which reports what is wrong with it, such as a
// type that is registered twice, nor together with another method of m.
func Register[P any](m *Manager, jobType string, policy Policy, run func(ctx context.Context, run *Run, params P) (result any, err error), checks ...func(ctx context.Context, params P) error) {
	_, taken := m.executors[jobType]
	params := reflect.TypeFor[P]()
	sound := true
	for _, fault := range []struct {
		is   bool
		text string
	}{
		{jobType == "", "want a type"},
		{taken, "it is registered twice"},
		{run == nil, "want a function"},
		{params.Kind() != reflect.Struct, fmt.Sprintf("parameters of type %v: want a struct", params)},
		{policy.Attempts < 0, "attempts are negative"},
		{policy.Backoff < 0, "backoff is negative"},
		{policy.Timeout < 0, "timeout is negative"},
	} {
		if fault.is {
			sound = false
			m.faults = multierror.Append(m.faults, fmt.Errorf("executor of type %q: %s", jobType, fault.text))
		}
	}
	if !sound {
		return
	}
	m.executors[jobType] = executor{
		policy: policy,
		check: func(ctx context.Context, text string) error {
			bound := make([]func(P) error, len(checks))
			for i, check := range checks {
				bound[i] = func(params P) error { return check(ctx, params) }
			}
			_, err := decode(text, bound...)
			return err
		},
		run: func(ctx context.Context, r *Run, text string) (any, error) {
			params, err := decode[P](text)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrPermanent, err)
			}
			return run(ctx, r, params)
		},
	}
}

// Start begins to run jobs, those first that this node was running when it ended. It
// returns when it has put those back or, under their policy, made them fail. Jobs of
// types that are not registered stay as they are. ctx is of Start alone; its values are
// those of the runs' contexts.
func (m *Manager) Start(ctx context.Context) error {
	if err := m.start(ctx); err != nil {
		return fmt.Errorf("start job manager: %w", err)
	}
	return nil
}

func (m *Manager) start(ctx context.Context) error {
	if err := faults.Join(m.faults); err != nil {
		return err
	}
	m.starting.Lock()
	defer m.starting.Unlock()
	if m.stop != nil || m.closed {
		return errors.New("it was started, or shut down, before")
	}
	if err := m.recover(ctx, true); err != nil {
		return err
	}
	base := context.WithoutCancel(ctx)
	ctx, m.stop = context.WithCancel(base)
	m.stopped = make(chan struct{})
	go m.dispatch(ctx, base)
	return nil
}

// Shutdown begins no more jobs and waits for those that run. When ctx ends it tells
// them to stop, and those that do so with an error within [Options.Grace] are put back,
// as if that run had not been. Those that do not stop are an error, and are found
// interrupted later; the store should not be closed under them. It may be called
// several times, and before Start.
func (m *Manager) Shutdown(ctx context.Context) error {
	m.starting.Lock() // but not while it waits: another call may have less time
	m.closed = true
	stop, stopped := m.stop, m.stopped
	m.starting.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	<-stopped
	if m.waitIdle(ctx.Done()) {
		return nil
	}
	m.mu.Lock()
	for _, r := range m.running {
		r.cancel(ErrShutdown)
	}
	m.mu.Unlock()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.o.Grace)
	defer cancel()
	if m.waitIdle(grace.Done()) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.running) == 0 {
		return nil
	}
	var stubborn []string
	for id, r := range m.running {
		stubborn = append(stubborn, fmt.Sprintf("%s (%s)", r.Job.Type, id))
	}
	slices.Sort(stubborn)
	return fmt.Errorf("shut down job manager: %w: did not stop within %v, and count as interrupted when their lease ends: %s", context.Cause(ctx), m.o.Grace, strings.Join(stubborn, ", "))
}

// waitIdle waits until no job runs, or end, and reports which it was.
func (m *Manager) waitIdle(end <-chan struct{}) bool {
	m.mu.Lock()
	idle := m.idle
	m.mu.Unlock()
	if idle == nil {
		return true
	}
	select {
	case <-idle:
		return true
	case <-end:
		return false
	}
}

// notify makes the dispatcher look for something to do.
func (m *Manager) notify() {
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (m *Manager) now() systables.Timestamp { return systables.At(m.o.Now()) }
