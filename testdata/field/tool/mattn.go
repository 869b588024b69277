package tool

func init() {
	registerWith(driver{suffix: "mattn", second: true, about: "SQLite in C (mattn/go-sqlite3)", open: openMattn})
}
