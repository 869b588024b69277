// Package maintenance has the executors of the jobs that keep a store small and tidy:
// flush, retention and cleanup.
//
// Their parameters are [Flush], [Retention] and [Cleanup], in JSON. Durations are text
// that [time.ParseDuration] reads, which has no days, and times are RFC 3339. Each job's
// result is a JSON object that says what its last run did. All of them can be run again
// after an interruption. Nothing here runs by itself: a program submits these jobs when
// it wants them.
package maintenance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// The types of the jobs.
const (
	TypeFlush     = "flush"
	TypeRetention = "retention"
	TypeCleanup   = "cleanup"
)

// Options say what the jobs may do.
type Options struct {
	// ExportDir is the directory for the files of [Flush], which must exist when
	// such a job is submitted and when it runs. A relative one is taken from the
	// directory that the process is in at Register. It is empty if there are to be
	// no files.
	ExportDir string
}

// Register makes m run the jobs of this package.
func Register(m *jobs.Manager, o Options) {
	f := newFlusher(o.ExportDir)
	jobs.Register(m, TypeFlush, jobs.Policy{}, f.flush, f.check)
	jobs.Register(m, TypeRetention, jobs.Policy{}, retain)
	jobs.Register(m, TypeCleanup, jobs.Policy{}, cleanup)
}

// A Duration is a [time.Duration] that is text in JSON, for example "720h". It must be
// positive, or zero to be left out.
type Duration time.Duration

// invalid is what a Duration is that could not be decoded: it was not left out.
const invalid Duration = -1

// MarshalJSON implements [json.Marshaler].
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (d *Duration) UnmarshalJSON(data []byte) error {
	*d = invalid
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf(`want text such as "720h", not %s`, data)
	}
	parsed, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf(`want a duration such as "720h" or "1h30m", not %q`, text)
	case parsed <= 0:
		return fmt.Errorf("%v is not positive", parsed)
	}
	*d = Duration(parsed)
	return nil
}

// Retention are the parameters of a job that deletes what is older than they say. What
// has no age given stays; at least one must be. With a job goes its idempotency key,
// which can then be used for another.
type Retention struct {
	AuditLogs Duration `json:"audit_logs,omitempty"`
	Metrics   Duration `json:"metrics,omitempty"`
	Jobs      Duration `json:"jobs,omitempty"` // since they were completed, failed or cancelled
}

// Validate returns an error if r says nothing.
func (r *Retention) Validate() error {
	if *r == (Retention{}) {
		return errors.New("want an age for audit_logs, metrics or jobs")
	}
	return nil
}

// Deleted is the result of a retention or cleanup job: how many rows of each table its
// last run deleted.
type Deleted map[string]int64

func retain(ctx context.Context, run *jobs.Run, p Retention) (any, error) {
	now := run.Now()
	deleted := Deleted{}
	var wrong *multierror.Error
	if p.AuditLogs > 0 {
		before := systables.At(now.Add(-time.Duration(p.AuditLogs)))
		wrong = multierror.Append(wrong, purge[systables.AuditID, systables.AuditLog]{
			rows: func(s store.Reader) iter.Seq2[systables.AuditLog, error] {
				return systables.AuditLogs.ByTime(s, systables.TimeRange{Until: before.Time()})
			},
			key:    func(r systables.AuditLog) systables.AuditID { return r.ID },
			old:    func(r systables.AuditLog) bool { return r.Timestamp < before },
			get:    systables.AuditLogs.Get,
			delete: systables.AuditLogs.Delete,
		}.run(ctx, run, deleted, "audit_logs"))
	}
	if p.Metrics > 0 {
		before := systables.At(now.Add(-time.Duration(p.Metrics)))
		wrong = multierror.Append(wrong, purge[systables.MetricID, systables.Metric]{
			rows: func(s store.Reader) iter.Seq2[systables.Metric, error] {
				return systables.Metrics.ByTime(s, systables.TimeRange{Until: before.Time()})
			},
			key:    func(r systables.Metric) systables.MetricID { return r.ID },
			old:    func(r systables.Metric) bool { return r.RecordedAt < before },
			get:    systables.Metrics.Get,
			delete: systables.Metrics.Delete,
		}.run(ctx, run, deleted, "metrics"))
	}
	if p.Jobs > 0 {
		before := systables.At(now.Add(-time.Duration(p.Jobs)))
		wrong = multierror.Append(wrong, purge[systables.JobID, systables.Job]{
			rows: func(s store.Reader) iter.Seq2[systables.Job, error] { return finishedJobs(s, before) },
			key:  func(r systables.Job) systables.JobID { return r.ID },
			old: func(r systables.Job) bool {
				return r.Status != jobs.Pending && r.Status != jobs.Running && r.CompletedAt != nil && *r.CompletedAt < before
			},
			get:    systables.Jobs.Get,
			delete: systables.Jobs.Delete,
		}.run(ctx, run, deleted, "jobs"))
	}
	return deleted, faults.Join(wrong)
}

// finishedJobs yields the jobs that have ended and were created before a time.
func finishedJobs(s store.Reader, before systables.Timestamp) iter.Seq2[systables.Job, error] {
	return func(yield func(systables.Job, error) bool) {
		for _, status := range []string{jobs.Completed, jobs.Failed, jobs.Cancelled} {
			for job, err := range systables.JobsByStatus(s, status) {
				if err == nil && job.CreatedAt >= before {
					break // so are those that follow
				}
				if !yield(job, err) || err != nil {
					return
				}
			}
		}
	}
}

// Cleanup are the parameters of a job that deletes what nobody uses any more. What has
// no age given stays; at least one must be.
type Cleanup struct {
	DeletedUsers Duration `json:"deleted_users,omitempty"` // since they were deleted softly
	LiveQueries  Duration `json:"live_queries,omitempty"`  // of the job's node, since their last update
}

// Validate returns an error if c says nothing.
func (c *Cleanup) Validate() error {
	if *c == (Cleanup{}) {
		return errors.New("want an age for deleted_users or live_queries")
	}
	return nil
}

func cleanup(ctx context.Context, run *jobs.Run, p Cleanup) (any, error) {
	now := run.Now()
	deleted := Deleted{}
	var wrong *multierror.Error
	if p.DeletedUsers > 0 {
		before := systables.At(now.Add(-time.Duration(p.DeletedUsers)))
		wrong = multierror.Append(wrong, purge[systables.UserID, systables.User]{
			rows:   func(s store.Reader) iter.Seq2[systables.User, error] { return systables.Users.All(s, "") },
			key:    func(r systables.User) systables.UserID { return r.ID },
			old:    func(r systables.User) bool { return r.DeletedAt != nil && *r.DeletedAt < before },
			get:    systables.Users.Get,
			delete: systables.Users.Delete,
		}.run(ctx, run, deleted, "users"))
	}
	if p.LiveQueries > 0 {
		before := systables.At(now.Add(-time.Duration(p.LiveQueries)))
		wrong = multierror.Append(wrong, purge[systables.LiveID, systables.LiveQuery]{
			rows:   func(s store.Reader) iter.Seq2[systables.LiveQuery, error] { return systables.LiveQueries.All(s, "") },
			key:    func(r systables.LiveQuery) systables.LiveID { return r.ID },
			old:    func(r systables.LiveQuery) bool { return r.Node == run.Job.NodeID && r.LastUpdate < before },
			get:    systables.LiveQueries.Get,
			delete: systables.LiveQueries.Delete,
		}.run(ctx, run, deleted, "live_queries"))
	}
	return deleted, faults.Join(wrong)
}

// batchRows is how many rows are deleted in one transaction, at most: a row and its
// index entries, each of which takes one write.
const batchRows, writesPerRow = 250, 4

// A purge deletes the old rows of one table.
type purge[K ~string, R any] struct {
	rows   func(store.Reader) iter.Seq2[R, error]
	key    func(R) K
	old    func(R) bool
	get    func(store.Reader, K) (R, error)
	delete func(store.Txn, K) error
}

// run deletes the rows in batches and counts them under name. What was deleted before an
// error stays deleted.
func (p purge[K, R]) run(ctx context.Context, run *jobs.Run, deleted Deleted, name string) error {
	size := max(1, min(batchRows, run.Store.Limits().TxnEntries/writesPerRow))
	var batch []K
	deleted[name] = 0
	drop := func() error {
		n, err := p.drop(ctx, run, batch)
		deleted[name] += n
		batch = batch[:0]
		return err
	}
	// Batches commit while the scan goes on over one snapshot, so that it passes each
	// row once.
	err := run.Store.View(ctx, func(s store.Reader) error {
		for row, err := range p.rows(s) {
			if err != nil {
				return err
			}
			if !p.old(row) {
				continue
			}
			if batch = append(batch, p.key(row)); len(batch) == size {
				if err := drop(); err != nil {
					return err
				}
			}
		}
		return drop()
	})
	if err != nil {
		return fmt.Errorf("delete old rows of system.%s, after %d: %w", name, deleted[name], err)
	}
	return nil
}

// drop deletes those of keys whose rows are old still, and returns how many.
func (p purge[K, R]) drop(ctx context.Context, run *jobs.Run, keys []K) (n int64, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	err = run.Update(ctx, func(tx store.Txn) error {
		n = 0
		for _, key := range keys {
			row, err := p.get(tx, key)
			switch {
			case errors.Is(err, systables.ErrNotFound):
				continue
			case err != nil:
				return err
			case !p.old(row):
				continue
			}
			if err := p.delete(tx, key); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
