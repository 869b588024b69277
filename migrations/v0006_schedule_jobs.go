package migrations

import (
	"context"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations/catalogv1"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     6,
		Name:        "schedule_jobs",
		Description: "adding a queue, retries and idempotency keys to system.jobs",
		Up:          up0006,
	})
}

// The catalog changes last, so that it never speaks of a column that some rows
// have yet to get, nor of an index that is not complete.
var up0006 = migrate.Phases(
	migrate.Rewrite(jobs0006.Prefix(), scheduleJob0006),
	migrate.Index(jobs0006, store.MustPartition("system.jobs.queue"), queueEntry0006),
	migrate.Index(jobs0006, store.MustPartition("system.jobs.idempotency_key"), keyEntry0006),
	alterJobs0006,
)

var jobs0006 = store.MustPartition("system.jobs")

// job0006 is what the new columns and indexes need of a job.
type job0006 struct {
	Status         string  `cbor:"status"`
	CreatedAt      int64   `cbor:"created_at"`
	NotBefore      *int64  `cbor:"not_before"`
	IdempotencyKey *string `cbor:"idempotency_key"`
}

func decodeJob0006(data []byte) (job job0006, err error) {
	if err := value.Unmarshal(data, &job); err != nil {
		return job, fmt.Errorf("row of system.jobs: %w", err)
	}
	return job, nil
}

// scheduleJob0006 gives a job the one new column that is not null, and one that
// waits its place in the queue, which is when it was created. All other columns
// stay, also those that this program does not know.
func scheduleJob0006(data []byte) ([]byte, error) {
	job, err := decodeJob0006(data)
	if err != nil {
		return nil, err
	}
	row, err := value.UnmarshalMap(data)
	if err != nil {
		return nil, fmt.Errorf("row of system.jobs: %w", err)
	}
	if _, ok := row["attempts"]; !ok {
		if err := row.Set("attempts", int32(0)); err != nil {
			return nil, err
		}
	}
	if job.Status == "pending" && job.NotBefore == nil {
		if err := row.Set("not_before", job.CreatedAt); err != nil {
			return nil, err
		}
	}
	return value.Marshal(row)
}

// queueEntry0006 returns the entry of a job that waits.
func queueEntry0006(id, row []byte) (key, ref []byte, err error) {
	job, err := decodeJob0006(row)
	if err != nil || job.NotBefore == nil {
		return nil, nil, err
	}
	ref, err = value.Marshal(string(id))
	return tuple.AppendString(tuple.AppendInt(nil, *job.NotBefore), string(id)), ref, err
}

// keyEntry0006 returns the entry of a job that has an idempotency key.
func keyEntry0006(id, row []byte) (key, ref []byte, err error) {
	job, err := decodeJob0006(row)
	if err != nil || job.IdempotencyKey == nil {
		return nil, nil, err
	}
	ref, err = value.Marshal(string(id))
	return tuple.AppendString(nil, *job.IdempotencyKey), ref, err
}

func alterJobs0006(_ context.Context, tx *migrate.Tx) error {
	return catalogv1.Alter(tx, "jobs", func(t *catalogv1.Table) {
		t.Columns = append(t.Columns,
			catalogv1.Column{Name: "attempts", Type: "Int", Comment: "runs begun"},
			catalogv1.Column{Name: "not_before", Type: "Timestamp", Nullable: true, Comment: "when a pending job may run"},
			catalogv1.Column{Name: "idempotency_key", Type: "Text", Nullable: true, Comment: "unique"},
			catalogv1.Column{Name: "run_token", Type: "Text", Nullable: true, Comment: "of the run that may change a running job"},
			catalogv1.Column{Name: "lease_until", Type: "Timestamp", Nullable: true, Comment: "when that run counts as dead"},
		)
		t.Indexes = append(t.Indexes,
			catalogv1.Index{Name: "queue", Columns: []string{"not_before", "job_id"}},
			catalogv1.Index{Name: "idempotency_key", Columns: []string{"idempotency_key"}, Unique: true},
		)
	})
}
