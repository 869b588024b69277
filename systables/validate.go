package systables

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
)

// ErrInvalid is matched by every [ColumnError].
var ErrInvalid = errors.New("row is not valid")

// A Fault is what is wrong with a column of a row.
type Fault string

// The faults. Their texts are codes that do not change.
const (
	FaultRow        Fault = "row_malformed"  // the row is no map of columns
	FaultNull       Fault = "row_null"       // the column is null or absent and must not be
	FaultType       Fault = "row_type"       // the value is not of the column's type
	FaultValue      Fault = "row_value"      // the value is none that the column can have
	FaultUndeclared Fault = "row_undeclared" // the table has no such column
	FaultKey        Fault = "row_key"        // the row is stored under another primary key
)

// A ColumnError says what is wrong with one column of a row, and not the value it
// has, which can be secret. It matches [ErrInvalid].
type ColumnError struct {
	Table  string // with its schema, for example "system.users"
	Column string // "" if it is the row as a whole
	Fault  Fault
	Reason string // what is wrong, in words that contain no value
}

func (e *ColumnError) Error() string { return e.Table + ": " + e.Reason }

// Is reports whether target is ErrInvalid.
func (*ColumnError) Is(target error) bool { return target == ErrInvalid }

// Validate checks a row of t before it is written. See [Definition.Validate]. It may
// be called concurrently.
func (t Table[K, R]) Validate(row R) error {
	data, err := value.Marshal(row)
	if err != nil {
		return err
	}
	return t.definition.Validate([]byte(t.key(row)), data)
}

// Validate checks an encoded row, which is to be stored under key in the table's
// partition, against d: that it has each column that is not nullable and no
// others than d's, each with a value of its type that the column can have, and
// that its primary key is key. It reports every fault together, in the order of
// the columns, as a *multierror.Error of [*ColumnError]s, or nil. It may be called
// concurrently.
func (d Definition) Validate(key, row []byte) error {
	var all *multierror.Error
	for _, f := range d.faultsOfNew(key, row, nil) {
		all = multierror.Append(all, f)
	}
	return faults.Join(all)
}

// faultsOfNew returns the faults of a row that is to take the place of old, which is
// nil if there is none. What older versions accepted is no fault where it stays.
func (d Definition) faultsOfNew(key, row, old []byte) []*ColumnError {
	return d.check(key, row, func(c Column, data []byte) string {
		reason := c.checkText(data)
		if reason == "" || old == nil {
			return reason
		}
		columns, err := value.UnmarshalMap(old)
		if err == nil && bytes.Equal(columns[c.Name], data) {
			return ""
		}
		return reason
	})
}

// faults returns the faults of a row that is stored, which older versions may have
// written.
func (d Definition) faults(key, row []byte) []*ColumnError {
	return d.check(key, row, func(Column, []byte) string { return "" })
}

// check returns the faults of a row. Where a value is one that the column can have,
// more says what else is wrong with it.
func (d Definition) check(key, row []byte, more func(Column, []byte) string) (faults []*ColumnError) {
	report := func(column string, fault Fault, format string, args ...any) {
		faults = append(faults, &ColumnError{d.table(), column, fault, fmt.Sprintf(format, args...)})
	}
	columns, err := value.UnmarshalMap(row)
	if err != nil {
		report("", FaultRow, "a row is no map of columns")
		return faults
	}
	for _, c := range d.Columns {
		data, ok := columns[c.Name]
		delete(columns, c.Name)
		switch {
		case !ok && !c.Nullable:
			report(c.Name, FaultNull, "column %s is null and must not be", c.Name)
		case ok:
			if fault, reason := c.check(data); fault != "" {
				report(c.Name, fault, "column %s %s", c.Name, reason)
			} else if len(d.PrimaryKey) == 1 && d.PrimaryKey[0] == c.Name && c.Type == "Text" && textOf(data) != string(key) {
				report(c.Name, FaultKey, "column %s, the primary key, is not the key that the row is stored under", c.Name)
			} else if reason := more(c, data); reason != "" {
				report(c.Name, FaultValue, "column %s %s", c.Name, reason)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		report(name, FaultUndeclared, "a row has a column that the table has not")
	}
	return faults
}

// table returns the table's name with its schema, which is its partition's.
func (d Definition) table() string { return cmp.Or(d.Schema, migrations.Schema) + "." + d.Name }

// The first bytes of CBOR items: the major type is in the upper three bits.
const (
	majorUint, majorNegative, majorText = 0, 1, 3

	simpleFalse, simpleTrue, simpleNull         = 0xf4, 0xf5, 0xf6
	simpleFloat16, simpleFloat32, simpleFloat64 = 0xf9, 0xfa, 0xfb
)

// check returns what is wrong with an encoded value of c.
func (c Column) check(data []byte) (Fault, string) {
	head := data[0] // a value of a decoded map is a whole item
	if head == simpleNull {
		if c.Nullable {
			return FaultType, "is stored as null: a null column is absent"
		}
		return FaultNull, "is null and must not be"
	}
	major := head >> 5
	integer := major == majorUint || major == majorNegative
	ok := false
	switch c.Type {
	case "Text", "Json":
		var s string
		ok = major == majorText && value.Unmarshal(data, &s) == nil
	case "Int":
		var n int32
		ok = integer && value.Unmarshal(data, &n) == nil
	case "BigInt", "Timestamp":
		var n int64
		ok = integer && value.Unmarshal(data, &n) == nil
	case "Double":
		ok = head == simpleFloat16 || head == simpleFloat32 || head == simpleFloat64
	case "Bool":
		ok = head == simpleFalse || head == simpleTrue
	}
	switch {
	case !ok && major == majorText && (c.Type == "Text" || c.Type == "Json"):
		return FaultType, "is not UTF-8"
	case !ok:
		return FaultType, "is no " + c.Type
	case c.Type == "Json" && !json.Valid([]byte(textOf(data))):
		return FaultValue, "is no JSON"
	case c.Values != nil && !slices.Contains(c.Values, textOf(data)):
		return FaultValue, "is none of " + strings.Join(c.Values, ", ")
	}
	return "", ""
}

// checkText returns what is wrong with a value of c beyond what check found.
func (c Column) checkText(data []byte) string {
	switch {
	case c.NotEmpty && textOf(data) == "":
		return "is empty and must not be"
	case c.JSON && !json.Valid([]byte(textOf(data))):
		return "is no JSON"
	}
	return ""
}

// textOf decodes a text that was checked.
func textOf(data []byte) (s string) {
	_ = value.Unmarshal(data, &s)
	return s
}
