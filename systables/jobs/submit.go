package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/internal/confirm"
)

// A Request is a job to submit.
type Request struct {
	Type      string
	Namespace string // of what the job works on, for people
	Table     string // the same; "" if it is not of one table

	// Parameters are encoded as a JSON object for the executor. Nil is an empty
	// one.
	Parameters any

	// IdempotencyKey, if not empty, is what no two jobs of the store have in
	// common.
	IdempotencyKey string

	// NotBefore is the earliest time to run the job. The zero time is now.
	NotBefore time.Time
}

// Submit stores a job, to be run by this manager or another, and returns it. If there
// is a job with the same idempotency key already, whatever became of it, it returns
// that, and nothing is stored; the error matches [ErrKeyTaken] if that one has another
// type or other parameters. Parameters are compared as JSON values: the order of fields,
// white space, and how a number is written, as 1 or 1.0, make no difference. Numbers are
// compared exactly. A field that is left out is not one that is zero.
//
// The error matches [ErrUnknownType] if this manager has no executor for the type, and
// lists all faults of the parameters if they are refused; see [Register].
//
// If the store does not confirm a commit (see [store.ErrUnknown]) Submit looks for the job
// under its ID and goes on. If the store confirms none of several in a row the error
// matches ErrUnknown, and the job that is returned has the ID under which it may be
// stored, or will be. With an idempotency key it can be submitted again.
func (m *Manager) Submit(ctx context.Context, req Request) (systables.Job, error) {
	job, err := m.submit(ctx, req)
	switch {
	case errors.Is(err, store.ErrUnknown):
		m.notify()
		return job, fmt.Errorf("submit job of type %q: whether it is stored, with the ID %s, is not known: %w", req.Type, job.ID, err)
	case err != nil:
		return systables.Job{}, fmt.Errorf("submit job of type %q: %w", req.Type, err)
	}
	m.notify()
	return job, nil
}

func (m *Manager) submit(ctx context.Context, req Request) (systables.Job, error) {
	ex, ok := m.executors[req.Type]
	if !ok {
		have := strings.Join(slices.Sorted(maps.Keys(m.executors)), ", ")
		return systables.Job{}, fmt.Errorf("%w: those that are: %s", ErrUnknownType, cmp.Or(have, "none"))
	}
	params := []byte("{}")
	if req.Parameters != nil {
		err := guard(func() (err error) {
			params, err = json.Marshal(req.Parameters)
			return err
		})
		if err != nil {
			return systables.Job{}, fmt.Errorf("encode parameters: %w", err)
		}
	}
	if err := ex.check(ctx, string(params)); err != nil {
		return systables.Job{}, err
	}
	// The keys of one process are in the order in which it made them.
	id, err := uuid.NewV7()
	if err != nil {
		return systables.Job{}, err
	}
	created := m.now()
	due := max(created, systables.At(req.NotBefore))
	job := systables.Job{
		ID: systables.JobID(id.String()), Type: req.Type, Status: Pending,
		NamespaceID: req.Namespace, TableName: optional(req.Table),
		Parameters: optional(string(params)), IdempotencyKey: optional(req.IdempotencyKey),
		CreatedAt: created, NotBefore: &due, NodeID: m.o.NodeID,
	}
	stored := job
	err = confirm.Update(ctx, m.st, func(tx store.Txn) (err error) {
		stored, err = place(tx, job)
		return err
	}, ErrKeyTaken)
	return stored, err
}

// place inserts job, or returns the one that is there already.
func place(tx store.Txn, job systables.Job) (systables.Job, error) {
	first, err := systables.Jobs.Get(tx, job.ID) // by an attempt that was not confirmed
	if errors.Is(err, systables.ErrNotFound) && job.IdempotencyKey != nil {
		first, err = systables.JobByIdempotencyKey(tx, *job.IdempotencyKey)
	}
	switch {
	case errors.Is(err, systables.ErrNotFound):
		return job, systables.Jobs.Insert(tx, job)
	case err != nil:
		return job, err
	case first.Type != job.Type || !sameJSON(deref(first.Parameters), deref(job.Parameters)):
		return job, ErrKeyTaken
	}
	return first, nil
}

// Cancel makes a job that is not finished cancelled. One that runs in this process is
// told to stop at once, one elsewhere when its lease is renewed or when it next writes;
// Cancel waits for neither. Whatever it does then, it does not run again. Cancelling it
// twice is no error. The error matches [ErrFinished] if the job is completed or failed,
// [systables.ErrNotFound] if there is none, and [store.ErrUnknown] if the store confirms
// nothing: then it can be tried again.
func (m *Manager) Cancel(ctx context.Context, id systables.JobID) error {
	now := m.now()
	_, err := m.change(ctx, id, func(job systables.Job) (systables.Job, error) {
		switch job.Status {
		case Cancelled:
			return job, nil
		case Pending, Running:
			return end(job, Cancelled, now), nil
		}
		return job, ErrFinished
	})
	if err != nil {
		return fmt.Errorf("cancel job: %w", err)
	}
	m.mu.Lock()
	r := m.running[id]
	m.mu.Unlock()
	if r != nil {
		r.cancel(ErrCancelled)
	}
	m.announce()
	return nil
}

// Wait returns the job once it is completed, failed or cancelled. It notices the end of
// a job that runs in this manager at once, and looks for that of others at the interval
// [Options.Poll], or every second if that is never. That a job has failed is no error of
// Wait: look at its Status. The error matches [systables.ErrNotFound] if there is no such
// job, or no longer.
func (m *Manager) Wait(ctx context.Context, id systables.JobID) (systables.Job, error) {
	interval := m.o.Poll
	if interval < 0 {
		interval = time.Second
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		m.mu.Lock()
		finished := m.finished
		m.mu.Unlock()
		var job systables.Job
		err := m.st.View(ctx, func(s store.Reader) (err error) {
			job, err = systables.Jobs.Get(s, id)
			return err
		})
		if err != nil {
			return job, fmt.Errorf("wait for job: %w", err)
		}
		if job.Status != Pending && job.Status != Running {
			return job, nil
		}
		select {
		case <-finished:
		case <-ticker.C:
		case <-ctx.Done():
			return job, fmt.Errorf("wait for job: %w", context.Cause(ctx))
		}
	}
}

// announce wakes those that wait for the end of a job.
func (m *Manager) announce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.finished)
	m.finished = make(chan struct{})
}

// optional returns a column's value, which is null if s is empty.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
