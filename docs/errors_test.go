package docs_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// An errorEntry is what errors.md says of one error, or of several that are seen together.
type errorEntry struct {
	heading string
	names   []string // those of the code, such as "store.ErrLocked"; none if it has no name
	texts   []string // lines that one sees
	code    string   // the exit code, "" if only a program meets it
	link    string   // what provokes it, as the link is named
	path    string   // and where that is
}

var (
	errorHeading = regexp.MustCompile(`(?m)^### (.*)$`)
	errorName    = regexp.MustCompile("`([a-z]+\\.[A-Z]\\w*)`")
	errorText    = regexp.MustCompile("(?ms)^```text\n(.*?)^```$")
	errorSource  = regexp.MustCompile(`(?m)^(?:Exit code (\d)|Only in a program), \[([^\]]+)\]\(([^)]+)\)\.$`)
	indexRow     = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\|$")
	indexLink    = regexp.MustCompile(`\]\(#([^)]+)\)`)
	exitRow      = regexp.MustCompile("(?m)^\\| (\\d) \\| `(cli\\.\\w+)` \\| .* \\| \\[[^\\]]+\\]\\(([^)]+)\\) \\|$")
)

// TestErrors holds errors.md against the code: every exported error and exit code has its
// entry, no entry is of one that is gone, and each names what provokes it and shows what
// that asserts.
func TestErrors(t *testing.T) {
	data, err := os.ReadFile("errors.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	entries := errorEntries(page)
	declared, exits := exportedErrors(t, "..", "../store/etcdstore")
	if len(declared) < 50 || len(exits) < 4 {
		t.Fatalf("found %d errors and %d exit codes: the test looks at the wrong thing", len(declared), len(exits))
	}
	missing := maps.Clone(declared)
	for _, e := range entries {
		for _, name := range e.names {
			if _, ok := declared[name]; !ok {
				t.Errorf("errors.md: %s is no exported error: remove its entry", name)
			}
			delete(missing, name)
		}
		t.Run(e.heading, func(t *testing.T) { e.check(t, declared) })
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("errors.md lacks %s, of %s. Add:\n\n%s", name, missing[name], fmt.Sprintf(newEntry, name))
	}
	checkIndex(t, page, entries)

	for _, row := range exitRow.FindAllStringSubmatch(page, -1) {
		code, ok := exits[row[2]]
		if !ok || code != row[1] {
			t.Errorf("errors.md: %s is %s, and in the code it is %q", row[2], row[1], code)
		}
		delete(exits, row[2])
		if len(readScript(t, row[3])[row[1]]) == 0 {
			t.Errorf("%s has no line that begins with \"exits %s\"", row[3], row[1])
		}
	}
	for name, code := range exits {
		t.Errorf("errors.md has no row for %s, which is %s", name, code)
	}
}

const newEntry = "### `%[1]s`\n\n```text\nkvmigrate: the whole line that one sees\n```\n\n" +
	"What it means, what to do next.\n\n" +
	"Exit code N, [script.txtar](../testdata/cli/script.txtar).\n\n" +
	"The script asserts that line: after \"exits N kvmigrate …\" comes \"stderr '^kvmigrate: …$'\".\n" +
	"FAULT of kvmigrate-faulty makes what takes a faulty program (migrate/cmd/kvmigrate/faulty_test.go).\n" +
	"What no command meets ends with \"Only in a program, [TestName](../path_test.go).\" instead.\n" +
	"Add the words of the line to the list at the top of the page, in the order of the alphabet.\n"

func errorEntries(page string) (entries []errorEntry) {
	starts := errorHeading.FindAllStringSubmatchIndex(page, -1)
	for i, s := range starts {
		end := len(page)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		e, body := errorEntry{heading: page[s[2]:s[3]]}, page[s[1]:end]
		for _, m := range errorName.FindAllStringSubmatch(e.heading, -1) {
			e.names = append(e.names, m[1])
		}
		if m := errorText.FindStringSubmatch(body); m != nil {
			e.texts = strings.Split(strings.TrimSuffix(m[1], "\n"), "\n")
		}
		if m := errorSource.FindStringSubmatch(body); m != nil {
			e.code, e.link, e.path = m[1], m[2], m[3]
		}
		entries = append(entries, e)
	}
	return entries
}

func (e errorEntry) check(t *testing.T, declared map[string]token.Position) {
	switch {
	case len(e.texts) == 0:
		t.Error("it has no block of text that shows what one sees")
	case e.link == "":
		t.Error(`it does not end with "Exit code N, [SCRIPT](PATH)." or "Only in a program, [TEST](PATH)."`)
	case e.code == "":
		e.checkProgram(t, declared)
	case e.link != filepath.Base(e.path):
		t.Errorf("the link %s leads to %s", e.link, e.path)
	default:
		patterns := readScript(t, e.path)[e.code]
		for _, text := range e.texts {
			if !slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(text) }) {
				t.Errorf("after no \"exits %s\" has %s a line stderr '^…$' that matches\n%s", e.code, e.path, text)
			}
		}
	}
}

// checkProgram checks that the test is there, and has the errors in its code.
func (e errorEntry) checkProgram(t *testing.T, declared map[string]token.Position) {
	file, err := parser.ParseFile(token.NewFileSet(), e.path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == e.link {
			ast.Inspect(f, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					used[id.Name] = true
				}
				return true
			})
		}
	}
	for _, name := range e.names {
		_, short, _ := strings.Cut(name, ".")
		if !used[short] {
			t.Errorf("%s has no func %s that has %s in it", e.path, e.link, short)
		}
		if text := message(t, declared[name], short); text != "" && !strings.Contains(strings.Join(e.texts, "\n"), text) {
			t.Errorf("the text of %s is %q", name, text)
		}
	}
}

// message returns the text that errors.New gives the variable, "" if it is declared in
// another way.
func message(t *testing.T, at token.Position, name string) (text string) {
	t.Helper()
	if !at.IsValid() {
		return "" // which is an error by itself
	}
	file, err := parser.ParseFile(token.NewFileSet(), at.Filename, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || v.Names[0].Name != name {
			return true
		}
		if call, ok := v.Values[0].(*ast.CallExpr); ok && len(call.Args) == 1 {
			if lit, ok := call.Args[0].(*ast.BasicLit); ok {
				text, _ = strconv.Unquote(lit.Value) // of a literal that was parsed
			}
		}
		return false
	})
	return text
}

// readScript returns, by exit code, the patterns of whole lines that a script asserts after
// a command that exits with it.
func readScript(t *testing.T, path string) map[string][]*regexp.Regexp {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	script, _, _ := strings.Cut(string(data), "\n-- ")
	asserts := regexp.MustCompile(`^std(?:err|out) (?:-count=\d+ )?'(\^.*\$)'$`)
	patterns, code := map[string][]*regexp.Regexp{}, ""
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "exits "); ok {
			code, _, _ = strings.Cut(rest, " ")
			patterns[code] = append(patterns[code], regexp.MustCompile(`^$`))
		} else if m := asserts.FindStringSubmatch(line); m != nil {
			patterns[code] = append(patterns[code], regexp.MustCompile(strings.ReplaceAll(m[1], "''", "'")))
		}
	}
	return patterns
}

// checkIndex checks that the list of words leads to what says them, has all that the
// commands say, and is in order.
func checkIndex(t *testing.T, page string, entries []errorEntry) {
	t.Helper()
	byAnchor, listed, last := map[string]errorEntry{}, map[string]bool{}, ""
	for _, e := range entries {
		byAnchor[anchor(e.heading)] = e
	}
	_, index, _ := strings.Cut(page, "\n## What it says\n")
	index, _, _ = strings.Cut(index, "\n## ")
	for _, row := range indexRow.FindAllStringSubmatch(index, -1) {
		words := row[1]
		if strings.ToLower(words) < strings.ToLower(last) {
			t.Errorf("errors.md: %q comes after %q in the list", words, last)
		}
		last = words
		said := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(words), "…", ".*"))
		for _, l := range indexLink.FindAllStringSubmatch(row[2], -1) {
			listed[l[1]] = true
			if !said.MatchString(strings.Join(byAnchor[l[1]].texts, "\n")) {
				t.Errorf("errors.md: the text at #%s does not have %q", l[1], words)
			}
		}
	}
	for at, e := range byAnchor {
		if e.code != "" && !listed[at] && e.heading != "`migrate.ErrRefused`" {
			t.Errorf("errors.md: the list of words has none for %s", e.heading)
		}
	}
}

// exportedErrors returns where the exported errors and error types of the modules in dirs
// are declared, and the values of the exit codes.
func exportedErrors(t *testing.T, dirs ...string) (declared map[string]token.Position, exits map[string]string) {
	t.Helper()
	declared, exits = map[string]token.Position{}, map[string]string{}
	failure := types.Universe.Lookup("error").Type().Underlying().(*types.Interface)
	for _, dir := range dirs {
		fset := token.NewFileSet()
		loaded, err := packages.Load(&packages.Config{
			Context: t.Context(), Dir: dir, Fset: fset,
			Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedTypes | packages.NeedExportFile,
		}, "./...")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range loaded {
			for _, err := range p.Errors {
				t.Fatal(err)
			}
			if p.Name == "main" || strings.Contains(p.PkgPath, "/internal/") {
				continue
			}
			for _, name := range p.Types.Scope().Names() {
				obj := p.Types.Scope().Lookup(name)
				if !obj.Exported() {
					continue
				}
				is := types.Implements(obj.Type(), failure)
				switch obj := obj.(type) {
				case *types.TypeName:
					is = !types.IsInterface(obj.Type()) && (is || types.Implements(types.NewPointer(obj.Type()), failure))
				case *types.Const:
					if p.Name == "cli" && strings.HasPrefix(name, "Exit") {
						exits["cli."+name] = obj.Val().ExactString()
						if obj.Val().Kind() != constant.Int {
							t.Errorf("cli.%s is no number", name)
						}
					}
				case *types.Func:
					is = false
				}
				if is {
					declared[p.Name+"."+name] = fset.Position(obj.Pos())
				}
			}
		}
	}
	return declared, exits
}

// anchor returns the fragment by which GitHub links to a heading.
func anchor(heading string) string {
	heading = strings.ToLower(strings.TrimSpace(heading))
	heading = regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}
