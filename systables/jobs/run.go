package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// What a row holds of a run's outcome at most, in bytes.
const (
	maxResult  = 64 << 10
	maxMessage = 16 << 10
)

// settleTimeout bounds the transaction that stores a run's outcome.
const settleTimeout = 30 * time.Second

// A Run is one run of a job, as its executor sees it. Its methods may be called
// concurrently.
type Run struct {
	// Job is the job's row as it was when the run began: its Attempts is the
	// number of the run, its NodeID this node.
	Job systables.Job

	// Store is the store of the jobs, for reading. What is written through it
	// instead of Update can come after another run of the job has begun.
	Store store.Store

	// Logger adds the job to what it logs.
	Logger *slog.Logger

	manager *Manager
	token   string
	cancel  context.CancelCauseFunc
}

// Now returns the time by the clock of the manager.
func (r *Run) Now() time.Time { return r.manager.o.Now() }

// Update is [store.Update], but fn's transaction commits only while the job is this
// run's: once it was cancelled, or another run took it over, the error matches
// [ErrCancelled] or [ErrLost].
//
// The error matches [store.ErrUnknown] if the store did not confirm the commit. It is
// decided by then: the transaction is committed, or never will be. So an fn that looks
// first whether it has done its work can be tried again, and a job that is tried again
// finds what this run did. If that cannot be promised, because the store confirms
// nothing, the error matches ErrLost as well, and the run's context ends.
func (r *Run) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := store.Update(ctx, r.Store, func(tx store.Txn) error {
		job, err := systables.Jobs.Get(tx, r.Job.ID)
		switch {
		case errors.Is(err, systables.ErrNotFound):
			return ErrLost
		case err != nil:
			return err
		}
		if err := r.owns(job); err != nil {
			return err
		}
		return fn(tx)
	})
	if !errors.Is(err, store.ErrUnknown) {
		return err
	}
	// What is in flight has read the job's row. It conflicts once that is written.
	lease := r.manager.o.Lease
	fencing, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease)
	defer cancel()
	switch fence := r.extend(fencing, lease); {
	case fence == nil:
		return err
	case errors.Is(fence, ErrCancelled), errors.Is(fence, ErrLost):
		return fmt.Errorf("%w: %w", fence, err) // somebody else has written it
	default:
		r.cancel(ErrLost)
		return fmt.Errorf("%w: %w: %w", ErrLost, err, fence)
	}
}

// owns says why job, as it is stored now, is not this run's.
func (r *Run) owns(job systables.Job) error {
	switch {
	case job.Status == Cancelled:
		return ErrCancelled
	case job.Status != Running || deref(job.RunToken) != r.token:
		return ErrLost
	}
	return nil
}

// change changes the job's row if it is still this run's; see [Manager.change].
func (r *Run) change(ctx context.Context, change func(systables.Job) systables.Job) error {
	_, err := r.manager.change(ctx, r.Job.ID, func(job systables.Job) (systables.Job, error) {
		if err := r.owns(job); err != nil {
			return job, err
		}
		return change(job), nil
	})
	if errors.Is(err, systables.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// extend makes the lease end a while from now.
func (r *Run) extend(ctx context.Context, lease time.Duration) error {
	end := systables.At(r.Now().Add(lease))
	return r.change(ctx, func(job systables.Job) systables.Job {
		job.LeaseUntil = &end
		return job
	})
}

// A PanicError is a panic of an executor, or of what validates its parameters. That it
// ended its goroutine with [runtime.Goexit] counts as one.
type PanicError struct {
	Value any    // what it panicked with, nil if it ended its goroutine
	Stack []byte // of its goroutine
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "the function ended its goroutine (runtime.Goexit)"
	}
	return fmt.Sprintf("panic: %v", e.Value)
}

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// guard calls fn, in a goroutine of its own that fn may end, and returns its error or a
// *PanicError. The methods of the error do not panic.
func guard(fn func() error) error {
	result := make(chan error)
	go func() {
		returned := false
		var err error
		defer func() {
			if !returned {
				err = &PanicError{Value: recover(), Stack: debug.Stack()}
			}
			result <- err
		}()
		if err = fn(); err != nil {
			_, _ = err.Error(), errors.Is(err, ErrPermanent) // it may be a nil pointer
		}
		returned = true
	}()
	return <-result
}

// begin claims a job and runs it, in a goroutine of its own. The run's context comes from
// base.
func (m *Manager) begin(ctx, base context.Context, id systables.JobID) error {
	within, cancel := context.WithCancelCause(base)
	r := &Run{Store: m.st, manager: m, cancel: cancel}
	m.enter(id, r) // or a Cancel that comes right after the claim would not find it
	job, err := m.claim(ctx, id)
	if err != nil {
		m.leave(id, r)
		return err
	}
	r.Job, r.token = job, deref(job.RunToken)
	r.Logger = m.o.Logger.With("job", job.ID, "type", job.Type, "attempt", job.Attempts)
	go func() {
		defer func() {
			m.leave(id, r)
			m.announce()
			m.notify()
		}()
		r.run(within, m.executors[job.Type])
	}()
	return nil
}

// enter notes that r is the run of a job.
func (m *Manager) enter(id systables.JobID, r *Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.running) == 0 {
		m.idle = make(chan struct{})
	}
	m.running[id] = r
}

// leave notes that r is over.
func (m *Manager) leave(id systables.JobID, r *Run) {
	r.cancel(nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, id)
	if len(m.running) == 0 {
		close(m.idle)
		m.idle = nil
	}
}

// run calls the executor and stores what comes of it.
func (r *Run) run(ctx context.Context, ex executor) {
	r.Logger.DebugContext(ctx, "job begins")
	var beating sync.WaitGroup
	beat, stop := context.WithCancel(ctx)
	beating.Go(func() { r.renew(beat) })
	result, err := r.call(ctx, ex)
	cause := context.Cause(ctx) // what ends it from now on did not end the run
	stop()
	beating.Wait()

	// A cancelled run has an outcome to store as well.
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	r.settle(settling, ex.policy, result, err, cause)
}

// call runs the executor and returns its result as JSON.
func (r *Run) call(ctx context.Context, ex executor) (result string, err error) {
	if ex.policy.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, ex.policy.Timeout, fmt.Errorf("%w: the job took longer than %v", context.DeadlineExceeded, ex.policy.Timeout))
		defer cancel()
	}
	err = guard(func() (err error) {
		result, err = r.execute(ctx, ex)
		return err
	})
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return result, err
}

func (r *Run) execute(ctx context.Context, ex executor) (result string, err error) {
	v, err := ex.run(ctx, r, cmp.Or(deref(r.Job.Parameters), "{}"))
	if v == nil || err != nil {
		return "", err
	}
	data, err := json.Marshal(v)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: encode result: %w", ErrPermanent, err)
	case len(data) > maxResult:
		return "", fmt.Errorf("%w: the result has %d bytes and may have %d", ErrPermanent, len(data), maxResult)
	}
	return strings.ToValidUTF8(string(data), "\uFFFD"), nil
}

// renew keeps the lease until ctx ends, and cancels the run if it is lost.
func (r *Run) renew(ctx context.Context) {
	lease := r.manager.o.Lease
	ticker := time.NewTicker(lease / 3)
	defer ticker.Stop()
	until := time.Now().Add(lease)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// In real time, as the ticker: a clock that stands still ends no lease.
		renewed := time.Now().Add(lease)
		attempt, cancel := context.WithDeadline(ctx, until)
		err := r.extend(attempt, lease)
		cancel()
		switch {
		case err == nil:
			until = renewed
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrCancelled), errors.Is(err, ErrLost):
			r.Logger.WarnContext(ctx, "job is stopped", "error", err)
			r.cancel(err)
			return
		case !time.Now().Before(until):
			r.Logger.ErrorContext(ctx, "job is stopped: its lease could not be renewed", "error", err)
			r.cancel(ErrLost)
			return
		default:
			r.Logger.WarnContext(ctx, "lease of job could not be renewed; trying again", "error", err)
		}
	}
}

// settle stores the outcome of a run. err is the executor's, cause why its context
// ended, if it did.
func (r *Run) settle(ctx context.Context, policy Policy, result string, err, cause error) {
	status := ""
	now := systables.At(r.Now())
	later := systables.At(r.Now().Add(policy.pause(r.Job.Attempts)))
	stored := r.change(ctx, func(job systables.Job) systables.Job {
		if err == nil {
			job = end(job, Completed, now)
			job.Result, job.ErrorMessage, job.Trace = optional(result), nil, nil
			status = Completed
			return job
		}
		if errors.Is(cause, ErrShutdown) {
			job = requeue(job, job.CreatedAt)
			job.Attempts--
			status = Pending
			return job
		}
		job.ErrorMessage, job.Trace = optional(clip(err.Error())), nil
		if p, ok := errors.AsType[*PanicError](err); ok {
			job.Trace = optional(clip(string(p.Stack)))
		}
		if job.Attempts >= policy.attempts() || errors.Is(err, ErrPermanent) {
			status = Failed
			return end(job, Failed, now)
		}
		status = Pending
		return requeue(job, later)
	})
	switch {
	case errors.Is(stored, ErrCancelled):
		r.Logger.InfoContext(ctx, "job was cancelled")
	case errors.Is(stored, store.ErrUnknown):
		r.Logger.ErrorContext(ctx, "it is not known whether the outcome of a job is stored; if not, it counts as interrupted", "error", stored)
	case stored != nil:
		r.Logger.ErrorContext(ctx, "the outcome of a job could not be stored; it counts as interrupted", "error", stored)
	case status == Completed:
		r.Logger.InfoContext(ctx, "job completed")
	case errors.Is(cause, ErrShutdown):
		r.Logger.InfoContext(ctx, "job was put back")
	default:
		r.Logger.WarnContext(ctx, "job failed", "status", status, "error", err)
	}
}

// clip returns text, or as much of it as a row may hold, as the UTF-8 that a row must
// hold.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…" // without half a rune
}
