package systables

import (
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// A Definition is what the catalog says of one table.
type Definition struct {
	Name       string            `cbor:"name"` // without its schema, for example "users"
	Comment    string            `cbor:"comment"`
	Version    uint32            `cbor:"version"` // of the table's own schema, from 1
	Columns    []Column          `cbor:"columns"` // ordinals are the order, from 1
	PrimaryKey []string          `cbor:"primary_key"`
	Indexes    []IndexDefinition `cbor:"indexes"`
}

// A Column is what the catalog says of one column.
type Column struct {
	Name     string `cbor:"name"`
	Type     string `cbor:"type"` // Text, Int, BigInt, Double, Bool, Json, Timestamp
	Nullable bool   `cbor:"nullable"`
	Comment  string `cbor:"comment"`
}

// An IndexDefinition is what the catalog says of one index.
type IndexDefinition struct {
	Name    string   `cbor:"name"`
	Columns []string `cbor:"columns"`
	Unique  bool     `cbor:"unique"`
}

// Catalog returns the definitions of all system tables in s, by name. It reads
// the catalog of any version. The error matches [store.ErrCorrupt] if a
// definition cannot be decoded.
func Catalog(s store.Reader) ([]Definition, error) {
	var catalog []Definition
	prefix := []byte(migrations.Schema + ":table:")
	for e, err := range s.Scan(store.Scan{Prefix: prefix}) {
		if err != nil {
			return nil, fmt.Errorf("read catalog: %w", err)
		}
		var d Definition
		if err := value.Unmarshal(e.Value, &d); err != nil {
			return nil, fmt.Errorf("read catalog: %w: definition of table %s: %w", store.ErrCorrupt, e.Key[len(prefix):], err)
		}
		catalog = append(catalog, d)
	}
	return catalog, nil
}
