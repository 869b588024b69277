package systables

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A Definition is what the catalog says of one table.
type Definition struct {
	Name       string            `cbor:"name"` // without its schema, for example "users"
	Comment    string            `cbor:"comment"`
	Version    uint32            `cbor:"version"` // of the table's own schema, from 1
	Columns    []Column          `cbor:"columns"` // ordinals are the order, from 1
	PrimaryKey []string          `cbor:"primary_key"`
	Indexes    []IndexDefinition `cbor:"indexes"`

	// Schema is that of a table of [NewTable]; it is empty for the system tables.
	// The catalog does not store it.
	Schema string `cbor:"-"`
}

// A Column is what the catalog says of one column.
type Column struct {
	Name     string `cbor:"name"`
	Type     string `cbor:"type"` // Text, Int, BigInt, Double, Bool, Json, Timestamp
	Nullable bool   `cbor:"nullable"`
	Comment  string `cbor:"comment"`

	// Values are the only ones that a column of type Text can have; nil if any
	// is. The catalog does not store them.
	Values []string `cbor:"-"`

	// NotEmpty says that a text which is written is not empty, and JSON that it is
	// the text of a JSON value. Rows of older versions can have others. The catalog
	// does not store it.
	NotEmpty, JSON bool `cbor:"-"`

	// Secret says that values are not to be shown to people unless they ask for
	// them. The catalog does not store it.
	Secret bool `cbor:"-"`
}

// An IndexDefinition is what the catalog says of one index.
type IndexDefinition struct {
	Name    string   `cbor:"name"`
	Columns []string `cbor:"columns"`
	Unique  bool     `cbor:"unique"`
}

// Definitions returns the definitions of all tables as this program knows them, by
// name. They have no comments, which only the catalog has. The caller owns them.
func Definitions() []Definition {
	return []Definition{
		AuditLogs.Definition(), Jobs.Definition(), LiveQueries.Definition(), Metrics.Definition(),
		Namespaces.Definition(), Storages.Definition(), Tables.Definition(), Users.Definition(),
	}
}

// Definition returns the definition of the table as this program knows it, without
// comments. The caller owns it.
func (t Table[K, R]) Definition() Definition {
	d := t.definition
	d.Columns, d.PrimaryKey = slices.Clone(d.Columns), slices.Clone(d.PrimaryKey)
	for i := range d.Columns {
		d.Columns[i].Values = slices.Clone(d.Columns[i].Values)
	}
	d.Indexes = make([]IndexDefinition, len(t.indexes))
	for i, ix := range t.indexes {
		d.Indexes[i] = IndexDefinition{Name: ix.name, Columns: slices.Clone(ix.columns), Unique: ix.unique}
	}
	return d
}

// column returns the column with that name.
func (d Definition) column(name string) (Column, bool) {
	i := slices.IndexFunc(d.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return Column{}, false
	}
	return d.Columns[i], true
}

// columnTypes are the types of columns by the Go types of their fields.
var columnTypes = map[reflect.Type]string{
	reflect.TypeFor[Timestamp](): "Timestamp",
	reflect.TypeFor[JSON]():      "Json",
	reflect.TypeFor[int32]():     "Int",
	reflect.TypeFor[int64]():     "BigInt",
	reflect.TypeFor[float64]():   "Double",
	reflect.TypeFor[bool]():      "Bool",
}

// columnsOf returns the columns of a row type: a field each, a pointer where null is
// allowed, with the only values it can have in the tag "values", "notempty" or "json"
// in the tag "text" if it must be that, and the tag "secret" if people are not to see
// them.
func columnsOf(row reflect.Type) ([]Column, error) {
	if row.Kind() != reflect.Struct || row.NumField() == 0 {
		return nil, fmt.Errorf("%v is no struct with a field for each column", row)
	}
	columns := make([]Column, row.NumField())
	for i := range columns {
		f := row.Field(i)
		c := &columns[i]
		c.Name, _, _ = strings.Cut(f.Tag.Get("cbor"), ",")
		if !f.IsExported() || c.Name == "" || c.Name == "-" {
			return nil, fmt.Errorf("field %s of %v names no column", f.Name, row)
		}
		if values, ok := f.Tag.Lookup("values"); ok {
			c.Values = strings.Split(values, ",")
		}
		c.Secret = f.Tag.Get("secret") == "true"
		must := f.Tag.Get("text")
		c.NotEmpty, c.JSON = must == "notempty" || i == 0, must == "json"
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			c.Nullable, typ = true, typ.Elem()
		}
		switch known, ok := columnTypes[typ]; {
		case ok:
			c.Type = known
		case typ.Kind() == reflect.String: // a key has a type of its own
			c.Type = "Text"
		default:
			return nil, fmt.Errorf("no column has the type of field %s of %v", f.Name, row)
		}
		if must != "" && (c.Type != "Text" || must != "notempty" && must != "json") {
			return nil, fmt.Errorf("field %s of %v is no text that must be %q", f.Name, row, must)
		}
	}
	if key := columns[0]; key.Type != "Text" || key.Nullable {
		return nil, fmt.Errorf("the first field of %v is no string, and so no primary key", row)
	}
	return columns, nil
}
