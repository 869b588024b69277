package systables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// The codes of what Verify finds, beside those of the faults of rows. They do not
// change, and docs/verify.md says what each means.
const (
	codeCatalogMalformed = "catalog_malformed"
	codeCatalogMissing   = "catalog_missing"
	codeCatalogUnknown   = "catalog_unknown"
	codeCatalogDiffers   = "catalog_differs"
	codeCatalogRow       = "catalog_row"
	codeIndexMissing     = "index_missing"
	codeIndexDuplicate   = "index_duplicate"
	codeIndexExpiry      = "index_expiry"
	codeIndexMalformed   = "index_malformed"
	codeIndexDangling    = "index_dangling"
	codeIndexStale       = "index_stale"
)

// Verify is the system tables' part of [migrate.Runner.Verify]: pass it as
// [migrate.VerifyOptions].Check. It checks the catalog, the rows against it, the
// indexes against the rows in both directions, and that nothing else lies where
// the schema keeps its own.
//
// If the store is at the newest version, the catalog must say what this program's
// tables are; at any other the rows are checked against the catalog alone. While a
// migration is under way it looks at neither rows nor indexes.
func Verify(_ context.Context, v *migrate.Verifier) error {
	t := verification{v, map[string]bool{}}
	catalog, err := t.catalog()
	if err != nil {
		return err
	}
	s := v.Status()
	if s.Progress != nil {
		v.Skip(fmt.Sprintf("rows and indexes: the migration to v%d is under way and has changed some of them", s.Progress.Version))
		return nil
	}
	if s.Stored && s.Version == s.Latest {
		catalog = t.compare(catalog)
	} else {
		v.Skip("the catalog is not compared with the tables of this program: the store is not at its version")
	}
	tables := slices.SortedFunc(maps.Values(catalog), func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	var declared [][]byte
	for _, d := range tables {
		parts, err := t.table(d)
		if err != nil {
			return err
		}
		declared = append(declared, parts...)
	}
	if len(tables) == 0 {
		v.Skip("rows, indexes and undeclared keys: there is no catalog")
		return nil
	}
	if err := v.Undeclared([]byte(migrations.Schema+"."), declared...); err != nil {
		return err
	}
	return v.Undeclared([]byte(migrations.Schema+":"), []byte(catalogPrefix), []byte(migrations.Schema+":schema_"))
}

// A verification is one call of Verify.
type verification struct {
	*migrate.Verifier
	malformed map[string]bool // the names of tables whose definition cannot be worked with
}

func (v verification) report(code string, d Definition, key []byte, format string, args ...any) {
	v.Report(migrate.FindingError{
		Code: code, Partition: d.table(), Key: key, Text: d.table() + ": " + fmt.Sprintf(format, args...),
	})
}

// catalog reads the definitions that can be worked with, by name.
func (v verification) catalog() (map[string]Definition, error) {
	catalog := map[string]Definition{}
	for e, err := range v.All([]byte(catalogPrefix)) {
		if err != nil {
			return nil, err
		}
		v.Count("catalog entries", 1)
		name := string(e.Key[len(catalogPrefix):])
		var d Definition
		if value.Unmarshal(e.Value, &d) != nil || d.Name != name || !d.sound() {
			v.malformed[name] = true
			f := migrate.FindingError{Code: codeCatalogMalformed, Key: e.Key, Text: "an entry of the catalog defines no table of its name"}
			if slices.ContainsFunc(Definitions(), func(d Definition) bool { return d.Name == name }) {
				f.Partition = migrations.Schema + "." + name // which is no secret
				f.Text = f.Partition + ": its entry in the catalog defines no table of that name"
			}
			v.Report(f)
			continue
		}
		catalog[name] = d
	}
	return catalog, nil
}

// sound reports whether d names partitions, and in its indexes and primary key only
// columns that it has.
func (d Definition) sound() bool {
	names := []string{d.table()}
	columns := slices.Clone(d.PrimaryKey)
	for _, ix := range d.Indexes {
		names = append(names, d.table()+"."+ix.Name)
		columns = append(columns, ix.Columns...)
	}
	for _, name := range names {
		if _, err := store.NewPartition(name); err != nil {
			return false
		}
	}
	return !slices.ContainsFunc(columns, func(name string) bool {
		_, ok := d.column(name)
		return !ok
	})
}

// compare holds the catalog against this program's tables, and returns what to hold
// the rows against: the program's definitions, and what else the catalog has.
func (v verification) compare(catalog map[string]Definition) map[string]Definition {
	want := map[string]Definition{}
	for _, d := range Definitions() {
		want[d.Name] = d
		key := []byte(catalogPrefix + d.Name)
		got, ok := catalog[d.Name]
		if !ok && v.malformed[d.Name] {
			continue
		}
		if !ok {
			v.report(codeCatalogMissing, d, key, "the catalog does not define the table")
			continue
		}
		if parts := d.differences(got); parts != nil {
			v.report(codeCatalogDiffers, d, key, "the catalog and this program differ in its %s", strings.Join(parts, ", "))
		}
	}
	for name, d := range catalog {
		if _, ok := want[name]; !ok {
			want[name] = d
			v.Report(migrate.FindingError{Code: codeCatalogUnknown, Partition: d.table(), Key: []byte(catalogPrefix + name), Text: "the catalog defines a table that this program does not know"})
		}
	}
	return want
}

// differences returns in what d and other, which has no Values, differ beside
// comments.
func (d Definition) differences(other Definition) (parts []string) {
	if d.Version != other.Version {
		parts = append(parts, "version")
	}
	same := func(a, b Column) bool { return a.Name == b.Name && a.Type == b.Type && a.Nullable == b.Nullable }
	if !slices.EqualFunc(d.Columns, other.Columns, same) {
		parts = append(parts, "columns")
	}
	if !slices.Equal(d.PrimaryKey, other.PrimaryKey) {
		parts = append(parts, "primary key")
	}
	sameIndex := func(a, b IndexDefinition) bool {
		return a.Name == b.Name && a.Unique == b.Unique && slices.Equal(a.Columns, b.Columns)
	}
	if !slices.EqualFunc(d.Indexes, other.Indexes, sameIndex) {
		parts = append(parts, "indexes")
	}
	return parts
}

// table checks what is stored of one table, and returns the prefixes of its
// partitions.
func (v verification) table(d Definition) (parts [][]byte, err error) {
	v.Count("tables", 1)
	if err := v.catalogRow(d); err != nil {
		return nil, err
	}
	rows := store.MustPartition(d.table())
	parts = append(parts, rows.Prefix())
	for e, err := range v.Entries(rows.Prefix()) {
		if err != nil {
			return nil, err
		}
		v.Count("rows", 1)
		key, _ := rows.Cut(e.Key)
		for _, f := range d.faults(key, e.Value) {
			v.Report(migrate.FindingError{Code: string(f.Fault), Partition: f.Table, Column: f.Column, Key: e.Key, Text: f.Error()})
		}
		for _, ix := range d.Indexes {
			if err := v.indexed(d, ix, key, e); err != nil {
				return nil, err
			}
		}
	}
	for _, ix := range d.Indexes {
		part := store.MustPartition(d.table() + "." + ix.Name)
		parts = append(parts, part.Prefix())
		for e, err := range v.Entries(part.Prefix()) {
			if err != nil {
				return nil, err
			}
			v.Count("index entries", 1)
			if err := v.leads(d, ix, e); err != nil {
				return nil, err
			}
		}
	}
	return parts, nil
}

// catalogRow checks the table's row in system.tables.
func (v verification) catalogRow(d Definition) error {
	row, err := Tables.Get(v, TableID(migrations.Schema+":"+d.Name))
	switch {
	case errors.Is(err, ErrNotFound):
		v.report(codeCatalogRow, d, Tables.rows.Key([]byte(migrations.Schema+":"+d.Name)), "the table has no row in %s", Tables.name)
	case errors.Is(err, store.ErrCorrupt): // found with the rows of system.tables
	case err != nil:
		return err
	case row.Name != d.Name || row.Namespace != migrations.Schema || row.Type != "SYSTEM" || row.SchemaVersion != int32(d.Version):
		v.report(codeCatalogRow, d, Tables.rows.Key([]byte(row.ID)), "the table's row in %s is of another table or version", Tables.name)
	}
	return nil
}

// indexed checks that a row has its entry in an index.
func (v verification) indexed(d Definition, ix IndexDefinition, id []byte, row store.Entry) error {
	key, ok := d.indexKey(ix, id, row.Value)
	if !ok || key == nil {
		return nil
	}
	e, err := v.Get(key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return unlessCorrupt(err)
	}
	var ref string
	named := err == nil && value.Unmarshal(e.Value, &ref) == nil
	switch {
	case named && ref == string(id):
		if e.ExpiresAt != row.ExpiresAt {
			v.report(codeIndexExpiry, d, key, "an entry of index %s does not expire with its row", ix.Name)
		}
		return nil
	case named:
		v.report(codeIndexDuplicate, d, row.Key, "the entry of a row in index %s is another row's", ix.Name)
		return nil
	}
	return v.unlessGone(row.Key, func() {
		v.report(codeIndexMissing, d, row.Key, "a row has no entry in index %s", ix.Name)
	})
}

// leads checks that an entry of an index leads to a row that belongs there.
func (v verification) leads(d Definition, ix IndexDefinition, e store.Entry) error {
	var id string
	if value.Unmarshal(e.Value, &id) != nil {
		v.report(codeIndexMalformed, d, e.Key, "an entry of index %s names no row", ix.Name)
		return nil
	}
	row, err := v.Get(store.MustPartition(d.table()).Key([]byte(id)))
	if errors.Is(err, store.ErrNotFound) {
		return v.unlessGone(e.Key, func() {
			v.report(codeIndexDangling, d, e.Key, "an entry of index %s names a row that is not there", ix.Name)
		})
	}
	if err != nil {
		return unlessCorrupt(err)
	}
	if key, ok := d.indexKey(ix, []byte(id), row.Value); ok && string(key) != string(e.Key) {
		v.report(codeIndexStale, d, e.Key, "an entry of index %s names a row that has other columns", ix.Name)
	}
	return nil
}

// unlessGone calls report unless the entry of key expired since it was read: a
// snapshot does not stop the clock.
func (v verification) unlessGone(key []byte, report func()) error {
	_, err := v.Get(key)
	switch {
	case err == nil:
		report()
	case !errors.Is(err, store.ErrNotFound):
		return unlessCorrupt(err)
	}
	return nil
}

// unlessCorrupt returns err, or nil for a damaged value, which is found where its
// partition is read.
func unlessCorrupt(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		return nil
	}
	return err
}

// indexKey returns the key of a row's entry in an index, nil if a column of it is null.
// It is not ok if the row has no such columns, which is a fault of the row.
func (d Definition) indexKey(ix IndexDefinition, id, row []byte) (key []byte, ok bool) {
	columns, err := value.UnmarshalMap(row)
	if err != nil {
		return nil, false
	}
	key = store.MustPartition(d.table() + "." + ix.Name).Key(nil)
	for _, name := range ix.Columns {
		c, _ := d.column(name)
		data, set := columns[name]
		set = set && data[0] != simpleNull
		if slices.Contains(d.PrimaryKey, name) {
			key = tuple.AppendString(key, string(id))
			continue
		}
		switch {
		case !set && c.Nullable:
			return nil, true
		case !set:
			return nil, false
		case c.Type == "Text":
			var s string
			if value.Unmarshal(data, &s) != nil {
				return nil, false
			}
			key = tuple.AppendString(key, s)
		default:
			var n int64
			if value.Unmarshal(data, &n) != nil {
				return nil, false
			}
			key = tuple.AppendInt(key, n)
		}
	}
	return key, true
}
