package tablescli

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
)

// catalogOf returns the definitions of all tables in the store.
func catalogOf(s store.Reader) ([]systables.Definition, error) {
	catalog, err := systables.Catalog(s)
	if err == nil && len(catalog) == 0 {
		err = errors.New("the store has no system tables: see status")
	}
	return catalog, err
}

// definitionOf returns the definition of a table by its name, with or without the
// schema.
func definitionOf(s store.Reader, name string) (systables.Definition, error) {
	catalog, err := catalogOf(s)
	if err != nil {
		return systables.Definition{}, err
	}
	name = strings.TrimPrefix(name, migrations.Schema+".")
	i := slices.IndexFunc(catalog, func(d systables.Definition) bool { return d.Name == name })
	if i < 0 {
		return systables.Definition{}, cli.Usage(fmt.Errorf("the store has no table %q: see tables", name))
	}
	return catalog[i], nil
}

// partition returns that of the table's rows, or of an index.
func partition(d systables.Definition, index string) (store.Partition, error) {
	name := migrations.Schema + "." + d.Name
	if index != "" {
		name += "." + index
	}
	part, err := store.NewPartition(name)
	if err != nil {
		return part, fmt.Errorf("%w: catalog: %w", store.ErrCorrupt, err)
	}
	return part, nil
}

// knownColumns are the columns of a table that this program knows, by name.
func knownColumns(d systables.Definition) map[string]systables.Column {
	columns := map[string]systables.Column{}
	for _, known := range systables.Definitions() {
		if known.Name != d.Name {
			continue
		}
		for _, c := range known.Columns {
			columns[c.Name] = c
		}
	}
	return columns
}

// masked reports whether a column is not to be shown unless that is asked for.
func masked(known map[string]systables.Column, column string) bool {
	c, ok := known[column]
	return !ok || c.Secret
}

type (
	summary struct {
		Name    string `json:"name"`
		Rows    uint64 `json:"rows"`
		Bytes   uint64 `json:"bytes"`
		Version uint32 `json:"version"`
		Comment string `json:"comment"`

		indexes []index
	}
	details struct {
		summary
		Columns    []column `json:"columns"`
		PrimaryKey []string `json:"primary_key"`
		Indexes    []index  `json:"indexes"`
	}
	column struct {
		Name     string `json:"name"`
		Type     string `json:"type"`
		Nullable bool   `json:"nullable"`
		Secret   bool   `json:"secret"`
		Comment  string `json:"comment"`
	}
	index struct {
		Name    string   `json:"name"`
		Columns []string `json:"columns"`
		Unique  bool     `json:"unique"`
		Entries uint64   `json:"entries"`
	}
)

// summarize reads all rows of a table and entries of its indexes.
func summarize(s store.Reader, d systables.Definition) (summary, error) {
	sum := summary{Name: d.Name, Version: d.Version, Comment: d.Comment, indexes: []index{}}
	var err error
	if sum.Rows, err = sum.count(s, d, ""); err != nil {
		return sum, err
	}
	for _, ix := range d.Indexes {
		entries, err := sum.count(s, d, ix.Name)
		if err != nil {
			return sum, err
		}
		sum.indexes = append(sum.indexes, index{ix.Name, ix.Columns, ix.Unique, entries})
	}
	return sum, nil
}

// count counts the entries of a partition and adds their size to sum.
func (sum *summary) count(s store.Reader, d systables.Definition, index string) (n uint64, err error) {
	part, err := partition(d, index)
	if err != nil {
		return 0, err
	}
	for e, err := range s.Scan(store.Scan{Prefix: part.Prefix()}) {
		if err != nil {
			return n, err
		}
		n++
		sum.Bytes += uint64(len(e.Key) + len(e.Value))
	}
	return n, nil
}

func detail(s store.Reader, d systables.Definition) (details, error) {
	sum, err := summarize(s, d)
	out := details{summary: sum, PrimaryKey: d.PrimaryKey, Indexes: sum.indexes}
	known := knownColumns(d)
	for _, c := range d.Columns {
		out.Columns = append(out.Columns, column{c.Name, c.Type, c.Nullable, masked(known, c.Name), c.Comment})
	}
	return out, err
}

// A query selects rows of a table.
type query struct {
	prefix       string
	since, until time.Time // zero if there is no bound
	limit        int       // 0 if there is none
	reverse      bool
}

// rows yields the rows that q selects, as entries with their primary key.
func (q query) rows(s store.Reader, d systables.Definition) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		n := 0
		for e, err := range q.all(s, d) {
			if !yield(e, err) || err != nil {
				return
			}
			if n++; n == q.limit {
				return
			}
		}
	}
}

// all is rows without the limit.
func (q query) all(s store.Reader, d systables.Definition) iter.Seq2[store.Entry, error] {
	fail := func(err error) iter.Seq2[store.Entry, error] {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, err) }
	}
	rows, err := partition(d, "")
	if err != nil {
		return fail(err)
	}
	if q.since.IsZero() && q.until.IsZero() {
		return q.byKey(s, rows, func([]byte) bool { return true })
	}
	i := slices.IndexFunc(d.Columns, func(c systables.Column) bool { return c.Type == "Timestamp" })
	if i < 0 {
		return fail(cli.Usage(fmt.Errorf("--since and --until: %s has no column of a time", rows.Name())))
	}
	for _, ix := range d.Indexes {
		if len(ix.Columns) > 0 && ix.Columns[0] == d.Columns[i].Name {
			part, err := partition(d, ix.Name)
			if err != nil {
				return fail(err)
			}
			return q.byTime(s, rows, part)
		}
	}
	return q.byKey(s, rows, func(row []byte) bool {
		columns, err := value.UnmarshalMap(row)
		if err != nil {
			return true // it may be of that time, and is shown as malformed
		}
		var ms int64
		if data, ok := columns[d.Columns[i].Name]; !ok || value.Unmarshal(data, &ms) != nil {
			return false
		}
		return !q.before(ms) && !q.after(ms)
	})
}

func (q query) before(ms int64) bool { return !q.since.IsZero() && time.UnixMilli(ms).Before(q.since) }
func (q query) after(ms int64) bool  { return !q.until.IsZero() && !time.UnixMilli(ms).Before(q.until) }

// byKey yields the rows of which keep is true in the order of their keys.
func (q query) byKey(s store.Reader, rows store.Partition, keep func(row []byte) bool) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range s.Scan(store.Scan{Prefix: rows.Key([]byte(q.prefix)), Reverse: q.reverse}) {
			if err == nil {
				if !keep(e.Value) {
					continue
				}
				e.Key, _ = rows.Cut(e.Key)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// byTime yields the rows in the order of an index by time.
func (q query) byTime(s store.Reader, rows, ix store.Partition) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for entry, err := range s.Scan(q.scan(ix)) {
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			key, _ := ix.Cut(entry.Key)
			elements, err := tuple.Decode(key)
			var ms int64
			var id string
			if err == nil && len(elements) > 0 {
				ms, _ = elements[0].(int64)
				err = value.Unmarshal(entry.Value, &id)
			}
			if err != nil {
				yield(store.Entry{}, fmt.Errorf("%w: an entry of index %s: see verify", store.ErrCorrupt, ix.Name()))
				return
			}
			if q.reverse && q.before(ms) || !q.reverse && q.after(ms) {
				return
			}
			if q.before(ms) || q.after(ms) || !strings.HasPrefix(id, q.prefix) {
				continue
			}
			e, err := s.Get(rows.Key([]byte(id)))
			if errors.Is(err, store.ErrNotFound) {
				continue // it expired; verify finds an entry without a row
			}
			e.Key = []byte(id)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// scan returns the part of an index by time that holds all of q's rows.
func (q query) scan(ix store.Partition) store.Scan {
	scan := store.Scan{Prefix: ix.Prefix(), Reverse: q.reverse}
	switch {
	case q.reverse && !q.until.IsZero():
		scan.From = ix.Key(tuple.AppendInt(nil, q.until.UnixMilli()+1))
	case !q.reverse && !q.since.IsZero():
		scan.From = ix.Key(tuple.AppendInt(nil, q.since.UnixMilli()))
	}
	return scan
}
