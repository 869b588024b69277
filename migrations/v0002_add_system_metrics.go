package migrations

import (
	"context"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations/catalogv1"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     2,
		Name:        "add_system_metrics",
		Description: "adding system.metrics table",
		Up:          up0002,
	})
}

func up0002(_ context.Context, tx *migrate.Tx) error {
	return catalogv1.Create(tx, catalogv1.Table{
		Name: "metrics", Comment: "Runtime metrics by node", Version: 1,
		PrimaryKey: []string{"metric_id"},
		Columns: []catalogv1.Column{
			{Name: "metric_id", Type: "Text"},
			{Name: "node_id", Type: "Text"},
			{Name: "name", Type: "Text"},
			{Name: "value", Type: "Double"},
			{Name: "labels", Type: "Json", Nullable: true},
			{Name: "recorded_at", Type: "Timestamp"},
		},
		Indexes: []catalogv1.Index{},
	})
}
