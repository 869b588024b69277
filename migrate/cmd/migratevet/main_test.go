package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/kvmigrate/kvmigrate"

// TestGoVet runs the built command under go vet, over this module's migrations,
// those of the program in testdata/notes, and a bad one.
func TestGoVet(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(t.TempDir(), "migratevet.exe") // Windows insists on a suffix
	if out, err := run(t, ".", "go", "build", "-o", tool, "."); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	for _, good := range []struct{ dir, live string }{
		{root, module + "/systables/..."},
		{filepath.Join(root, "testdata/notes"), "example.com/notes/notebook"},
	} {
		if out, err := run(t, good.dir, "go", "vet", "-vettool="+tool, "-live", good.live, "./migrations"); err != nil {
			t.Errorf("the migrations in %s: %v\n%s", good.dir, err, out)
		}
	}

	out, err := run(t, badModule(t, root), "go", "vet", "-mod=mod", "-vettool="+tool, "-live", module+"/systables/...", "./...")
	if err == nil {
		t.Error("go vet passes a bad migration")
	}
	for _, want := range []string{
		"v0001_bad.go:10:2: github.com/kvmigrate/kvmigrate/systables goes on changing",
		"v0001_bad.go:14:2: the order of a map differs",
		"v0001_bad.go:15:3: the error of Set is dropped",
		"v0001_bad.go:15:46: time.Now differs",
		"v0001_bad.go:17:2: a Tx belongs to one goroutine",
		"v0001_bad.go:18:6: the error of Delete is dropped",
		"helpers.go:9:2: the error of helper is dropped",
		"clock.go:5:34: time.Now differs",
		"helpers.go:14:2: this writes in the order of a map",
	} {
		if n := strings.Count(out, want); n != 1 {
			t.Errorf("go vet says %q %d times, want once:\n%s", want, n, out)
		}
	}
}

// badModule writes a module that uses the working tree at root.
func badModule(t *testing.T, root string) string {
	t.Helper()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	_, requires, _ := strings.Cut(string(mod), "\n")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/notes\n" + requires + "\nrequire " + module + " v0.0.0\nreplace " + module + " => " + root + "\n",
		"go.sum": string(sum),
		"v0001_bad.go": `package migrations

import (
	"context"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"

	_ "github.com/kvmigrate/kvmigrate/systables"
)

func up0001(_ context.Context, tx *migrate.Tx, txn store.Txn, m map[string]bool) {
	for k := range m {
		txn.Set(store.Entry{Value: []byte(k + time.Now().String())})
	}
	go println()
	_ = (tx.Delete(nil))
}
`,
		"clock.go": `package migrations

import "time"

func stamp() int64 { return time.Now().Unix() }
`,
		"clock_test.go": `package migrations

import "testing"

func TestStamp(t *testing.T) { stamp() }
`,
		"helpers.go": `package migrations

import (
	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

func helper(tx *migrate.Tx, m map[string]bool) (err error) {
	helper(tx, nil)
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for _, k := range keys {
		err = tx.Set(store.Entry{Key: []byte(k)})
	}
	return err
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run runs a command in dir and returns what it prints.
func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
