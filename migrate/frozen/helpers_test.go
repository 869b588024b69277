package frozen_test

import (
	"errors"
	"go/scanner"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

// helped is a module whose migrations have helpers: v1 uses encode, and by way of
// it prefix, codec, limits and the package kept; v2 none; v3 rows and the states.
// The go:generate is in two parts, or the go command would run it for this file.
var helped = map[string]string{
	"go.mod": "module example.com/notes\n",
	"migrations/v0001_first.go": `package migrations

func up0001(m map[string]int) []byte { return encode(m) }
`,
	"migrations/v0002_second.go": `package migrations

import "example.com/notes/live"

func up0002() int { return live.encode + live.Rows }
`,
	"migrations/v0003_third.go": `package migrations

var up0003 = func() (string, int) { return rows, done }

type note0003 struct{}
`,
	"migrations/helpers.go": `//go:build !never

package migrations

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"example.com/notes/migrations/kept"
	odd "example.com/notes/odd"
	"gopkg.in/yaml.v3"
)

//` + `go:generate newmigration

// encode is a helper.
func encode(m map[string]int) []byte {
	if len(m) > limits["row"] {
		return nil
	}
	return append([]byte(prefix), codec{}.bytes(m)...)
}

type codec struct{ indent, Rows string }

func (c *codec) bytes(m map[string]int) []byte { data, _ := json.Marshal(m); return append(data, kept.End) }

const (
	prefix = "notes/"
	other  = "tags/"
)

const (
	open = iota
	done
)

var limits = map[string]int{}

func init() { limits["row"] = 10 }

var _ = adjust(limits)

func adjust(map[string]int) int { return 1 }

//go:embed rows.txt
var rows string

func (note0003) key() string { return "3" }

func unused() { fmt.Println(strings.ToUpper(other), odd.One, yaml.Node{}) }

func init() { unused() }
`,
	"migrations/helpers_test.go": "package migrations\n\nfunc encode() {}\n",
	"migrations/generate.go":     "//go:build ignore\n\npackage main\n\nfunc encode() {}\n",
	"migrations/rows.txt":        "one\n",
	"migrations/kept/kept.go":    "package kept\n\nconst End = 0\n",
}

// TestHelpers: a version covers the declarations of other files that it uses, and
// no others.
func TestHelpers(t *testing.T) {
	const helpers = "migrations/helpers.go"
	type edit struct{ file, old, with string }
	insert := func(decl string) edit { return edit{helpers, "// encode is", decl + "\n\n// encode is"} }
	for _, tt := range []struct {
		name string
		edit edit
		want []uint32
	}{
		{name: "comment", edit: edit{helpers, "is a helper", "was a helper"}},
		{name: "formatting", edit: edit{helpers, "{ indent, Rows string }", "{\n\tindent, Rows string\n}"}},
		{name: "one line", edit: edit{helpers, "\tprefix = \"notes/\"\n\tother ", "other = \"\"; prefix = \"notes/\"\nlater"}},
		{name: "without a group", edit: edit{helpers, "const (\n\tprefix = \"notes/\"", "const prefix = \"notes/\"\nconst ("}},
		{name: "order", edit: edit{helpers, "type codec struct{ indent, Rows string }\n\nfunc (c *codec) bytes(m map[string]int) []byte { data, _ := json.Marshal(m); return append(data, kept.End) }",
			"func (c *codec) bytes(m map[string]int) []byte { data, _ := json.Marshal(m); return append(data, kept.End) }\n\ntype codec struct{ indent, Rows string }"}},
		{name: "go:generate", edit: edit{helpers, "//go:generate newmigration", "//go:generate x"}},
		{name: "what nothing uses", edit: edit{helpers, "ToUpper", "ToLower"}},
		{name: "init that changes nothing used", edit: edit{helpers, "{ unused() }", "{ unused(); unused() }"}},
		{name: "constant of a group that nothing uses", edit: edit{helpers, "tags/", "tag/"}},
		{name: "import that another declaration uses", edit: edit{helpers, `odd "example.com/notes/odd"`, `odd "example.com/notes/even"`}},
		{name: "import whose package is a word of its path", edit: edit{helpers, "yaml.v3", "yaml.v2"}},
		{name: "blank import", edit: edit{helpers, `_ "embed"`, `_ "embed"; _ "time/tzdata"`}},
		{name: "new helper", edit: insert("func decode0004() {}")},
		{name: "new helper with an import", edit: edit{helpers, "yaml.v3\"\n)\n", "yaml.v3\"\n\t\"sort\"\n)\n\nvar sort0004 = sort.Ints\n"}},
		{name: "new file", edit: edit{"migrations/types.go", "", "package migrations\n\nimport \"sort\"\n\nfunc sorted0004(ids []int) { sort.Ints(ids) }\n"}},
		{name: "test", edit: edit{"migrations/helpers_test.go", "{}", "{ return }"}},
		{name: "another package in the folder", edit: edit{"migrations/generate.go", "{}", "{ return }"}},

		{name: "function", edit: edit{helpers, "return nil", "return []byte{}"}, want: []uint32{1}},
		{name: "type", edit: edit{helpers, "indent, Rows", "indent, Columns"}, want: []uint32{1}},
		{name: "method", edit: edit{helpers, "append(data, kept", "append(data, data[0], kept"}, want: []uint32{1}},
		{name: "new method", edit: insert("func (codec) MarshalCBOR() ([]byte, error) { return nil, nil }"), want: []uint32{1}},
		{name: "constant", edit: edit{helpers, "notes/\"\n", "note/\"\n"}, want: []uint32{1}},
		{name: "init that changes a variable", edit: edit{helpers, "= 10", "= 11"}, want: []uint32{1}},
		{name: "new init that changes a variable", edit: insert(`func init() { limits["row"] = 9 }`), want: []uint32{1}},
		{name: "initializer without a name", edit: edit{helpers, "adjust(limits)", "(adjust(limits))"}, want: []uint32{1}},
		{name: "function of an initializer without a name", edit: edit{helpers, "return 1", "return 2"}, want: []uint32{1}},
		{name: "import", edit: edit{helpers, `"encoding/json"`, `json "encoding/json/v2"`}, want: []uint32{1}},
		{name: "frozen package", edit: edit{"migrations/kept/kept.go", "0", "1"}, want: []uint32{1}},
		{name: "method of a type of the version", edit: edit{helpers, `"3"`, `"4"`}, want: []uint32{3}},
		{name: "place in a group that counts", edit: edit{helpers, "\tdone", "\trunning\n\tdone"}, want: []uint32{3}},
		{name: "embedded file", edit: edit{"migrations/rows.txt", "one", "two"}, want: []uint32{3}},
		{name: "embed directive", edit: edit{helpers, "embed rows.txt", "embed rows.txt kept"}, want: []uint32{3}},
		{name: "build constraint", edit: edit{helpers, "!never", "never"}, want: []uint32{1, 3}},
		{name: "another variant", edit: edit{"migrations/helpers_windows.go", "", "package migrations\n\nconst prefix = \"note/\"\n"}, want: []uint32{1}},
		{name: "import without a use that shows", edit: edit{helpers, `"encoding/json"`, "\"encoding/json\"\n\t\"example.com/go_hidden\""}, want: []uint32{1, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(helped)
			dir := write(t, files)
			if err := frozen.Update(dir); err != nil {
				t.Fatal(err)
			}
			files["migrations/"+frozen.SumFile] = read(t, filepath.Join(dir, frozen.SumFile))
			if !strings.Contains(files[tt.edit.file], tt.edit.old) {
				t.Fatalf("%q is not in %s", tt.edit.old, tt.edit.file)
			}
			files[tt.edit.file] = strings.Replace(files[tt.edit.file], tt.edit.old, tt.edit.with, 1)
			err := frozen.Check(write(t, files))

			var got []uint32
			if faults, ok := errors.AsType[*multierror.Error](err); ok {
				for _, e := range faults.WrappedErrors() {
					v, ok := errors.AsType[*frozen.VersionError](e)
					if !ok || !errors.Is(v, frozen.ErrEdited) || !strings.Contains(v.Error(), "helpers.go") {
						t.Fatalf("fault %v, want one of an edit that names helpers.go", e)
					}
					got = append(got, v.Version)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("edited versions (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHelperMoved: a declaration counts wherever it is, and where it is.
func TestHelperMoved(t *testing.T) {
	files := maps.Clone(helped)
	dir := write(t, files)
	if err := frozen.Update(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "helpers.go")
	const decl = "func adjust(map[string]int) int { return 1 }\n"
	put(t, path, strings.Replace(read(t, path), decl, "", 1))
	put(t, filepath.Join(dir, "adjust.go"), "package migrations\n\n"+decl)
	checkFaults(t, dir, []fault{{1, "first", "v0001_first.go", frozen.ErrEdited, "what it uses: adjust.go, helpers.go, kept/kept.go"}}, frozen.Check(dir))
}

// TestBadHelpers: helpers that cannot be read stop everything, once.
func TestBadHelpers(t *testing.T) {
	dir := write(t, helped)
	if err := frozen.Update(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "helpers.go")
	good := read(t, path)
	for text, want := range map[string]error{
		"package\n": scanner.ErrorList{},
		strings.Replace(good, "embed rows.txt", "embed none.txt", 1): fs.ErrNotExist,
	} {
		put(t, path, text)
		for i, err := range []error{frozen.Check(dir), frozen.Update(dir), frozen.Accept(dir, 1)} {
			if err == nil || !matches(err, want) || !strings.Contains(err.Error(), "helpers.go") {
				t.Errorf("call %d: %v, want an error that matches %v and names helpers.go", i, err, want)
			}
			if _, ok := errors.AsType[*frozen.VersionError](err); ok {
				t.Errorf("call %d: %v is of one version", i, err)
			}
		}
	}
}
