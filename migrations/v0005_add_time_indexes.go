package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations/catalogv1"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     5,
		Name:        "add_time_indexes",
		Description: "indexing system.audit_logs and system.metrics by time",
		Up:          up0005,
	})
}

// The catalog changes last, so that it never speaks of an index that is not
// complete.
var up0005 = migrate.Phases(
	migrate.Index(store.MustPartition("system.audit_logs"), store.MustPartition("system.audit_logs.timestamp"), auditEntry0005),
	migrate.Index(store.MustPartition("system.metrics"), store.MustPartition("system.metrics.recorded_at"), metricEntry0005),
	alterTables0005,
)

// auditEntry0005 returns the entry of a row of system.audit_logs in its index.
func auditEntry0005(id, row []byte) (key, ref []byte, err error) {
	var log struct {
		Timestamp int64 `cbor:"timestamp"`
	}
	if err := value.Unmarshal(row, &log); err != nil {
		return nil, nil, fmt.Errorf("row of system.audit_logs: %w", err)
	}
	return entry0005(log.Timestamp, id)
}

// metricEntry0005 returns the entry of a row of system.metrics in its index.
func metricEntry0005(id, row []byte) (key, ref []byte, err error) {
	var metric struct {
		RecordedAt int64 `cbor:"recorded_at"`
	}
	if err := value.Unmarshal(row, &metric); err != nil {
		return nil, nil, fmt.Errorf("row of system.metrics: %w", err)
	}
	return entry0005(metric.RecordedAt, id)
}

// entry0005 returns an entry that ends with the primary key, which makes it the
// row's own.
func entry0005(at int64, id []byte) (key, ref []byte, err error) {
	key = tuple.AppendString(tuple.AppendInt(nil, at), string(id))
	ref, err = value.Marshal(string(id))
	return key, ref, err
}

func alterTables0005(_ context.Context, tx *migrate.Tx) error {
	index := func(columns ...string) func(*catalogv1.Table) {
		return func(t *catalogv1.Table) {
			t.Indexes = append(t.Indexes, catalogv1.Index{Name: columns[0], Columns: columns})
		}
	}
	return errors.Join(
		catalogv1.Alter(tx, "audit_logs", index("timestamp", "audit_id")),
		catalogv1.Alter(tx, "metrics", index("recorded_at", "metric_id")),
	)
}
