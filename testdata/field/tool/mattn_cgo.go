//go:build cgo && mattn

package tool

import (
	"database/sql"
	"fmt"

	"github.com/mattn/go-sqlite3"
)

const mattnName = "sqlite3-with-change"

func init() {
	sql.Register(mattnName, &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		return c.RegisterFunc("change_account", callChange, false)
	}})
}

func openMattn(path string) (*sql.DB, error) {
	return sql.Open(mattnName, fmt.Sprintf("file:%s?_busy_timeout=%d&_journal_mode=WAL&_synchronous=FULL", path, busyMillis))
}
