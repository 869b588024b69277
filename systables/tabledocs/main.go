// Command tabledocs writes docs/system-tables.md: it creates a store, runs the
// migrations one after the other, and describes the catalog that they leave.
//
//	tabledocs ../docs/system-tables.md
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tabledocs FILE")
		os.Exit(2)
	}
	if err := generate(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "tabledocs:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, file string) error {
	var page bytes.Buffer
	if err := describe(ctx, &page); err != nil {
		return err
	}
	return os.WriteFile(file, page.Bytes(), 0o644)
}

// describe writes the page.
func describe(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "tabledocs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	runner, err := migrate.New(st, migrate.Options{
		Schema: migrations.Schema, AllowUnreleased: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	var catalog []systables.Definition
	since := map[string]uint32{} // the versions in which things first were in the catalog
	for _, m := range migrate.DefaultRegistry().Migrations() {
		if _, err := runner.UpTo(ctx, m.Version); err != nil {
			return err
		}
		err := st.View(ctx, func(s store.Reader) (err error) {
			catalog, err = systables.Catalog(s)
			return err
		})
		if err != nil {
			return err
		}
		for _, thing := range things(catalog) {
			if _, ok := since[thing]; !ok {
				since[thing] = m.Version
			}
		}
	}
	_, err = io.WriteString(w, page(catalog, since))
	return err
}

// The names of what a catalog has, across all versions.
func tableName(d systables.Definition) string { return d.Name }

func columnName(d systables.Definition, c systables.Column) string {
	return d.Name + " column " + c.Name
}

func indexName(d systables.Definition, ix systables.IndexDefinition) string {
	return d.Name + " index " + ix.Name
}

func things(catalog []systables.Definition) (names []string) {
	for _, d := range catalog {
		names = append(names, tableName(d))
		for _, c := range d.Columns {
			names = append(names, columnName(d, c))
		}
		for _, ix := range d.Indexes {
			names = append(names, indexName(d, ix))
		}
	}
	return names
}

func page(catalog []systables.Definition, since map[string]uint32) string {
	var b strings.Builder
	b.WriteString(`# System tables

Generated from the catalog by ` + "`go generate ./systables`" + `: do not edit.

What the types mean, and how rows and indexes are stored, is in [On-disk format](on-disk-format.md). "since" is the schema version that brought the table, column or index. Values of secret columns are masked by ` + "`kvmigrate get`" + ` and ` + "`scan`" + `.
`)
	for _, d := range catalog {
		fmt.Fprintf(&b, "\n## %s.%s\n\n%s. Since v%d; version %d of its own.\n\n", migrations.Schema, d.Name, d.Comment, since[tableName(d)], d.Version)
		b.WriteString("| column | type | null | since | |\n|---|---|---|---|---|\n")
		for _, c := range d.Columns {
			null := ""
			if c.Nullable {
				null = "null"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | v%d | %s |\n", c.Name, c.Type, null, since[columnName(d, c)], notes(d, c))
		}
		for _, ix := range d.Indexes {
			kind := "Index"
			if ix.Unique {
				kind = "Unique index"
			}
			fmt.Fprintf(&b, "\n%s `%s` on `%s`, since v%d.\n", kind, ix.Name, strings.Join(ix.Columns, "`, `"), since[indexName(d, ix)])
		}
	}
	return b.String()
}

// notes are what there is to say of a column.
func notes(d systables.Definition, c systables.Column) string {
	var notes []string
	if slices.Contains(d.PrimaryKey, c.Name) {
		notes = append(notes, "primary key")
	}
	k := known(d, c)
	if k.Secret {
		notes = append(notes, "secret")
	}
	if k.NotEmpty {
		notes = append(notes, "not empty")
	}
	if c.Comment != "" {
		notes = append(notes, strings.ReplaceAll(c.Comment, "|", `\|`))
	}
	return strings.Join(notes, "; ")
}

// known returns c as this program knows it, which says more than the catalog.
func known(d systables.Definition, c systables.Column) systables.Column {
	for _, table := range systables.Definitions() {
		if i := slices.IndexFunc(table.Columns, func(k systables.Column) bool { return k.Name == c.Name }); table.Name == d.Name && i >= 0 {
			return table.Columns[i]
		}
	}
	return systables.Column{}
}
