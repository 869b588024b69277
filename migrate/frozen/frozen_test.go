package frozen_test

import (
	"errors"
	"go/scanner"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

// history is a module: v1 and v3 use the package kept, v3 by way of via,
// v2 embeds files and uses C.
var history = map[string]string{
	"go.mod": "module \"example.com/notes\" // the notes\n",
	"migrations/v0001_first.go": `//go:build !never

package migrations

import (
	"context"
	"example.com/notes/migrations/kept"
	"example.com/notes/live"
	"fmt"
)

// up0001 is the first.
func up0001(_ context.Context) error {
	fmt.Println(kept.Key(1, 2), live.Key, ` + "`a\nb`" + `)
	return nil
}
`,
	"migrations/v0002_second.go": `package migrations

import (
	_ "embed"
	_ "example.com/notes/migrations/cgo"
)

//go:embed rows.txt "more files"
var rows0002 string
`,
	"migrations/v0003_third.go": `package migrations

import "example.com/notes/migrations/via"

var up0003 = via.Up
`,
	"migrations/migrations.go":         "package migrations\n",
	"migrations/v0001_first_test.go":   "package migrations\n",
	"migrations/rows.txt":              "one\ntwo\n",
	"migrations/more files/three.txt":  "three\n",
	"migrations/more files/.hidden":    "not embedded\n",
	"migrations/kept/kept.go":          "// Package kept is frozen.\npackage kept\n\nfunc Key(a, b int) int { return a + b }\n",
	"migrations/kept/kept_windows.go":  "package kept\n\nconst windows = true\n",
	"migrations/cgo/cgo.go":            "package cgo\n\n// int one(void) { return 1; }\nimport \"C\"\n\nvar One = C.one()\n",
	"migrations/kept/kept_test.go":     "package kept\n",
	"migrations/via/via.go":            "package via\n\nimport \"example.com/notes/migrations/kept\"\n\nfunc Up() int { return kept.Key(1, 1) }\n",
	"migrations/elsewhere/imported.go": "package elsewhere\n",
	"live/live.go":                     "package live\n\nconst Key = 1\n",
}

// A fault is what a test wants of a VersionError.
type fault struct {
	Version uint32
	Name    string
	File    string // relative to the folder
	Is      error
	Text    string // is contained in it
}

const acceptCommand = "go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -accept "

var (
	first  = fault{1, "first", "v0001_first.go", frozen.ErrEdited, acceptCommand + "1`"}
	second = fault{2, "second", "v0002_second.go", frozen.ErrEdited, acceptCommand + "2`"}
	third  = fault{3, "third", "v0003_third.go", frozen.ErrEdited, acceptCommand + "3`"}
)

func TestCheck(t *testing.T) {
	replace := func(file, old, with string) func(map[string]string) {
		return func(files map[string]string) {
			if !strings.Contains(files[file], old) {
				panic(old + " is not in " + file)
			}
			files[file] = strings.Replace(files[file], old, with, 1)
		}
	}
	rename := func(from, to string) func(map[string]string) {
		return func(files map[string]string) {
			files[to] = files[from]
			delete(files, from)
		}
	}
	with := func(f fault, is error, text string) fault {
		f.Is, f.Text = is, text
		return f
	}
	const (
		one  = "migrations/v0001_first.go"
		two  = "migrations/v0002_second.go"
		kept = "migrations/kept/kept.go"
		sum  = "migrations/migrations.sum"
	)
	sumFault := fault{File: frozen.SumFile}
	for _, tt := range []struct {
		name string
		edit func(map[string]string)
		want []fault
	}{
		{name: "nothing", edit: func(map[string]string) {}},

		{name: "comment", edit: replace(one, "is the first.", "was the first.")},
		{name: "comment of a frozen package", edit: replace(kept, "is frozen", "stays")},
		{name: "file that is no migration", edit: replace("migrations/migrations.go", "\n", "\n//go:generate x\n")},
		{name: "CRLF", edit: func(files map[string]string) {
			for name, text := range files {
				if strings.HasSuffix(name, ".go") || name == sum {
					files[name] = strings.ReplaceAll(text, "\n", "\r\n")
				}
			}
		}},
		{name: "formatting", edit: replace(one, "kept.Key(1, 2),", "\n\n\t\tkept.Key(1,2,\n), ")},
		{name: "line break before a bracket", edit: replace(one, "`a\nb`)", "`a\nb`,\n)")},
		{name: "one line", edit: replace(one, "\n\treturn nil\n}", "; return nil }")},
		{name: "imports in another order and grouping", edit: replace(one,
			"import (\n\t\"context\"\n\t\"example.com/notes/migrations/kept\"", "import \"example.com/notes/migrations/kept\"\nimport (\n\t\"context\"")},
		{name: "package outside of the folder", edit: replace("live/live.go", "1", "2")},
		{name: "package that nothing imports", edit: replace("migrations/elsewhere/imported.go", "\n", "\nvar x int\n")},
		{name: "test of a frozen package", edit: replace("migrations/kept/kept_test.go", "\n", "\nvar x int\n")},
		{name: "hidden file beside embedded ones", edit: replace("migrations/more files/.hidden", "not", "NOT")},

		{name: "code", edit: replace(one, "Key(1, 2)", "Key(2, 1)"), want: []fault{first}},
		{name: "raw string", edit: replace(one, "`a\nb`", "`a\n b`"), want: []fault{first}},
		{name: "import alias", edit: replace(one, "\"fmt\"", "fmt2 \"fmt\""), want: []fault{first}},
		{name: "import", edit: replace(one, "\"fmt\"", "\"log\""), want: []fault{first}},
		{name: "build constraint", edit: replace(one, "!never", "never"), want: []fault{first}},
		{name: "no build constraint", edit: replace(one, "//go:build !never", ""), want: []fault{first}},
		{name: "C before its import", edit: replace("migrations/cgo/cgo.go", "return 1", "return 2"), want: []fault{second}},
		{name: "embed directive", edit: replace(two, "rows.txt ", ""), want: []fault{second}},
		{name: "embedded file", edit: replace("migrations/rows.txt", "two", "2"), want: []fault{with(second, frozen.ErrEdited, "rows.txt")}},
		{name: "file in an embedded folder", edit: replace("migrations/more files/three.txt", "three", "3"), want: []fault{second}},
		{name: "new file in an embedded folder", edit: func(files map[string]string) { files["migrations/more files/four.txt"] = "" }, want: []fault{second}},
		{name: "no embedded file", edit: func(files map[string]string) { delete(files, "migrations/rows.txt") }, want: []fault{with(second, fs.ErrNotExist, `"rows.txt" matches no file`)}},

		{name: "frozen package", edit: replace(kept, "a + b", "a - b"), want: []fault{
			with(first, frozen.ErrEdited, "kept/kept.go"), with(third, frozen.ErrEdited, "kept/kept.go, kept/kept_windows.go, via/via.go")}},
		{name: "frozen package on one system", edit: replace("migrations/kept/kept_windows.go", "true", "false"), want: []fault{first, third}},
		{name: "new file of a frozen package", edit: func(files map[string]string) { files["migrations/kept/more.go"] = "package kept\n" }, want: []fault{first, third}},
		{name: "another file name of a frozen package", edit: rename("migrations/kept/kept_windows.go", "migrations/kept/kept_darwin.go"), want: []fault{first, third}},
		{name: "frozen package that is imported by way of another", edit: replace("migrations/via/via.go", "1, 1", "1, 2"), want: []fault{third}},
		{name: "no frozen package", edit: rename("migrations/via/via.go", "elsewhere/via.go"), want: []fault{with(third, fs.ErrNotExist, "via")}},

		{name: "gone", edit: func(files map[string]string) { delete(files, one) }, want: []fault{with(first, frozen.ErrGone, "restore it")}},
		{name: "renamed", edit: rename(one, "migrations/v0001_start.go"), want: []fault{with(first, frozen.ErrGone, acceptCommand+"1`")}},
		{name: "new", edit: func(files map[string]string) { files["migrations/v0004_fourth.go"] = "package migrations\n" }, want: []fault{
			{4, "fourth", "v0004_fourth.go", frozen.ErrUnlisted, "run go generate"}}},
		{name: "no sum", edit: func(files map[string]string) { delete(files, sum) }, want: []fault{
			with(first, frozen.ErrUnlisted, "go generate"), with(second, frozen.ErrUnlisted, ""), with(third, frozen.ErrUnlisted, "")}},
		{name: "number taken by two files", edit: func(files map[string]string) { files["migrations/v0002_other.go"] = "package migrations\n" }, want: []fault{
			{2, "second", "v0002_second.go", frozen.ErrDuplicate, "v0002_other.go has it too"}}},
		{name: "two lines for a number", edit: func(files map[string]string) {
			files[sum] += "v0002 second h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
		}, want: []fault{{2, "second", frozen.SumFile, frozen.ErrDuplicate, "lines 6 and 8"}, second}},
		{name: "merge without an end", edit: replace(sum, "v0001", "<<<<<<< HEAD\nv0001"), want: []fault{
			with(sumFault, frozen.ErrMalformed, `line 5, "<<<<<<< HEAD"`)}},
		{name: "bad hash", edit: replace(sum, "v0001 first h1:", "v0001 first h1:="), want: []fault{
			with(sumFault, frozen.ErrMalformed, "line 5"), with(first, frozen.ErrUnlisted, "")}},
		{name: "bad number", edit: replace(sum, "v0001", "v00001"), want: []fault{
			with(sumFault, frozen.ErrMalformed, "line 5"), with(first, frozen.ErrUnlisted, "")}},
		{name: "syntax error", edit: replace(one, "func up0001(", "func up0001"), want: []fault{with(first, scanner.ErrorList{}, "v0001_first.go:13")}},
		{name: "syntax error in a frozen package", edit: replace(kept, "func Key(", "func Key"), want: []fault{
			with(first, scanner.ErrorList{}, "kept.go:4"), with(third, scanner.ErrorList{}, "kept.go:4")}},
		{name: "all together", edit: func(files map[string]string) {
			replace(one, "1, 2", "2, 1")(files)
			replace(two, "string", "[]byte")(files)
			files[sum] += "v9\n"
		}, want: []fault{with(sumFault, frozen.ErrMalformed, "line 8"), first, second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(history)
			dir := write(t, files)
			if err := frozen.Update(dir); err != nil {
				t.Fatal(err)
			}
			files[sum] = read(t, filepath.Join(dir, frozen.SumFile))
			tt.edit(files)
			dir = write(t, files)
			checkFaults(t, dir, tt.want, frozen.Check(dir))
		})
	}
}

// checkFaults compares what Check returned with the faults that it should find.
func checkFaults(t *testing.T, dir string, want []fault, err error) {
	t.Helper()
	if err == nil {
		err = (*multierror.Error)(nil)
	}
	faults, ok := err.(*multierror.Error)
	if !ok {
		t.Fatalf("Check = %v, want a *multierror.Error", err)
	}
	var got []fault
	for i, e := range faults.WrappedErrors() {
		var v *frozen.VersionError
		if !errors.As(e, &v) {
			t.Fatalf("fault %v, want a *VersionError", e)
		}
		rel, err := filepath.Rel(dir, v.File)
		if err != nil {
			t.Error(err)
		}
		f := fault{v.Version, v.Name, rel, v.Err, e.Error()}
		if i < len(want) {
			if matches(v, want[i].Is) {
				f.Is = want[i].Is
			}
			if strings.Contains(f.Text, want[i].Text) {
				f.Text = want[i].Text
			}
		}
		got = append(got, f)
	}
	same := cmp.Comparer(func(a, b error) bool { return matches(a, b) || matches(b, a) })
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// matches is errors.Is, and takes an empty list of syntax errors for any.
func matches(err, target error) bool {
	var list scanner.ErrorList
	if _, ok := target.(scanner.ErrorList); ok {
		return errors.As(err, &list)
	}
	if _, ok := err.(scanner.ErrorList); ok {
		return false // errors.Is cannot compare it
	}
	return errors.Is(err, target)
}

func TestCheckWithoutMigrations(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(frozen.Check(dir), frozen.Update(dir)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, frozen.SumFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Update made a file for no migration (%v)", err)
	}
	none := filepath.Join(dir, "none")
	for _, err := range []error{frozen.Check(none), frozen.Update(none), frozen.Accept(none, 1)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without the folder: %v, want fs.ErrNotExist", err)
		}
	}
}

// TestUpdate: a line, once written, stays as it is, and so do comments.
func TestUpdate(t *testing.T) {
	files := maps.Clone(history)
	dir := write(t, files)
	path := filepath.Join(dir, frozen.SumFile)
	if err := frozen.Update(dir); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	for _, want := range []string{"# ", "go generate", "\nv0001 first h1:", "\nv0002 second h1:", "\nv0003 third h1:"} {
		if !strings.Contains(before, want) {
			t.Errorf("no %q in\n%s", want, before)
		}
	}

	before = strings.TrimSuffix(before, "\n") + "\n# a remark" // and no line end
	put(t, path, before)
	put(t, filepath.Join(dir, "v0001_first.go"), "package migrations\n")
	for range 2 {
		if err := frozen.Update(dir); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, read(t, path)); diff != "" {
			t.Errorf("without a new version (-want +got):\n%s", diff)
		}
	}

	put(t, filepath.Join(dir, "v0004_fourth.go"), "package migrations\n")
	if err := frozen.Update(dir); err != nil {
		t.Fatal(err)
	}
	added, ok := strings.CutPrefix(read(t, path), before+"\nv0004 fourth h1:")
	if !ok || strings.Count(added, "\n") != 1 {
		t.Errorf("with v4:\n%s\nwant one more line than\n%s", read(t, path), before)
	}
	checkFaults(t, dir, []fault{first}, frozen.Check(dir))
}

func TestAccept(t *testing.T) {
	dir := write(t, history)
	path := filepath.Join(dir, frozen.SumFile)
	if err := frozen.Update(dir); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept", "kept.go")
	put(t, kept, strings.Replace(read(t, kept), "a + b", "b + a", 1))
	before := strings.Split(read(t, path), "\n")
	if err := frozen.Accept(dir, 1); err != nil {
		t.Fatal(err)
	}
	after := strings.Split(read(t, path), "\n")
	var changed []string
	for i := range before {
		if before[i] != after[i] {
			changed = append(changed, strings.Fields(after[i])[0])
		}
	}
	if diff := cmp.Diff([]string{"v0001"}, changed); diff != "" {
		t.Errorf("changed lines (-want +got):\n%s", diff)
	}
	checkFaults(t, dir, []fault{third}, frozen.Check(dir))

	if err := os.Rename(filepath.Join(dir, "v0003_third.go"), filepath.Join(dir, "v0003_last.go")); err != nil {
		t.Fatal(err)
	}
	if err := frozen.Accept(dir, 3); err != nil {
		t.Fatal(err)
	}
	checkFaults(t, dir, nil, frozen.Check(dir))
}

// TestRefusals: what cannot be done changes nothing.
func TestRefusals(t *testing.T) {
	update, accept1 := frozen.Update, func(dir string) error { return frozen.Accept(dir, 1) }
	for _, tt := range []struct {
		name string
		file string // is written; removed if there is no text
		text string
		do   func(dir string) error
		want error
	}{
		{"update, malformed line", frozen.SumFile, ">>>>>>> x\n", update, frozen.ErrMalformed},
		{"accept, malformed line", frozen.SumFile, ">>>>>>> x\n", accept1, frozen.ErrMalformed},
		{"update, number taken twice", "v0001_other.go", "package migrations\n", update, frozen.ErrDuplicate},
		{"accept, number taken twice", "v0001_other.go", "package migrations\n", accept1, frozen.ErrDuplicate},
		{"update, syntax error", "v0004_fourth.go", "package\n", update, scanner.ErrorList{}},
		{"accept, syntax error", "v0001_first.go", "package\n", accept1, scanner.ErrorList{}},
		{"accept, no file", "v0001_first.go", "", accept1, frozen.ErrGone},
		{"accept, no line", "v0004_fourth.go", "package migrations\n", func(dir string) error { return frozen.Accept(dir, 4) }, frozen.ErrUnlisted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, history)
			if err := frozen.Update(dir); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, tt.file)
			if tt.text != "" {
				put(t, path, tt.text)
			} else if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			before := read(t, filepath.Join(dir, frozen.SumFile))
			err := tt.do(dir)
			var v *frozen.VersionError
			if !errors.As(err, &v) || !matches(err, tt.want) {
				t.Errorf("error %v, want a *VersionError that matches %v", err, tt.want)
			}
			if diff := cmp.Diff(before, read(t, filepath.Join(dir, frozen.SumFile))); diff != "" {
				t.Errorf("the file changed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReadOnly: a folder that cannot be written is checked all the same, and an
// Update with nothing to add succeeds in it.
func TestReadOnly(t *testing.T) {
	dir := write(t, history)
	if err := frozen.Update(dir); err != nil {
		t.Fatal(err)
	}
	chmod := func(mode fs.FileMode) {
		t.Helper()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o555)
	t.Cleanup(func() { chmod(0o755) })
	if err := errors.Join(frozen.Check(dir), frozen.Update(dir)); err != nil {
		t.Error(err)
	}

	chmod(0o755)
	put(t, filepath.Join(dir, "v0004_fourth.go"), "package migrations\n")
	chmod(0o555)
	// Root, and Windows, write there nevertheless.
	probe := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o644)
	if err := frozen.Update(dir); (err == nil) != (probe == nil) || err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Update = %v, where writing a file is %v", err, probe)
	}
	entries, err := filepath.Glob(filepath.Join(dir, "."+frozen.SumFile+"*"))
	if err != nil || len(entries) > 0 {
		t.Errorf("it left %v (%v)", entries, err)
	}
}

// TestInTheWay: a folder that has the name of the file is left alone.
func TestInTheWay(t *testing.T) {
	dir := write(t, history)
	if err := os.Mkdir(filepath.Join(dir, frozen.SumFile), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{frozen.Check(dir), frozen.Update(dir), frozen.Accept(dir, 1)} {
		if err == nil || !strings.Contains(err.Error(), frozen.SumFile) {
			t.Errorf("error %v, want one that names %s", err, frozen.SumFile)
		}
	}
}

// write makes a module of files and returns its migrations folder.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, path, text)
	}
	return filepath.Join(root, "migrations")
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
