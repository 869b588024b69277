package systables

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize/english"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// What is true of the tables of a namespace is true of a range of rows, and a store
// detects conflicts on the rows that a transaction read, not on those that another
// one adds between them. The namespace's row guards the range: whoever adds a table
// or removes one reads and writes that row, and whoever depends on the range reads
// it. So two transactions that could break a rule together conflict there.

// namespaceRules: the table count is the number of tables, and a namespace that has
// any cannot be deleted.
var namespaceRules = rules[Namespace]{
	check: func(s store.Reader, old, row *Namespace) []error {
		if old != nil && row != nil {
			if row.TableCount != old.TableCount {
				return []error{badColumn("system.namespaces", "table_count", "changes with the rows of system.tables and not otherwise")}
			}
			return nil
		}
		one := row
		if row == nil {
			one = old
		}
		n, err := countTables(s, one.ID)
		switch {
		case err != nil:
			return []error{err}
		case row == nil && n > 0:
			return []error{fmt.Errorf("%w: the namespace has %s", ErrInUse, english.Plural(int(n), "table", ""))}
		case row != nil && n != row.TableCount: // tables from before the rules count
			return []error{badColumn("system.namespaces", "table_count", "is not the number of its tables")}
		}
		return nil
	},
}

// countTables returns the number of tables in the namespace.
func countTables(s store.Reader, id NamespaceID) (n int32, err error) {
	for e, err := range s.Scan(store.Scan{Prefix: tableRows.Key([]byte(id + ":"))}) {
		if err != nil {
			return 0, err
		}
		var row struct {
			Namespace NamespaceID `cbor:"namespace"`
		}
		if err := value.Unmarshal(e.Value, &row); err != nil {
			return 0, fmt.Errorf("%w: a row of system.tables: %w", store.ErrCorrupt, err)
		}
		if row.Namespace == id { // and not another one whose name goes on with a colon
			n++
		}
	}
	return n, nil
}

func badColumn(table, column, reason string) error {
	return &ColumnError{Table: table, Column: column, Fault: FaultValue, Reason: "column " + column + " " + reason}
}

var tableRows = store.MustPartition("system.tables")

// tableRules: a table is in a namespace, which counts it.
var tableRules = rules[TableRow]{
	check: func(s store.Reader, old, row *TableRow) (faults []error) {
		if row == nil {
			return nil
		}
		if string(row.ID) != row.Namespace+":"+row.Name {
			faults = append(faults, badColumn("system.tables", "table_id", "is not its namespace, a colon and its name"))
		}
		if old == nil || old.Namespace != row.Namespace { // of one key: their names have colons
			if _, _, err := Namespaces.get(s, NamespaceID(row.Namespace)); err != nil {
				faults = append(faults, fmt.Errorf("its namespace: %w", err))
			}
		}
		return faults
	},
	after: func(tx store.Txn, old, row *TableRow) error {
		if old != nil && row != nil && old.Namespace == row.Namespace {
			return nil
		}
		if old != nil {
			if err := countTable(tx, NamespaceID(old.Namespace), -1); err != nil {
				return err
			}
		}
		if row != nil {
			return countTable(tx, NamespaceID(row.Namespace), 1)
		}
		return nil
	},
}

// countTable adds n to the table count of a namespace.
func countTable(tx store.Txn, id NamespaceID, n int32) error {
	e, old, err := Namespaces.get(tx, id)
	if errors.Is(err, ErrNotFound) {
		return nil // the table is from before the rules
	}
	if err != nil {
		return err
	}
	row := old
	row.TableCount = max(0, row.TableCount+n)
	c := &change[NamespaceID, Namespace]{key: id, old: &old, row: &row, entry: e}
	if err := Namespaces.encode(c); err != nil {
		return err
	}
	return Namespaces.write(tx, "update", []*change[NamespaceID, Namespace]{c})
}
