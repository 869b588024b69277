package tool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/sqlite"
	"github.com/golang-migrate/migrate/v4/source/iofs"
)

// golangMigrateWith returns golang-migrate over a driver. The module has a package for
// each of the two drivers, which differ in nothing but the driver's name.
func golangMigrateWith(d driver) Tool {
	return Tool{
		Name: "golang-migrate-" + d.suffix, Engine: "sqlite", Module: "github.com/golang-migrate/migrate/v4",
		About:   "golang-migrate with migrations in SQL, the only ones it has, over " + d.about + "; one `UPDATE` with `json_set` for many rows",
		Open:    d.opens(func(db sqliteDB) Database { return golangMigrate{db} }),
		Variant: d.second,
		Source:  "tool/golangmigrate.go",
	}
}

type golangMigrate struct{ sqliteDB }

// Start does not close what it opens, because that closes the program's database.
func (g golangMigrate) Start(s Schema) func(context.Context) error {
	files := fstest.MapFS{}
	for i, script := range scripts(s) {
		files[fmt.Sprintf("%06d_step.up.sql", i+1)] = &fstest.MapFile{Data: []byte(script)}
	}
	return func(context.Context) error {
		m, err := g.runner(files)
		if err != nil {
			return err
		}
		if err := m.Up(); !errors.Is(err, migrate.ErrNoChange) {
			return err
		}
		return nil
	}
}

func (g golangMigrate) runner(files fstest.MapFS) (*migrate.Migrate, error) {
	source, err := iofs.New(files, ".")
	if err != nil {
		return nil, err
	}
	db, err := sqlite.WithInstance(g.db, &sqlite.Config{})
	if err != nil {
		return nil, err
	}
	return migrate.NewWithInstance("iofs", source, "sqlite", db)
}

// Repair is what the documentation has people do with a dirty database: find out what
// of the migration is there, and force the version that fits. The driver runs each
// file in a transaction, so nothing of it is.
func (g golangMigrate) Repair(ctx context.Context, _ Schema) (string, error) {
	version, dirty, err := g.version(ctx)
	if err != nil || !dirty {
		return "", err
	}
	m, err := g.runner(fstest.MapFS{"000001_step.up.sql": &fstest.MapFile{}})
	if err != nil {
		return "", err
	}
	before := version - 1
	if before == 0 {
		before = database.NilVersion
	}
	return fmt.Sprintf("`migrate force %d`", before), m.Force(before)
}

func (g golangMigrate) version(ctx context.Context) (version int, dirty bool, err error) {
	err = g.db.QueryRowContext(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return version, dirty, err
}

func (g golangMigrate) State(ctx context.Context) (string, error) {
	version, dirty, err := g.version(ctx)
	if dirty {
		return fmt.Sprintf("v%d, dirty", version), err
	}
	return fmt.Sprintf("v%d", version), err
}
