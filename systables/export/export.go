// Package export writes tables of package systables to files that other programs read.
package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
)

// timeColumns are the columns by which a range of time selects rows: a table's is the
// first of these that it has.
var timeColumns = []string{"timestamp", "recorded_at", "created_at"}

// The most that a row group holds before it is written. Readers read one at a time, and
// the writer keeps one in memory.
const (
	groupRows  = 100_000
	groupBytes = 8 << 20
)

// Options say what of a table is written. The zero Options are all of it but secrets.
type Options struct {
	// From and To select the rows whose time is From or later and before To: their
	// timestamp, recorded_at or created_at. The zero time is no bound.
	From, To time.Time

	// Secrets adds the columns that are left out otherwise: those that are secret by
	// d or [systables.Definitions], and those of system tables that this program does
	// not know, because a later version has brought them.
	Secrets bool
}

// Parquet writes the rows of the table that d defines to w, as one Parquet file, and
// returns how many there are. s is a snapshot, so they are of one moment. The rows are
// in the order of their keys, the columns in that of d, with these types:
//
//	Text              BYTE_ARRAY, String
//	Json              BYTE_ARRAY, JSON
//	Int, BigInt       INT32, INT64 (Integer, signed)
//	Double, Bool      DOUBLE, BOOLEAN
//	Timestamp         INT64, Timestamp (milliseconds, UTC)
//
// A column that can be null is optional, and all others are required. The file's
// metadata has the name of the table and the version of its schema.
//
// It takes memory for some 8 MiB of rows, whatever the size of the table, and obeys ctx
// between rows. A row that cannot be decoded or has no value for a column that is not
// nullable is a [*systables.RowError] that matches [store.ErrCorrupt]. After an error
// what w has got is no whole file.
func Parquet(ctx context.Context, w io.Writer, s store.Reader, d systables.Definition, o Options) (rows int64, err error) {
	name := cmp.Or(d.Schema, migrations.Schema) + "." + d.Name
	t, err := newTable(name, d, o)
	if err == nil {
		rows, err = t.write(ctx, w, s)
	}
	if err != nil {
		return rows, fmt.Errorf("export %s: %w", name, err)
	}
	return rows, nil
}

// A table is what is written of one.
type table struct {
	definition systables.Definition // with the columns that are written
	rows       store.Partition
	time       string // the column that from and to are of, "" if there is no range
	from, to   systables.Timestamp
}

func newTable(name string, d systables.Definition, o Options) (*table, error) {
	part, err := store.NewPartition(name)
	if err != nil {
		return nil, err
	}
	t := &table{definition: d, rows: part, from: -1 << 63, to: 1<<63 - 1}
	if !o.From.IsZero() || !o.To.IsZero() {
		has := func(name string) bool {
			return slices.ContainsFunc(d.Columns, func(c systables.Column) bool { return c.Name == name })
		}
		i := slices.IndexFunc(timeColumns, has)
		if i < 0 {
			return nil, fmt.Errorf("it has no column of time to select by: want one of %v", timeColumns)
		}
		t.time = timeColumns[i]
	}
	if !o.From.IsZero() {
		t.from = ceil(o.From)
	}
	if !o.To.IsZero() {
		t.to = ceil(o.To)
	}
	if !o.Secrets {
		t.definition.Columns = slices.DeleteFunc(slices.Clone(d.Columns), func(c systables.Column) bool {
			return c.Secret || cmp.Or(d.Schema, migrations.Schema) == migrations.Schema && !public(d.Name, c.Name)
		})
		if len(t.definition.Columns) == 0 {
			return nil, errors.New("it has no column that is known not to be secret")
		}
	}
	return t, nil
}

// ceil returns the first timestamp that is not before t.
func ceil(t time.Time) systables.Timestamp { return systables.At(t.Add(time.Millisecond - 1)) }

// public reports whether the program knows a column of a system table, and that it is not
// secret, which the catalog does not say.
func public(table, column string) bool {
	return slices.ContainsFunc(systables.Definitions(), func(d systables.Definition) bool {
		return d.Name == table && slices.ContainsFunc(d.Columns, func(c systables.Column) bool { return c.Name == column && !c.Secret })
	})
}

func (t *table) write(ctx context.Context, w io.Writer, s store.Reader) (rows int64, err error) {
	schema, err := t.schema()
	if err != nil {
		return 0, err
	}
	out := parquet.NewWriter(w, schema,
		parquet.Compression(&parquet.Snappy),
		parquet.CreatedBy("kvmigrate", "", ""),
		parquet.KeyValueMetadata("kvmigrate.table", t.rows.Name()),
		parquet.KeyValueMetadata("kvmigrate.table_version", strconv.FormatUint(uint64(t.definition.Version), 10)),
	)
	row := make(parquet.Row, len(t.definition.Columns))
	inGroup, bytes := 0, 0
	for e, err := range s.Scan(store.Scan{Prefix: t.rows.Prefix()}) {
		if err != nil {
			return rows, err
		}
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		selected, err := t.decode(e.Value, row)
		if err != nil {
			key, _ := t.rows.Cut(e.Key)
			return rows, &systables.RowError{Op: "export", Table: t.rows.Name(), Key: string(key), Err: err}
		}
		if !selected {
			continue
		}
		if _, err := out.WriteRows([]parquet.Row{row}); err != nil {
			return rows, err
		}
		rows++
		inGroup, bytes = inGroup+1, bytes+len(e.Value)
		if inGroup == groupRows || bytes >= groupBytes {
			if err := out.Flush(); err != nil {
				return rows, err
			}
			inGroup, bytes = 0, 0
		}
	}
	return rows, out.Close()
}

// A group is a Parquet schema whose columns keep their order.
type group struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements [parquet.Node].
func (g group) Fields() []parquet.Field { return g.fields }

// columnNodes are the types of columns in Parquet.
var columnNodes = map[string]func() parquet.Node{
	"Text":      parquet.String,
	"Json":      parquet.JSON,
	"Int":       func() parquet.Node { return parquet.Int(32) },
	"BigInt":    func() parquet.Node { return parquet.Int(64) },
	"Double":    func() parquet.Node { return parquet.Leaf(parquet.DoubleType) },
	"Bool":      func() parquet.Node { return parquet.Leaf(parquet.BooleanType) },
	"Timestamp": func() parquet.Node { return parquet.Timestamp(parquet.Millisecond) },
}

func (t *table) schema() (*parquet.Schema, error) {
	g := group{Group: parquet.Group{}}
	for _, c := range t.definition.Columns {
		node, ok := columnNodes[c.Type]
		if !ok {
			return nil, fmt.Errorf("column %s has the type %q, which this program does not know", c.Name, c.Type)
		}
		if _, twice := g.Group[c.Name]; twice {
			return nil, fmt.Errorf("it has two columns %s", c.Name)
		}
		g.Group[c.Name] = node()
		if c.Nullable {
			g.Group[c.Name] = parquet.Optional(node())
		}
	}
	byName := map[string]parquet.Field{}
	for _, f := range g.Group.Fields() {
		byName[f.Name()] = f
	}
	for _, c := range t.definition.Columns {
		g.fields = append(g.fields, byName[c.Name])
	}
	return parquet.NewSchema(t.definition.Name, g), nil
}

// decode sets row to what data has for the columns, and reports whether it is selected.
func (t *table) decode(data []byte, row parquet.Row) (selected bool, err error) {
	columns, err := value.UnmarshalMap(data)
	if err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	if t.time != "" {
		var at *systables.Timestamp
		if data, ok := columns[t.time]; ok {
			if err := value.Unmarshal(data, &at); err != nil {
				return false, fmt.Errorf("%w: column %s: %w", store.ErrCorrupt, t.time, err)
			}
		}
		if at == nil || *at < t.from || *at >= t.to {
			return false, nil
		}
	}
	for i, c := range t.definition.Columns {
		v, err := decodeColumn(c, columns[c.Name])
		if err != nil {
			return false, fmt.Errorf("%w: column %s: %w", store.ErrCorrupt, c.Name, err)
		}
		level := 0
		if c.Nullable && !v.IsNull() {
			level = 1
		}
		row[i] = v.Level(0, level, i)
	}
	return true, nil
}

// decodeColumn returns what data, an encoded value or nothing, is in Parquet.
func decodeColumn(c systables.Column, data []byte) (parquet.Value, error) {
	var (
		v   parquet.Value
		err error
	)
	null := false
	switch {
	case len(data) == 0, len(data) == 1 && data[0] == cborNull:
		null = true
	case c.Type == "Text", c.Type == "Json":
		v, err = as(data, func(s string) parquet.Value { return parquet.ByteArrayValue([]byte(s)) })
	case c.Type == "Int":
		v, err = as(data, parquet.Int32Value)
	case c.Type == "BigInt", c.Type == "Timestamp":
		v, err = as(data, parquet.Int64Value)
	case c.Type == "Double":
		v, err = as(data, parquet.DoubleValue)
	case c.Type == "Bool":
		v, err = as(data, parquet.BooleanValue)
	}
	if null && !c.Nullable {
		return v, errNull
	}
	return v, err
}

// cborNull is the encoding of null.
const cborNull = 0xf6

var errNull = errors.New("it has no value, and must have one")

// as decodes data and returns what of makes of it.
func as[T any](data []byte, of func(T) parquet.Value) (v parquet.Value, err error) {
	var x T
	if err := value.Unmarshal(data, &x); err != nil {
		return v, err
	}
	return of(x), nil
}
