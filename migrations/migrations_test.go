package migrations_test

import (
	"bytes"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

var suite = migratetest.Suite{
	Schema:   migrations.Schema,
	Golden:   "../testdata/golden",
	Stores:   "../testdata/stores",
	Volatile: withoutTimes,
}

func TestMigrations(t *testing.T) { migratetest.Run(t, suite) }

// withoutTimes returns a row of system.tables without when migrations made and
// changed the table.
func withoutTimes(e store.Entry) store.Entry {
	if !bytes.HasPrefix(e.Key, []byte("system.tables/")) {
		return e
	}
	row, err := value.UnmarshalMap(e.Value)
	if err != nil {
		return e
	}
	delete(row, "created_at")
	delete(row, "updated_at")
	if e.Value, err = value.Marshal(row); err != nil {
		return store.Entry{}
	}
	return e
}
