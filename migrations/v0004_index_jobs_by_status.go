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
		Version:     4,
		Name:        "index_jobs_by_status",
		Description: "indexing system.jobs by status",
		Up:          up0004,
	})
}

// The catalog changes last, so that it never speaks of an index that is not
// complete.
var up0004 = migrate.Phases(
	migrate.Index(store.MustPartition("system.jobs"), store.MustPartition("system.jobs.status"), statusEntry0004),
	alterJobs0004,
)

// job0004 is what the index needs of a job.
type job0004 struct {
	Status    string `cbor:"status"`
	CreatedAt int64  `cbor:"created_at"`
}

// statusEntry0004 returns a job's entry in the index. It ends with the primary
// key, which makes it the job's own.
func statusEntry0004(id, row []byte) (key, ref []byte, err error) {
	var job job0004
	if err := value.Unmarshal(row, &job); err != nil {
		return nil, nil, fmt.Errorf("row of system.jobs: %w", err)
	}
	key = tuple.AppendString(tuple.AppendInt(tuple.AppendString(nil, job.Status), job.CreatedAt), string(id))
	ref, err = value.Marshal(string(id))
	return key, ref, err
}

func alterJobs0004(_ context.Context, tx *migrate.Tx) error {
	return catalogv1.Alter(tx, "jobs", func(t *catalogv1.Table) {
		t.Indexes = append(t.Indexes, catalogv1.Index{
			Name: "status", Columns: []string{"status", "created_at", "job_id"},
		})
	})
}
