package scaffold_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program is a module that uses its migrations: it prints them, what the
// registry thinks of them, and what each does.
var program = map[string]string{
	"main.go": `package main

import (
	"context"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"

	_ "example.com/notes/migrations"
)

func main() {
	fmt.Println("faults:", migrate.DefaultRegistry().Check())
	for _, m := range migrate.DefaultRegistry().Migrations() {
		fmt.Println(m.ID(), m.Up(context.Background(), nil))
	}
}
`,
	"migrations/migrations.go": `// Package migrations is the history of the notes schema.
package migrations

//` + `go:generate go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -golden ../testdata/golden
`, // in two parts, or the go command would run it for this file
}

// TestGoGenerate goes the way of the documentation, in a module of its own.
func TestGoGenerate(t *testing.T) {
	dir := module(t)
	before := tree(t, dir)
	if _, err := command(t, dir, []string{"NAME="}, "go", "generate", "./..."); err != nil {
		t.Fatal(err)
	}
	unchanged(t, dir, before)

	for _, name := range []string{"add_notes", "add_tags"} {
		if _, err := command(t, dir, []string{"NAME=" + name}, "go", "generate", "./..."); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		"migrations/v0001_add_notes.go", "testdata/golden/v0001_add_notes/fixture.txt",
		"migrations/v0002_add_tags.go", "testdata/golden/v0002_add_tags/fixture.txt",
	} {
		read(t, filepath.Join(dir, filepath.FromSlash(path)))
	}
	if _, err := command(t, dir, nil, "go", "vet", "./..."); err != nil {
		t.Error(err)
	}
	got, err := command(t, dir, nil, "go", "run", ".")
	if err != nil {
		t.Fatal(err)
	}
	want := "faults: <nil>\n" +
		"v0001_add_notes write this migration, and the entries of its fixture.txt; then go test -update writes its after.txt, for you to review\n" +
		"v0002_add_tags write this migration, and the entries of its fixture.txt; then go test -update writes its after.txt, for you to review\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the program prints (-want +got):\n%s", diff)
	}

	before = tree(t, dir)
	if _, err := command(t, dir, []string{"NAME=add_tags"}, "go", "generate", "./..."); err == nil {
		t.Error("go generate succeeded with a name that is taken")
	}
	unchanged(t, dir, before)

	// Another branch took the number too: after the merge nothing compiles.
	merged := strings.ReplaceAll(read(t, filepath.Join(dir, "migrations", "v0002_add_tags.go")), "add_tags", "add_links")
	if err := os.WriteFile(filepath.Join(dir, "migrations", "v0002_add_links.go"), []byte(merged), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t, dir, nil, "go", "build", "./..."); err == nil || !strings.Contains(err.Error(), "up0002 redeclared") {
		t.Errorf("go build with v0002 twice = %v, want up0002 redeclared", err)
	}
}

// TestProcesses runs the command many times at once.
func TestProcesses(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "newmigration.exe") // Windows wants the suffix, nobody else minds
	if _, err := command(t, ".", nil, "go", "build", "-o", bin, "github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		arg  func(int) string
		want uint32 // how many succeed
	}{
		{"different names", func(i int) string { return fmt.Sprintf("add_thing%d", i) }, crowd},
		{"one name", func(int) string { return "add_thing" }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t, "migrations", nil)
			errs := make([]error, crowd)
			var wg sync.WaitGroup
			for i := range crowd {
				wg.Go(func() { _, errs[i] = command(t, dir, nil, bin, tt.arg(i)) })
			}
			wg.Wait()
			won := uint32(0)
			for _, err := range errs {
				if err == nil {
					won++
				} else if !strings.Contains(err.Error(), "already exists") {
					t.Error(err)
				}
			}
			if won != tt.want {
				t.Errorf("%d processes succeeded, want %d", won, tt.want)
			}
			checkLadder(t, dir, tt.want)
		})
	}
}

// module writes program into a folder, as a module that uses this working tree at
// the versions of its go.mod and go.sum.
func module(t *testing.T) string {
	t.Helper()
	root, err := command(t, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kvmigrate/kvmigrate")
	if err != nil {
		t.Fatal(err)
	}
	root = strings.TrimSpace(root)
	_, requires, _ := strings.Cut(read(t, filepath.Join(root, "go.mod")), "\n")
	files := map[string]string{
		"go.mod": fmt.Sprintf("module example.com/notes\n%s\nrequire github.com/kvmigrate/kvmigrate v0.0.0\nreplace github.com/kvmigrate/kvmigrate => %q\n", requires, root),
		"go.sum": read(t, filepath.Join(root, "go.sum")),
	}
	for path, text := range program {
		files[path] = text
	}
	dir := folder(t, "notes", files)
	// The go command writes go.mod its own way; do that before the test looks.
	if _, err := command(t, dir, nil, "go", "build", "-o", os.DevNull, "./..."); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command runs a command in dir, without the network, and returns what it prints
// on standard output. The error has all that it prints. Unlike the functions that
// fail a test it may be called from any goroutine.
func command(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off")
	if dir != "." {
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod")
	}
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", cmd, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}
