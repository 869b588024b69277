package jobs

import (
	"context"
	"reflect"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/internal/confirm"
)

// change changes the row of a job and returns it, and goes on if the store does not
// confirm that; see [confirm.Update]. change must make the same of the same row each time.
func (m *Manager) change(ctx context.Context, id systables.JobID, change func(systables.Job) (systables.Job, error)) (changed systables.Job, err error) {
	tried := false
	err = confirm.Update(ctx, m.st, func(tx store.Txn) error {
		return systables.Jobs.Update(tx, id, func(job systables.Job) (systables.Job, error) {
			if tried && reflect.DeepEqual(job, changed) {
				return job, nil // an attempt that was not confirmed took effect
			}
			next, err := change(job)
			if err != nil {
				return job, err
			}
			changed, tried = next, true
			return next, nil
		})
	}, ErrFinished, ErrCancelled, errTaken)
	return changed, err
}

// end returns job as it is when nothing more becomes of it.
func end(job systables.Job, status string, now systables.Timestamp) systables.Job {
	job.Status, job.CompletedAt = status, &now
	job.NotBefore, job.RunToken, job.LeaseUntil = nil, nil, nil
	return job
}

// requeue returns job as it is when it waits to be run from a time on.
func requeue(job systables.Job, notBefore systables.Timestamp) systables.Job {
	job.Status, job.NotBefore = Pending, &notBefore
	job.RunToken, job.LeaseUntil = nil, nil
	return job
}
