package scaffold

import (
	"bytes"
	"fmt"
	"go/format"
	"strings"
	"text/template"

	"github.com/kvmigrate/kvmigrate/migrate"
)

// A stub is what the files of a new migration say.
type stub struct {
	Package string
	Version uint32
	Name    string
}

// ID returns the migration's number and name as migrate.Migration.ID does.
func (s stub) ID() string { return "v" + s.Number() + "_" + s.Name }

// Number returns the version as files and functions have it.
func (s stub) Number() string { return fmt.Sprintf("%04d", s.Version) }

// Before returns the version that the migration starts from.
func (s stub) Before() uint32 { return s.Version - 1 }

// The function has a number and no name, so that another migration with the
// number does not compile beside it.
var sourceTemplate = template.Must(template.New("migration").Parse(`package {{.Package}}

import (
	"context"
	"errors"

	"github.com/kvmigrate/kvmigrate/migrate"
)

func init() {
	migrate.Register(migrate.Migration{
		Version: {{.Version}},
		Name: "{{.Name}}",
		Description: "", // TODO: completes "migrating v{{.Before}} -> v{{.Version}}: …" in the log, for example "adding thing"
		Up: up{{.Number}},
	})
}

// up{{.Number}} TODO: say what changes, and why. Then write it, fill
// {{.ID}}/fixture.txt with entries for it to work on, and keep to this:
//
//   - Copy the types that it reads and writes into this file, with names that
//     end in {{.Number}}. Live types go on changing, and history must not.
//   - Read and write through tx alone. tx.Update keeps the expiry and user meta
//     of an entry, tx.Set drops them.
//   - Take the time from tx.Now and nothing from chance: it may run twice, and
//     both runs must write the same.
//   - Once it is released, never edit it. Write the next one.
func up{{.Number}}(ctx context.Context, tx *migrate.Tx) error {
	return errors.New("write this migration, and the entries of its fixture.txt; then go test -update writes its after.txt, for you to review")
}
`))

var testTemplate = template.Must(template.New("test").Parse(`package {{.Package}}

import (
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
)

// TestMigrations holds every version against its golden files, from every version
// before it and through a crash at every operation. go test -update writes what a
// new version leaves; review the difference.
func TestMigrations(t *testing.T) {
	migratetest.Run(t, migratetest.Suite{ {{.Fields}} })
}

// TestFrozen finds released migrations that were edited. While a version is being
// written, newmigration -accept N takes it as it is.
func TestFrozen(t *testing.T) {
	if err := frozen.Check("."); err != nil {
		t.Error(err)
	}
}
`))

// test returns the file that tests all migrations, formatted.
func (s stub) test(schema, golden string) ([]byte, error) {
	var fields []string
	if schema != "" {
		fields = append(fields, fmt.Sprintf("Schema: %q", schema))
	}
	if golden != "testdata/golden" {
		fields = append(fields, fmt.Sprintf("Golden: %q", golden))
	}
	var out bytes.Buffer
	err := testTemplate.Execute(&out, struct{ Package, Fields string }{s.Package, strings.Join(fields, ", ")})
	if err != nil {
		return nil, err
	}
	return format.Source(out.Bytes())
}

// source returns the migration's file, formatted.
func (s stub) source() ([]byte, error) {
	var out bytes.Buffer
	if err := sourceTemplate.Execute(&out, s); err != nil {
		return nil, err
	}
	return format.Source(out.Bytes())
}

// fixture returns the fixture's file, which has no entries yet.
func (s stub) fixture(schema string) []byte {
	if schema == "" {
		schema = migrate.DefaultSchema
	}
	return fmt.Appendf(nil, `# Entries that the store holds before %s runs, added to what the
# migrations before it left: one a line, a quoted key and a value, e.g.
# "%s/1" {"id": 1}
# Lines that start with # mean nothing.
`, s.ID(), schema)
}
