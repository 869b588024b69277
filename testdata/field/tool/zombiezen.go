package tool

import (
	"context"
	"errors"
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitemigration"
	"zombiezen.com/go/sqlite/sqlitex"
)

func init() {
	Register(Tool{
		Name: "zombiezen", Engine: "sqlite", Module: "zombiezen.com/go/sqlite",
		About:   "sqlitemigration of zombiezen.com/go/sqlite, SQLite in Go without database/sql, with migrations in SQL, the only ones it has; one `UPDATE` with `json_set` for many rows",
		Open:    openZombiezen,
		Restore: restoreSQLite,
		Source:  "tool/zombiezen.go",
	})
}

type zombiezen struct{ conn *sqlite.Conn }

func openZombiezen(_ context.Context, dir string) (Database, error) {
	conn, err := sqlite.OpenConn(file(dir)) // WAL, and a busy timeout, by default
	if err != nil {
		return nil, err
	}
	z := zombiezen{conn}
	if err := errors.Join(z.exec("PRAGMA synchronous = FULL", nil), conn.CreateFunction("change_account", &sqlite.FunctionImpl{
		NArgs: 1,
		Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			changed, err := callChange(args[0].Text())
			return sqlite.TextValue(changed), err
		},
	})); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return z, nil
}

func (z zombiezen) Close() error { return z.conn.Close() }

func (z zombiezen) exec(query string, o *sqlitex.ExecOptions) error {
	return sqlitex.Execute(z.conn, query, o)
}

func (z zombiezen) Start(s Schema) func(context.Context) error {
	schema := sqlitemigration.Schema{AppID: 0x6b766d67, Migrations: scripts(s)}
	return func(ctx context.Context) error { return sqlitemigration.Migrate(ctx, z.conn, schema) }
}

func (z zombiezen) Fill(_ context.Context, n int) (err error) {
	defer sqlitex.Save(z.conn)(&err)
	if err := errors.Join(z.exec(setAppID, nil), z.exec(createAccounts, nil)); err != nil {
		return err
	}
	for i := range n {
		value, err := accountValue(i)
		if err != nil {
			return err
		}
		if err := z.exec(insertAccount, &sqlitex.ExecOptions{Args: []any{accountKey(i), string(value)}}); err != nil {
			return err
		}
	}
	return nil
}

func (z zombiezen) Accounts(_ context.Context, visit func([]byte) error) error {
	return z.exec(selectAccounts, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		return visit([]byte(stmt.ColumnText(0)))
	}})
}

func (z zombiezen) Entries(context.Context) (n int, first string, err error) {
	err = z.exec(selectData, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		n, first = stmt.ColumnInt(0), stmt.ColumnText(1)
		return nil
	}})
	return n, first, err
}

func (z zombiezen) State(context.Context) (state string, err error) {
	err = z.exec("PRAGMA user_version", &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		state = fmt.Sprintf("v%d", stmt.ColumnInt(0))
		return nil
	}})
	return state, err
}

func (z zombiezen) Backup(_ context.Context, file string) error {
	if err := z.exec("VACUUM INTO ?", &sqlitex.ExecOptions{Args: []any{file}}); err != nil {
		return err
	}
	return syncFile(file)
}

// syncFile puts a file that someone else wrote onto the disk.
func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
