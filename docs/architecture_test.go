package docs_test

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	diagrams = regexp.MustCompile("(?ms)^```mermaid\n(.*?)^```$")
	nodes    = regexp.MustCompile(`(\w+)\["([^"<]+)`)
	arrows   = regexp.MustCompile(`(?m)^ *(\w+) --> ([\w &]+)$`)
)

// TestArchitecture holds the diagram of the packages in architecture.md, and the table
// below it, against the imports.
func TestArchitecture(t *testing.T) {
	page := readPage(t, "architecture.md")
	diagram := diagrams.FindStringSubmatch(page)[1]
	imports := moduleImports(t)

	packages := map[string]string{} // by node
	for _, n := range nodes.FindAllStringSubmatch(diagram, -1) {
		packages[n[1]] = n[2]
	}
	shown := map[string][]string{}
	for _, a := range arrows.FindAllStringSubmatch(diagram, -1) {
		from := packages[a[1]]
		for node := range strings.SplitSeq(a[2], " & ") {
			to := packages[node]
			shown[from] = append(shown[from], to)
			if !slices.Contains(imports[from], to) {
				t.Errorf("an arrow leads from %q to %q, which it does not import", from, to)
			}
		}
	}
	if len(packages) < 10 || len(shown) < 10 {
		t.Fatalf("%d packages with arrows from %d: the test looks at the wrong thing", len(packages), len(shown))
	}
	for _, from := range packages {
		if _, ok := imports[from]; !ok {
			t.Errorf("the diagram has %s, which is no package", from)
		}
		for _, to := range imports[from] {
			if slices.Contains(slices.Collect(maps.Values(packages)), to) && !reaches(shown, from, to) {
				t.Errorf("no arrows lead from %s to %s, which it imports", from, to)
			}
		}
	}

	var listed []string
	_, table, _ := strings.Cut(page, "| package | what for |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for row := range strings.Lines(table) {
		for _, p := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.SplitN(row, "|", 3)[1], -1) {
			listed = append(listed, p[1])
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(imports)), listed); diff != "" {
		t.Errorf("the table of packages (-are there +listed):\n%s", diff)
	}
}

// moduleImports returns the importable packages of the modules, by their paths in the
// repository, and what each imports of the others.
func moduleImports(t *testing.T) map[string][]string {
	t.Helper()
	const module = "github.com/kvmigrate/kvmigrate/"
	imports := map[string][]string{}
	for _, dir := range []string{"..", "../store/etcdstore"} {
		list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.Name}} {{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
		list.Dir, list.Stderr = dir, t.Output() // where it says what it downloads
		lines, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(lines)) {
			fields := strings.Fields(line)
			from := strings.TrimPrefix(fields[1], module)
			if fields[0] == "main" || from == "docs" || strings.Contains(from, "internal/") {
				continue
			}
			imports[from] = nil
			for _, imported := range fields[2:] {
				if to, ours := strings.CutPrefix(imported, module); ours {
					imports[from] = append(imports[from], to)
				}
			}
		}
	}
	return imports
}

func reaches(arrows map[string][]string, from, to string) bool {
	return slices.ContainsFunc(arrows[from], func(next string) bool { return next == to || reaches(arrows, next, to) })
}

// TestKeyspace holds the diagram of the keys in architecture.md against the keys in
// on-disk-format.md.
func TestKeyspace(t *testing.T) {
	all := diagrams.FindAllStringSubmatch(readPage(t, "architecture.md"), -1)
	diagram := all[len(all)-1][1]
	var drawn, listed []string
	for _, n := range nodes.FindAllStringSubmatch(diagram, -1) {
		if key, _, _ := strings.Cut(n[2], "…"); strings.HasPrefix(key, "system") {
			drawn = append(drawn, key)
		}
	}
	_, keys, _ := strings.Cut(readPage(t, "on-disk-format.md"), "## Keys of a schema")
	for _, row := range regexp.MustCompile("(?m)^\\| `(system[^`<]*)").FindAllStringSubmatch(keys, -1) {
		listed = append(listed, row[1])
	}
	slices.Sort(drawn)
	slices.Sort(listed)
	if diff := cmp.Diff(listed, drawn); diff != "" || len(drawn) < 5 {
		t.Errorf("keys (-on-disk-format.md +architecture.md):\n%s", diff)
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
