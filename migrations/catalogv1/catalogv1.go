// Package catalogv1 is the first format of the catalog: table definitions under
// system:table:<name> and one row for each table in system.tables.
//
// It is frozen. Released migrations call it, and what they did must not change:
// a second format is a second package.
package catalogv1

import (
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// Table is the definition of a table.
type Table struct {
	Name       string   `cbor:"name"`
	Comment    string   `cbor:"comment"`
	Version    uint32   `cbor:"version"` // of the table's own schema, from 1
	Columns    []Column `cbor:"columns"` // ordinals are the order, from 1
	PrimaryKey []string `cbor:"primary_key"`
	Indexes    []Index  `cbor:"indexes"`
}

// Column is one column of a table.
type Column struct {
	Name     string `cbor:"name"`
	Type     string `cbor:"type"` // Text, Int, BigInt, Double, Bool, Json, Timestamp
	Nullable bool   `cbor:"nullable"`
	Comment  string `cbor:"comment,omitempty"`
}

// Index is a secondary index of a table.
type Index struct {
	Name    string   `cbor:"name"`
	Columns []string `cbor:"columns"`
	Unique  bool     `cbor:"unique"`
}

// row is a row of system.tables.
type row struct {
	TableID       string `cbor:"table_id"`
	TableName     string `cbor:"table_name"`
	Namespace     string `cbor:"namespace"`
	TableType     string `cbor:"table_type"`
	CreatedAt     int64  `cbor:"created_at"`
	SchemaVersion int32  `cbor:"schema_version"`
	TableComment  string `cbor:"table_comment,omitempty"`
	UpdatedAt     int64  `cbor:"updated_at"`
}

// tables is the partition of system.tables.
var tables = store.MustPartition("system.tables")

// Create writes the definition of a new system table and its row in
// system.tables. It fails if the table exists.
func Create(tx *migrate.Tx, t Table) error {
	key := []byte("system:table:" + t.Name)
	if err := absent(tx, key); err != nil {
		return fmt.Errorf("create table system.%s: %w", t.Name, err)
	}
	if err := put(tx, key, t); err != nil {
		return fmt.Errorf("create table system.%s: %w", t.Name, err)
	}
	now := tx.Now().UnixMilli()
	id := "system:" + t.Name
	return put(tx, tables.Key([]byte(id)), row{
		TableID: id, TableName: t.Name, Namespace: "system", TableType: "SYSTEM",
		CreatedAt: now, SchemaVersion: int32(t.Version), TableComment: t.Comment, UpdatedAt: now,
	})
}

// Alter replaces the definition of a system table by what change makes of it,
// raises the table's version by one, and says so in system.tables. Columns of
// that row which this package does not know stay. It fails if the table does not
// exist. The table's rows are the caller's to change.
func Alter(tx *migrate.Tx, name string, change func(*Table)) error {
	var t Table
	err := tx.Update([]byte("system:table:"+name), func(data []byte) ([]byte, error) {
		if err := value.Unmarshal(data, &t); err != nil {
			return nil, err
		}
		change(&t)
		t.Version++
		return value.Marshal(t)
	})
	if err != nil {
		return fmt.Errorf("alter table system.%s: %w", name, err)
	}
	err = tx.Update(tables.Key([]byte("system:"+name)), func(data []byte) ([]byte, error) {
		row, err := value.UnmarshalMap(data)
		if err != nil {
			return nil, err
		}
		err = errors.Join(
			row.Set("schema_version", int32(t.Version)),
			row.Set("updated_at", tx.Now().UnixMilli()),
		)
		if err != nil {
			return nil, err
		}
		return value.Marshal(row)
	})
	if err != nil {
		return fmt.Errorf("alter table system.%s: its row in system.tables: %w", name, err)
	}
	return nil
}

func absent(tx *migrate.Tx, key []byte) error {
	switch _, err := tx.Get(key); {
	case err == nil:
		return errors.New("it exists already")
	case errors.Is(err, store.ErrNotFound):
		return nil
	default:
		return err
	}
}

func put(tx *migrate.Tx, key []byte, v any) error {
	data, err := value.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Set(store.Entry{Key: key, Value: data})
}
