package tablescli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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
		return systables.Definition{}, cli.Usage(fmt.Errorf("the store has no table %q: tables lists them", name))
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

// keyBy returns the primary key of the row that has a text in a column with a unique
// index. The error matches store.ErrNotFound if there is none.
func keyBy(s store.Reader, d systables.Definition, column, text string) (key string, err error) {
	var unique []string
	for _, ix := range d.Indexes {
		if !ix.Unique || len(ix.Columns) != 1 {
			continue
		}
		if ix.Columns[0] != column {
			unique = append(unique, ix.Columns[0])
			continue
		}
		part, err := partition(d, ix.Name)
		if err != nil {
			return "", err
		}
		e, err := s.Get(part.Key(tuple.AppendString(nil, text)))
		if err != nil {
			return "", err
		}
		if err := value.Unmarshal(e.Value, &key); err != nil {
			return "", fmt.Errorf("%w: an entry of index %s: see verify", store.ErrCorrupt, part.Name())
		}
		return key, nil
	}
	if len(unique) == 0 {
		return "", cli.Usage(fmt.Errorf("--by %q: table %s has no unique index", column, printable(d.Name)))
	}
	return "", cli.Usage(fmt.Errorf("--by %q: the columns of table %s with a unique index are %s", column, printable(d.Name), printable(strings.Join(unique, ", "))))
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
