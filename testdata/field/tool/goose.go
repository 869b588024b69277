package tool

import (
	"context"
	"database/sql"
	"fmt"
	"testing/fstest"

	"github.com/pressly/goose/v3"
)

// gooseWith returns goose over a driver. Its lockers are for Postgres and MySQL only.
func gooseWith(d driver) Tool {
	return Tool{
		Name: "goose-" + d.suffix, Engine: "sqlite", Module: "github.com/pressly/goose/v3",
		About:   "goose's Provider with migrations in Go over " + d.about + "; many rows are read in pages and updated by a prepared statement, in one transaction",
		Open:    d.opens(func(db sqliteDB) Database { return gooseDB{db} }),
		Restore: restoreSQLite,
		Variant: d.second,
		Source:  "tool/goose.go",
	}
}

// gooseSQLWith returns goose with migrations in SQL. What they cost is mostly SQLite's,
// as golang-migrate shows, but one that writes before it reads meets a lock differently.
func gooseSQLWith(d driver) Tool {
	return Tool{
		Name: "goose-sql-" + d.suffix, Engine: "sqlite", Module: "github.com/pressly/goose/v3",
		About:  "goose's Provider with migrations in SQL over " + d.about,
		Open:   d.opens(func(db sqliteDB) Database { return gooseSQL{gooseDB{db}} }),
		Only:   []string{},
		Source: "tool/goose.go",
	}
}

type gooseDB struct{ sqliteDB }

func (g gooseDB) Start(s Schema) func(context.Context) error {
	var list []*goose.Migration
	for v := 1; v <= s.latest(); v++ {
		up := func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, smallSQL(s, v))
			return err
		}
		if v > s.Small {
			up = func(ctx context.Context, tx *sql.Tx) error { return rewriteInGo(ctx, tx, s.change()) }
		}
		list = append(list, goose.NewGoMigration(int64(v), &goose.GoFunc{RunTx: up}, nil))
	}
	return func(ctx context.Context) error {
		p, err := goose.NewProvider(goose.DialectSQLite3, g.db, nil,
			goose.WithGoMigrations(list...), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		_, err = p.Up(ctx)
		return err
	}
}

// gooseSQL is gooseDB with the migrations in files.
type gooseSQL struct{ gooseDB }

func (g gooseSQL) Start(s Schema) func(context.Context) error {
	files := fstest.MapFS{}
	for i, script := range scripts(s) {
		files[fmt.Sprintf("%06d_step.sql", i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + script + "\n")}
	}
	return func(ctx context.Context) error {
		p, err := goose.NewProvider(goose.DialectSQLite3, g.db, files, goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		_, err = p.Up(ctx)
		return err
	}
}

// rewriteInGo changes every account, page by page.
func rewriteInGo(ctx context.Context, tx *sql.Tx, change func([]byte) ([]byte, error)) error {
	const page = 1000
	read, err := tx.PrepareContext(ctx, `SELECT id, value FROM accounts WHERE id > ? ORDER BY id LIMIT ?`)
	if err != nil {
		return err
	}
	write, err := tx.PrepareContext(ctx, `UPDATE accounts SET value = ? WHERE id = ?`)
	if err != nil {
		return err
	}
	type row struct{ id, value string }
	last := ""
	for {
		rows, err := read.QueryContext(ctx, last, page)
		if err != nil {
			return err
		}
		var found []row
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.id, &r.value); err != nil {
				return err
			}
			found = append(found, r)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, r := range found {
			changed, err := change([]byte(r.value))
			if err != nil {
				return err
			}
			if _, err := write.ExecContext(ctx, string(changed), r.id); err != nil {
				return err
			}
			last = r.id
		}
		if len(found) < page {
			return nil
		}
	}
}

func (g gooseDB) State(ctx context.Context) (string, error) {
	var version int
	err := g.db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	return fmt.Sprintf("v%d", version), err
}
