package migrations_test

import (
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/migrations"
)

var suite = migratetest.Suite{
	Schema: migrations.Schema,
	Golden: "../testdata/golden",
	Stores: "../testdata/stores",
}

func TestMigrations(t *testing.T) { migratetest.Run(t, suite) }
