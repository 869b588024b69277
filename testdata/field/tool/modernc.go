package tool

import (
	"database/sql"
	sqldriver "database/sql/driver"
	"fmt"

	modernc "modernc.org/sqlite"
)

func init() {
	modernc.MustRegisterScalarFunction("change_account", 1,
		func(_ *modernc.FunctionContext, args []sqldriver.Value) (sqldriver.Value, error) {
			text, ok := args[0].(string)
			if !ok {
				return nil, fmt.Errorf("an account is a %T", args[0])
			}
			return callChange(text)
		})
	registerWith(driver{suffix: "modernc", about: "SQLite in Go (modernc.org/sqlite)", open: func(path string) (*sql.DB, error) {
		return sql.Open("sqlite", fmt.Sprintf("file:%s?_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)", path, busyMillis))
	}})
}
