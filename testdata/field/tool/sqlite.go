package tool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
)

// A driver is a database/sql driver for SQLite.
type driver struct {
	suffix string // of the names of its tools
	about  string
	second bool // whether tools are compared with another driver already
	open   func(path string) (*sql.DB, error)
}

// registerWith registers the tools that exist with every driver; the file of each
// driver calls it.
func registerWith(d driver) {
	Register(gooseWith(d))
	Register(golangMigrateWith(d))
	if !d.second {
		Register(gooseSQLWith(d))
	}
}

// opens returns what opens a database of the driver for a tool, nil if the program was
// built without the driver.
func (d driver) opens(of func(sqliteDB) Database) func(context.Context, string) (Database, error) {
	if d.open == nil {
		return nil
	}
	return func(_ context.Context, dir string) (Database, error) {
		db, err := d.open(file(dir))
		return of(sqliteDB{db}), err
	}
}

const (
	setAppID       = `PRAGMA application_id = 0x6b766d67` // zombiezen's sqlitemigration asks for one
	createAccounts = `CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`
	createData     = `CREATE TABLE IF NOT EXISTS data (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`
	insertAccount  = `INSERT INTO accounts (id, value) VALUES (?, ?)`
	selectAccounts = `SELECT value FROM accounts ORDER BY id`
	selectData     = `SELECT count(*), coalesce(min(value) FILTER (WHERE key = 'data/0001'), '') FROM data`
	changeSQL      = `UPDATE accounts SET value = change_account(value)`
)

// A synced commit takes WAL and synchronous = FULL, which is SQLite's default; who
// meets a lock waits for it.
const busyMillis = 5000

// file returns the database in dir.
func file(dir string) string { return filepath.Join(dir, "sqlite.db") }

// changeAccount is what the SQL function change_account calls, which is registered
// once for all connections of a process.
var changeAccount atomic.Pointer[func([]byte) ([]byte, error)]

func callChange(value string) (string, error) {
	changed, err := (*changeAccount.Load())([]byte(value))
	return string(changed), err
}

// rewriteSQL returns the statement that changes all accounts as s says.
func rewriteSQL(s Schema) string {
	if s.Change == nil {
		return addLoginsSQL
	}
	changeAccount.Store(&s.Change)
	return changeSQL
}

// smallSQL returns the script of the small migration of that version.
func smallSQL(s Schema, version int) string {
	key, value := s.small(version)
	script := fmt.Sprintf("INSERT INTO data (key, value) VALUES ('%s', '%s');", key, value)
	if version == 1 {
		script = createData + ";\n" + script
	}
	return script
}

// scripts returns the migrations of s in SQL.
func scripts(s Schema) []string {
	list := make([]string, 0, s.latest())
	for v := 1; v <= s.Small; v++ {
		list = append(list, smallSQL(s, v))
	}
	if s.Rewrite {
		list = append(list, rewriteSQL(s)+";")
	}
	return list
}

// A sqliteDB is what databases behind database/sql have in common.
type sqliteDB struct{ db *sql.DB }

func (l sqliteDB) Close() error { return l.db.Close() }

func (l sqliteDB) Fill(ctx context.Context, n int) (err error) {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	for _, query := range []string{setAppID, createAccounts} {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	insert, err := tx.PrepareContext(ctx, insertAccount)
	if err != nil {
		return err
	}
	for i := range n {
		value, err := accountValue(i)
		if err != nil {
			return err
		}
		if _, err := insert.ExecContext(ctx, accountKey(i), string(value)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (l sqliteDB) Accounts(ctx context.Context, visit func([]byte) error) (err error) {
	rows, err := l.db.QueryContext(ctx, selectAccounts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var value sql.RawBytes
		if err := rows.Scan(&value); err != nil {
			return err
		}
		if err := visit(value); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (l sqliteDB) Entries(ctx context.Context) (n int, first string, err error) {
	err = l.db.QueryRowContext(ctx, selectData).Scan(&n, &first)
	return n, first, err
}

func (l sqliteDB) Backup(ctx context.Context, file string) error {
	if _, err := l.db.ExecContext(ctx, "VACUUM INTO ?", file); err != nil {
		return err
	}
	return syncFile(file)
}

// restoreSQLite is the restore of every backup of SQLite, which is a database.
func restoreSQLite(_ context.Context, backup, dir string) error {
	return copyFile(backup, file(dir))
}
