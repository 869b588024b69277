package tablescli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
)

// width is how many columns a line of text has at most.
const width = 80

// A mask stands for a value that is not shown. It has a type of its own, so that no
// value is taken for one.
type mask string

const secret mask = "[secret]"

// A row is one of a table, ready to be shown.
type row struct {
	Key       string         `json:"key"`
	Columns   map[string]any `json:"columns,omitempty"`
	Malformed bool           `json:"malformed,omitempty"`
}

// newRow decodes a row. All columns of d are in it, null or not.
func newRow(d systables.Definition, key string, data []byte, masked func(column string) bool) row {
	columns, err := value.UnmarshalMap(data)
	if err != nil {
		return row{Key: key, Malformed: true}
	}
	r := row{Key: key, Columns: make(map[string]any, len(d.Columns))}
	for _, c := range d.Columns {
		r.Columns[c.Name] = nil
	}
	for name, data := range columns {
		if masked(name) {
			r.Columns[name] = secret
			continue
		}
		typ := ""
		if i := slices.IndexFunc(d.Columns, func(c systables.Column) bool { return c.Name == name }); i >= 0 {
			typ = d.Columns[i].Type
		}
		v, ok := shown(typ, data)
		if !ok {
			v = plain(data)
		}
		r.Columns[name] = v
	}
	return r
}

// shown returns an encoded value of that type as JSON shows it. It is not ok if it
// is of another type.
func shown(typ string, data []byte) (v any, ok bool) {
	switch typ {
	case "Text":
		return as[string](data)
	case "Int", "BigInt":
		return as[int64](data)
	case "Bool":
		return as[bool](data)
	case "Double":
		f, ok := as[float64](data)
		if n := f.(float64); math.IsNaN(n) || math.IsInf(n, 0) {
			return strconv.FormatFloat(n, 'g', -1, 64), ok
		}
		return f, ok
	case "Json":
		text, ok := as[string](data)
		if raw := []byte(text.(string)); json.Valid(raw) {
			return json.RawMessage(raw), ok
		}
		return text, ok
	case "Timestamp":
		ms, ok := as[int64](data)
		if t := time.UnixMilli(ms.(int64)).UTC(); t.Year() >= 0 && t.Year() <= 9999 {
			return t.Format("2006-01-02T15:04:05.999Z07:00"), ok
		}
		return ms, ok
	}
	return nil, false
}

// A notation is a value as dump prints it.
type notation string

// plain returns an encoded value of any type as JSON shows it.
func plain(data []byte) any {
	var v any
	if err := value.Unmarshal(data, &v); err != nil {
		return notation(dump.Value(data))
	}
	switch v.(type) {
	case string, bool, int64, uint64:
		return v
	}
	return notation(dump.Value(data))
}

func as[T any](data []byte) (any, bool) {
	var v T
	err := value.Unmarshal(data, &v)
	return v, err == nil
}

// text returns a value of a row as a person reads it on one line.
func text(v any) string {
	var s string
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if v == "null" {
			return strconv.Quote(v)
		}
		s = v
	case json.RawMessage:
		var compact bytes.Buffer
		if err := json.Compact(&compact, v); err == nil {
			v = compact.Bytes()
		}
		return printable(string(v))
	case notation:
		return printable(string(v))
	default:
		return fmt.Sprint(v)
	}
	if s == "" || strings.ContainsAny(s, " \"\\") {
		return strconv.Quote(s)
	}
	return printable(s)
}

// printable quotes what would not be seen on a terminal, or change it.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// printLine prints a row on one line, without what is null or masked.
func printLine(w io.Writer, d systables.Definition, r row) error {
	var line strings.Builder
	line.WriteString(text(r.Key))
	if r.Malformed {
		line.WriteString("  (malformed)")
	}
	for _, name := range names(d, r) {
		if v := r.Columns[name]; v != nil && v != secret && !slices.Contains(d.PrimaryKey, name) {
			fmt.Fprintf(&line, "  %s=%s", printable(name), text(v))
		}
	}
	_, err := fmt.Fprintln(w, cut(line.String()))
	return err
}

// printRow prints a row, a column on each line.
func printRow(w io.Writer, d systables.Definition, r row) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, name := range names(d, r) {
		fmt.Fprintf(t, "%s\t%s\n", printable(name), text(r.Columns[name]))
	}
	return t.Flush()
}

// names are the columns of r: those of d in their order, and then what else it has.
func names(d systables.Definition, r row) []string {
	var names []string
	for _, c := range d.Columns {
		if _, ok := r.Columns[c.Name]; ok {
			names = append(names, c.Name)
		}
	}
	declared := len(names)
	for _, name := range slices.Sorted(maps.Keys(r.Columns)) {
		if !slices.Contains(names[:declared], name) {
			names = append(names, name)
		}
	}
	return names
}

func printTables(w io.Writer, all []summary) error {
	return printCut(w, func(t io.Writer) {
		fmt.Fprintln(t, "TABLE\tROWS\tSIZE\tVERSION\tCOMMENT")
		for _, s := range all {
			fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%s\n", s.Name, s.Rows, size(s.Bytes), s.Version, printable(s.Comment))
		}
	})
}

func printTable(w io.Writer, d details) error {
	_, err := fmt.Fprintf(w, "%s\nversion %d, %d rows, %s\n\n", cut(migrations.Schema+"."+d.Name+": "+printable(d.Comment)), d.Version, d.Rows, size(d.Bytes))
	err = errors.Join(err, printCut(w, func(t io.Writer) {
		fmt.Fprintln(t, "COLUMN\tTYPE\tNULL\tCOMMENT")
		for _, c := range d.Columns {
			var notes []string
			if slices.Contains(d.PrimaryKey, c.Name) {
				notes = append(notes, "primary key")
			}
			if c.Secret {
				notes = append(notes, "secret")
			}
			if c.Comment != "" {
				notes = append(notes, printable(c.Comment))
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Name, c.Type, yes(c.Nullable), strings.Join(notes, "; "))
		}
	}))
	if len(d.Indexes) == 0 {
		return err
	}
	return errors.Join(err, printCut(w, func(t io.Writer) {
		fmt.Fprintln(t, "\nINDEX\tCOLUMNS\tUNIQUE\tENTRIES")
		for _, ix := range d.Indexes {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", ix.Name, strings.Join(ix.Columns, ", "), yes(ix.Unique), ix.Entries)
		}
	}))
}

// printCut aligns the columns that fill writes, and cuts the lines.
func printCut(w io.Writer, fill func(io.Writer)) error {
	var aligned strings.Builder
	t := tabwriter.NewWriter(&aligned, 0, 8, 2, ' ', 0)
	fill(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(aligned.String()) {
		if _, err := fmt.Fprintln(w, cut(strings.TrimRight(line, " \n"))); err != nil {
			return err
		}
	}
	return nil
}

// cut makes a line fit the width.
func cut(line string) string {
	runes := []rune(line)
	if len(runes) <= width {
		return line
	}
	return string(runes[:width-1]) + "…"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// size returns a number of bytes with three digits or so.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB"} {
		if f /= 1000; f < 999.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.1f TB", f/1000)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
