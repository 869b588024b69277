package migrations

import (
	"context"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations/catalogv1"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     3,
		Name:        "add_user_login_lockout",
		Description: "adding login lockout to system.users",
		Up:          up0003,
	})
}

// The catalog changes last, so that it never speaks of a column that some rows
// have yet to get.
var up0003 = migrate.Phases(
	migrate.Rewrite(store.MustPartition("system.users").Prefix(), addLockout0003),
	alterUsers0003,
)

// addLockout0003 gives a user the one new column that is not null, and keeps all
// others, also those that this program does not know.
func addLockout0003(data []byte) ([]byte, error) {
	row, err := value.UnmarshalMap(data)
	if err != nil {
		return nil, fmt.Errorf("row of system.users: %w", err)
	}
	if _, ok := row["failed_login_attempts"]; ok {
		return data, nil
	}
	if err := row.Set("failed_login_attempts", int32(0)); err != nil {
		return nil, err
	}
	return value.Marshal(row)
}

func alterUsers0003(_ context.Context, tx *migrate.Tx) error {
	return catalogv1.Alter(tx, "users", func(t *catalogv1.Table) {
		t.Columns = append(t.Columns,
			catalogv1.Column{Name: "failed_login_attempts", Type: "Int"},
			catalogv1.Column{Name: "locked_until", Type: "Timestamp", Nullable: true},
			catalogv1.Column{Name: "last_login_at", Type: "Timestamp", Nullable: true},
		)
	})
}
