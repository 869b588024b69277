// Package docs_test does what the documents say.
package docs_test

//go:generate go run ../testdata/picture -root ..

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

// fileBlocks matches "`path`:" followed by a block of Go.
var fileBlocks = regexp.MustCompile("(?m)^`([^`\n]+)`:\n\n```go\n((?s:.*?))```$")

// TestGettingStarted builds the program of getting-started.md word for word, in
// a module of its own, and runs it.
func TestGettingStarted(t *testing.T) {
	page, err := os.ReadFile("getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blocks := fileBlocks.FindAllSubmatch(page, -1)
	if len(blocks) != 6 {
		t.Fatalf("found %d files in the page, want 6", len(blocks))
	}
	for _, b := range blocks {
		path := filepath.Join(dir, string(b[1]))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b[2], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := requireThisModule(t, dir)
	run(t, dir, env, "go", "mod", "tidy")

	if diff := cmp.Diff("v0 -> v2\n", run(t, dir, env, "go", "run", ".")); diff != "" {
		t.Errorf("first run (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("v2 -> v2\n", run(t, dir, env, "go", "run", ".")); diff != "" {
		t.Errorf("second run (-want +got):\n%s", diff)
	}
	for arg, want := range map[string]string{"status": "stored version  v2\n", "history": "add_titles", "--help": "admin --store DIR up"} {
		if got := run(t, dir, env, "go", "run", "./admin", arg); !strings.Contains(got, want) {
			t.Errorf("admin %s prints\n%s\nwant %q in it", arg, got, want)
		}
	}
	run(t, dir, env, "go", "generate", "./migrations")
	run(t, dir, env, "go", "test", "./migrations", "-update")
	run(t, dir, env, "go", "test", "./migrations")
	for _, path := range []string{"golden/v0002_add_titles/after.txt", "stores/v0002/MANIFEST"} {
		if _, err := os.Stat(filepath.Join(dir, "migrations/testdata", path)); err != nil {
			t.Error(err)
		}
	}
	run(t, dir, append(env, "NAME=add_tags"), "go", "generate", "./migrations")
	run(t, dir, env, "go", "vet", "./...")
	file := filepath.Join(dir, "migrations", "v0003_add_tags.go")
	if err := os.WriteFile(file, []byte("package migrations\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := frozen.Check(filepath.Dir(file)); !errors.Is(err, frozen.ErrEdited) {
		t.Errorf("Check after an edit = %v, want ErrEdited", err)
	}
	frozenTest := exec.CommandContext(t.Context(), "go", "test", "./migrations", "-run", "TestFrozen")
	frozenTest.Dir, frozenTest.Env = dir, append(os.Environ(), env...)
	if out, err := frozenTest.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("edited")) {
		t.Errorf("the page's test after an edit: %v\n%s", err, out)
	}
	const accept = "go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -dir migrations -accept 3"
	if !bytes.Contains(page, []byte("\n"+accept+"\n")) {
		t.Errorf("the page does not say %q", accept)
	}
	run(t, dir, env, "go", strings.Fields(accept)[1:]...)
	if err := frozen.Check(filepath.Dir(file)); err != nil {
		t.Error(err)
	}
	run(t, dir, env, "go", "get", "-tool", "github.com/kvmigrate/kvmigrate/migrate/cmd/migratevet")
	tool := strings.TrimSpace(run(t, dir, env, "go", "tool", "-n", "migratevet"))
	run(t, dir, env, "go", "vet", "-vettool="+tool, "-live", "example.com/notes/tables/...", "./migrations")
}

// pageBlocks matches a block with what stands before and after it: the name of a
// file, or that the commands fail.
var pageBlocks = regexp.MustCompile("(?ms)(?:^`([^`\n]+)`:\n\n)?^```(go|text|sh)\n(.*?)^```\n(\nfails)?")

// TestWritingMigrations does what writing-migrations.md says, from top to bottom.
func TestWritingMigrations(t *testing.T) {
	page, err := os.ReadFile("writing-migrations.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := requireThisModule(t, dir)
	files, commands := 0, 0
	steps, branches, _ := strings.Cut(string(page), "\n## Two branches took one number\n")
	for _, b := range pageBlocks.FindAllStringSubmatch(steps, -1) {
		path, kind, text, fails := b[1], b[2], b[3], b[4] != ""
		if kind != "sh" {
			files++
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		commands++
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", text)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if fails != (err != nil) {
			t.Fatalf("%s\nfails = %v, want %v:\n%s", text, err != nil, fails, out)
		}
		if strings.HasPrefix(text, "NAME=count_words") {
			fixture, err := os.ReadFile(filepath.Join(dir, "migrations/testdata/golden/v0001_count_words/fixture.txt"))
			if err != nil || !strings.Contains(string(fixture), `# "notes/1" {`) {
				t.Errorf("the fixture = %s, %v; want an example of the schema", fixture, err)
			}
		}
		if fails && !strings.Contains(string(out), "write this migration, and the entries of its fixture.txt") {
			t.Errorf("%s\nsays\n%s", text, out)
		}
	}
	if files != 4 || commands != 6 {
		t.Errorf("%d files and %d blocks of commands, want 4 and 6", files, commands)
	}
	t.Run("two branches", func(t *testing.T) { twoBranches(t, dir, branches) })
	golden := filepath.Join(dir, "migrations", "testdata", "golden", "v0001_count_words")
	for name, want := range map[string]string{
		"after.txt":     `"notes/1" {"text": "Hello, wide world", "words": 3}`,
		"bad_row.error": "note: decode value of 1 bytes",
	} {
		if text, err := os.ReadFile(filepath.Join(golden, name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s = %s, %v; want %s in it", name, text, err, want)
		}
	}
}

// twoBranches lets two branches of the module in dir take one number, and does what
// the page says then.
func twoBranches(t *testing.T, dir, page string) {
	t.Helper()
	env := []string{"HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GOCACHE=" + strings.TrimSpace(run(t, dir, nil, "go", "env", "GOCACHE")),
		"GOPATH=" + strings.TrimSpace(run(t, dir, nil, "go", "env", "GOPATH")),
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"}
	sh := func(script string) { t.Helper(); run(t, dir, env, "sh", "-ec", script) }
	sh("git init -q -b main && git add -A && git commit -qm words && git branch links")
	for _, name := range []string{"add_tags", "add_links"} {
		if name == "add_links" {
			sh("git checkout -q links")
		}
		sh("NAME=" + name + " go generate ./migrations")
		file := filepath.Join(dir, "migrations", "v0002_"+name+".go")
		stub, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(string(stub), "\treturn errors.New(")
		body := strings.Replace(before, `"errors"`, `"github.com/kvmigrate/kvmigrate/store"`, 1) +
			"\treturn tx.Set(store.Entry{Key: []byte(\"notes/" + name + "\")})\n}\n"
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		sh("go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -dir migrations -accept 2 && go test ./migrations -update && git add -A && git commit -qm " + name)
	}
	sh("! git merge main")
	for _, b := range pageBlocks.FindAllStringSubmatch(page, -1) {
		sh(b[3])
	}
	sh("git commit -qm merged && go test -count=1 ./migrations && git diff --exit-code main -- migrations/testdata/stores/v0001 migrations/testdata/stores/v0002 migrations/v0002_add_tags.go")
}

// requireThisModule stands in for go get of the module alone: the one in dir requires
// this working tree, and knows nothing yet of what that depends on. It returns the
// environment in which commands look that up where it was downloaded to.
func requireThisModule(t *testing.T, dir string) (env []string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/kvmigrate/kvmigrate"
	text := "module example.com/notes\n\ngo 1.26.0\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root + "\n"
	// What go mod tidy looks at is more than a build of this repository downloads.
	all := t.TempDir()
	tools := "tool (\n\t" + module + "/migrate/cmd/newmigration\n\t" + module + "/migrate/cmd/migratevet\n)\n"
	uses := "package notes\n\nimport (\n\t_ \"" + module + "/migrate/cli\"\n\t_ \"" + module + "/migrate/migratetest\"\n)\n"
	for path, text := range map[string]string{
		filepath.Join(dir, "go.mod"): text, filepath.Join(all, "go.mod"): text + tools, filepath.Join(all, "uses.go"): uses,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	proxy, err := exec.CommandContext(t.Context(), "go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	run(t, all, []string{"GOPROXY=" + strings.TrimSpace(string(proxy)), "GOSUMDB=off"}, "go", "mod", "tidy")
	cache := strings.TrimSpace(run(t, all, nil, "go", "env", "GOMODCACHE"))
	return []string{"GOFLAGS=-buildvcs=false", "GOPROXY=file://" + filepath.ToSlash(cache) + "/cache/download", "GOSUMDB=off", "GOWORK=off"}
}

// download has what the commands of a test look up fetched.
func download(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
}

// useThisModule stands in for go get: the module in dir uses this working tree,
// at the versions of its go.mod and go.sum.
func useThisModule(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	_, requires, _ := strings.Cut(string(mod), "\n")
	text := "module example.com/notes\n" + requires +
		"\nrequire github.com/kvmigrate/kvmigrate v0.0.0\nreplace github.com/kvmigrate/kvmigrate => " + root + "\n"
	for name, data := range map[string][]byte{"go.mod": []byte(text), "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	download(t, dir)
}

// run runs a command in dir and returns what it prints on standard output.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOPROXY=off", "GOWORK=off"), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// TestReadmeShowsTheDemo runs the demo and holds the picture in the README
// against what it prints.
func TestReadmeShowsTheDemo(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, picture, _ := strings.Cut(string(readme), "```console\n$ make demo\n")
	picture, _, _ = strings.Cut(picture, "```")
	times := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	got := strings.TrimPrefix(times.ReplaceAllString(run(t, "..", nil, "go", "run", "./testdata/demo"), "TIME"), "\n")
	if diff := cmp.Diff(times.ReplaceAllString(picture, "TIME"), got); diff != "" {
		t.Errorf("README and demo (-want +got):\n%s", diff)
	}
}

// TestPicture runs the demo once more and draws it.
func TestPicture(t *testing.T) {
	dir := t.TempDir()
	run(t, "..", nil, "go", "run", "./testdata/picture", "-out", dir)
	for _, name := range []string{"demo.svg", "demo-narrow.svg"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what the demo prints; go generate ./docs draws it anew (-demo +picture):\n%s", name, diff)
		}
	}
}

// TestVerifyCodes holds the codes of verify.md against those in the code, in order.
func TestVerifyCodes(t *testing.T) {
	find := func(pattern, path string) (codes []string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			codes = append(codes, string(m[1]))
		}
		return codes
	}
	var want []string
	for _, path := range []string{"../migrate/verify.go", "../systables/validate.go", "../systables/verify.go"} {
		want = append(want, find(`(?m)^\t(?:code|Fault)\w+ .*= "([a-z_]+)"`, path)...)
	}
	if diff := cmp.Diff(want, find("(?m)^\\| `([a-z_]+)` \\|", "verify.md")); diff != "" || len(want) < 40 {
		t.Errorf("%d codes; verify.md differs (-code +page):\n%s", len(want), diff)
	}
}

// TestLinks finds links between and within documents that lead nowhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	code := regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`")
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	var pages []string
	for _, pattern := range []string{"../*.md", "*.md", "*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	links := 0
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range link.FindAllSubmatch(code.ReplaceAll(data, nil), -1) {
			links++
			target := filepath.Join(filepath.Dir(page), string(l[1]))
			if len(l[1]) == 0 {
				target = page
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if len(l[2]) == 0 {
				continue
			}
			text, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %v", page, err)
			}
			if !slices.ContainsFunc(heading.FindAllSubmatch(text, -1), func(h [][]byte) bool { return anchor(string(h[1])) == string(l[2]) }) {
				t.Errorf("%s: %s has no heading #%s", page, target, l[2])
			}
		}
	}
	if links == 0 {
		t.Error("found no links at all")
	}
}

// TestImportDirection: store <- migrate <- migrations <- systables <- programs,
// and only badgerstore imports Badger.
func TestImportDirection(t *testing.T) {
	const module = "github.com/kvmigrate/kvmigrate/"
	layer := func(pkg string) int {
		for i, prefix := range []string{"store", "migrate/cmd", "migrate", "migrations", "systables"} {
			if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
				return map[int]int{0: 0, 1: 9, 2: 1, 3: 2, 4: 3}[i]
			}
		}
		return 9 // programs import what they like
	}
	lines := run(t, "..", nil, "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	seen := 0
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], module)
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "github.com/dgraph-io/badger") && from != "store/badgerstore" {
				t.Errorf("%s imports Badger: only store/badgerstore may", from)
			}
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			seen++
			if layer(to) > layer(from) {
				t.Errorf("%s imports %s, against the direction store <- migrate <- migrations <- systables", from, to)
			}
		}
	}
	if seen < 10 {
		t.Errorf("saw %d imports within the module: the test looks at the wrong thing", seen)
	}
}
