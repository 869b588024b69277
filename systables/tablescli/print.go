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
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
)

// width is how many columns of a terminal a line of text takes at most.
const width = 80

// terminal says how wide characters are. Those that are ambiguous, such as "…", have one
// column, as terminals of today show them also where the locale is an East Asian one.
var terminal = runewidth.Condition{StrictEmojiNeutral: true}

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
func newRow(d systables.Definition, key string, data []byte, known map[string]systables.Column, secrets bool) row {
	columns, err := value.UnmarshalMap(data)
	if err != nil {
		return row{Key: key, Malformed: true}
	}
	r := row{Key: key, Columns: make(map[string]any, len(d.Columns))}
	for _, c := range d.Columns {
		r.Columns[c.Name] = nil
	}
	for name, data := range columns {
		if !secrets && masked(known, name) {
			r.Columns[name] = secret
			continue
		}
		typ := ""
		if i := slices.IndexFunc(d.Columns, func(c systables.Column) bool { return c.Name == name }); i >= 0 {
			typ = d.Columns[i].Type
		}
		if known[name].JSON {
			typ = "Json"
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
		if raw := []byte(text.(string)); json.Valid(raw) && string(bytes.TrimSpace(raw)) != "null" { // which no column is
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
func printLine(w io.Writer, d systables.Definition, r row, wide bool) error {
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
	shown := line.String()
	if !wide {
		shown = cut(shown)
	}
	_, err := fmt.Fprintln(w, shown)
	return err
}

// printRow prints a row, a column on each line, whose values are not cut.
func printRow(w io.Writer, d systables.Definition, r row) error {
	var cells [][]string
	for _, name := range names(d, r) {
		cells = append(cells, []string{printable(name), text(r.Columns[name])})
	}
	for _, line := range aligned(cells) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
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
	cells := [][]string{{"TABLE", "ROWS", "SIZE", "VERSION", "COMMENT"}}
	for _, s := range all {
		cells = append(cells, []string{printable(s.Name), fmt.Sprint(s.Rows), humanize.IBytes(s.Bytes), fmt.Sprint(s.Version), printable(s.Comment)})
	}
	return printCut(w, cells)
}

func printTable(w io.Writer, d details) error {
	_, err := fmt.Fprintf(w, "%s\nversion %d, %s, %s\n\n", cut(printable(migrations.Schema+"."+d.Name)+": "+printable(d.Comment)), d.Version, rows(d.Rows), humanize.IBytes(d.Bytes))
	cells := [][]string{{"COLUMN", "TYPE", "NULL", "COMMENT"}}
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
		cells = append(cells, []string{printable(c.Name), printable(c.Type), yes(c.Nullable), strings.Join(notes, "; ")})
	}
	err = errors.Join(err, printCut(w, cells))
	if len(d.Indexes) == 0 {
		return err
	}
	cells = [][]string{{"INDEX", "COLUMNS", "UNIQUE", "ENTRIES"}}
	for _, ix := range d.Indexes {
		cells = append(cells, []string{printable(ix.Name), printable(strings.Join(ix.Columns, ", ")), yes(ix.Unique), fmt.Sprint(ix.Entries)})
	}
	_, blank := fmt.Fprintln(w)
	return errors.Join(err, blank, printCut(w, cells))
}

// printCut prints lines of cells in columns, each line cut.
func printCut(w io.Writer, cells [][]string) error {
	for _, line := range aligned(cells) {
		if _, err := fmt.Fprintln(w, cut(line)); err != nil {
			return err
		}
	}
	return nil
}

// aligned returns lines of cells in columns. Package text/tabwriter takes every
// character to be as wide as any other.
func aligned(cells [][]string) []string {
	var widths []int
	for _, line := range cells {
		widths = append(widths, make([]int, max(0, len(line)-len(widths)))...)
		for i, cell := range line {
			widths[i] = max(widths[i], terminal.StringWidth(cell))
		}
	}
	lines := make([]string, len(cells))
	for i, line := range cells {
		var b strings.Builder
		for j, cell := range line {
			if j > 0 {
				b.WriteString("  ")
			}
			b.WriteString(cell)
			if j < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[j]-terminal.StringWidth(cell)))
			}
		}
		lines[i] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// cut makes a line fit the width of a terminal, in which a character can take two
// columns or none.
func cut(line string) string { return terminal.Truncate(line, width, "…") }

func rows(n uint64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// jsonTo returns an encoder of JSON that is safe on a terminal.
func jsonTo(w io.Writer) *json.Encoder { return json.NewEncoder(escaping{w}) }

func encode(w io.Writer, v any) error {
	e := jsonTo(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// An escaping writer escapes what would not be seen on a terminal, or change it, and
// is not escaped in JSON by itself. It is given whole values, whose texts alone have
// such characters.
type escaping struct{ w io.Writer }

func (e escaping) Write(data []byte) (int, error) {
	var safe []byte
	for _, r := range string(data) {
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	_, err := e.w.Write(safe)
	return len(data), err
}
