//go:build !cgo || !mattn

package tool

import "database/sql"

// openMattn is nil: this program has no SQLite in C, which takes a C compiler and
// minutes to compile.
var openMattn func(path string) (*sql.DB, error)
