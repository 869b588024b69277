package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// retryPause is how long the dispatcher waits after an error of the store.
const retryPause = time.Second

// never is longer than any wait.
const never = time.Duration(1<<63 - 1)

// dispatch begins jobs until ctx ends. Their contexts come from base.
func (m *Manager) dispatch(ctx, base context.Context) {
	defer close(m.stopped)
	for ctx.Err() == nil {
		wait, err := m.fill(ctx, base)
		if err != nil && ctx.Err() == nil {
			m.o.Logger.ErrorContext(ctx, "jobs cannot be read or claimed; trying again", "error", err)
			wait = retryPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// fill takes interrupted jobs from the dead, begins as many jobs as there are places
// for, and returns how long there is nothing more to do unless notify says so.
func (m *Manager) fill(ctx, base context.Context) (time.Duration, error) {
	if !m.o.Now().Before(m.recoverAt) {
		if err := m.recover(ctx, false); err != nil {
			return 0, err
		}
	}
	for {
		wait := m.recoverAt.Sub(m.o.Now())
		m.mu.Lock()
		free := m.o.Concurrency - len(m.running)
		m.mu.Unlock()
		if free <= 0 {
			return wait, nil // the end of a job notifies
		}
		due, next, err := m.due(ctx, free)
		if err != nil {
			return 0, err
		}
		for _, id := range due {
			err := m.begin(ctx, base, id)
			if err != nil && !errors.Is(err, errTaken) && !errors.Is(err, systables.ErrNotFound) {
				return 0, err
			}
		}
		if len(due) == 0 {
			if m.o.Poll > 0 {
				wait = min(wait, m.o.Poll)
			}
			return min(wait, next), nil
		}
	}
}

// due returns the next jobs to run, at most n, and how long it is until one that is
// not due yet will be.
func (m *Manager) due(ctx context.Context, n int) (ids []systables.JobID, next time.Duration, err error) {
	next = never
	now := m.o.Now()
	err = m.st.View(ctx, func(s store.Reader) error {
		for job, err := range systables.QueuedJobs(s) {
			if err != nil {
				return err
			}
			if len(ids) == n {
				break
			}
			if *job.NotBefore > systables.At(now) {
				next = job.NotBefore.Time().Sub(now)
				break
			}
			if _, ok := m.executors[job.Type]; ok && job.Status == Pending && !m.busy(job.ID) {
				ids = append(ids, job.ID)
			}
		}
		return nil
	})
	return ids, next, err
}

// errTaken means that a job is not to be run any more, or not yet.
var errTaken = errors.New("job was taken")

// claim makes a pending job this manager's. It does not give up while it is not known
// whether it has: the job would be nobody's until its lease ends, and count as
// interrupted. Once ctx has ended it tries a last time to find out.
func (m *Manager) claim(ctx context.Context, id systables.JobID) (systables.Job, error) {
	token := rand.Text()
	for {
		job, err := m.tryClaim(ctx, id, token)
		if !errors.Is(err, store.ErrUnknown) {
			return job, err
		}
		if ctx.Err() == nil {
			m.o.Logger.ErrorContext(ctx, "it is not known whether a job is claimed; trying again", "job", id, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryPause):
				continue
			}
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.o.Grace)
		defer cancel()
		return m.tryClaim(last, id, token)
	}
}

func (m *Manager) tryClaim(ctx context.Context, id systables.JobID, token string) (systables.Job, error) {
	now := m.o.Now()
	started, lease := systables.At(now), systables.At(now.Add(m.o.Lease))
	return m.change(ctx, id, func(job systables.Job) (systables.Job, error) {
		if job.Status == Running && deref(job.RunToken) == token {
			job.LeaseUntil = &lease
			return job, nil // it was claimed when that was not confirmed
		}
		if job.Status != Pending || job.NotBefore == nil || *job.NotBefore > started {
			return job, errTaken
		}
		job.Status, job.NotBefore = Running, nil
		job.NodeID, job.RunToken, job.LeaseUntil = m.o.NodeID, &token, &lease
		job.StartedAt = &started
		job.Attempts++
		return job, nil
	})
}

// recover takes running jobs from managers that are dead: those whose lease has ended
// and, as long as this manager runs none of its own, those of its node.
func (m *Manager) recover(ctx context.Context, starting bool) error {
	var dead []systables.Job
	abandoned := func(job systables.Job) bool {
		return job.LeaseUntil == nil || *job.LeaseUntil < m.now() || starting && job.NodeID == m.o.NodeID
	}
	err := m.st.View(ctx, func(s store.Reader) error {
		for job, err := range systables.JobsByStatus(s, Running) {
			if err != nil {
				return err
			}
			if _, ok := m.executors[job.Type]; ok && abandoned(job) && !m.busy(job.ID) {
				dead = append(dead, job)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, job := range dead {
		if err := m.bury(ctx, job, abandoned); err != nil {
			return err
		}
	}
	m.recoverAt = m.o.Now().Add(m.o.Lease / 2)
	return nil
}

// busy reports whether an executor of this manager is at work on a job, be it one that
// has lost it and does not stop.
func (m *Manager) busy(id systables.JobID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running[id] != nil
}

// bury ends the run of a dead manager as the job's policy says.
func (m *Manager) bury(ctx context.Context, dead systables.Job, abandoned func(systables.Job) bool) error {
	policy := m.executors[dead.Type].policy
	now := m.now()
	_, err := m.change(ctx, dead.ID, func(job systables.Job) (systables.Job, error) {
		if job.Status != Running || deref(job.RunToken) != deref(dead.RunToken) || !abandoned(job) {
			return job, errTaken
		}
		message := fmt.Sprintf("interrupted in run %d: its process ended, or gave no sign of life", job.Attempts)
		job.ErrorMessage = &message
		if policy.FailInterrupted || job.Attempts >= policy.attempts() {
			return end(job, Failed, now), nil
		}
		return requeue(job, job.CreatedAt), nil
	})
	switch {
	case errors.Is(err, errTaken), errors.Is(err, systables.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	m.o.Logger.WarnContext(ctx, "job was interrupted", "job", dead.ID, "type", dead.Type, "node", dead.NodeID, "attempt", dead.Attempts)
	m.announce()
	return nil
}
