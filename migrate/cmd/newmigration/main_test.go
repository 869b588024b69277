package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

func TestRun(t *testing.T) {
	const (
		one = "v0001_add_thing.go\n"
		two = "testdata/golden/v0001_add_thing/fixture.txt\n"
		tri = "migrations_test.go\n"
	)
	for _, tt := range []struct {
		name   string
		args   []string
		env    string
		status int
		stdout string
		stderr string // is contained in it
	}{
		{name: "argument", args: []string{"add_thing"}, stdout: one + two + tri},
		{name: "environment", env: "add_thing", stdout: one + two + tri},
		{name: "argument before environment", args: []string{"add_thing"}, env: "other", stdout: one + two + tri},
		{name: "golden", args: []string{"-golden", "g", "add_thing"}, stdout: one + "g/v0001_add_thing/fixture.txt\n" + tri},
		{name: "dir", args: []string{"-dir", "sub", "add_thing"}, stdout: "sub/" + one + "sub/" + two + "sub/" + tri},
		{name: "no name", stderr: "no migration to start"},
		{name: "empty argument", args: []string{""}, env: "add_thing", status: 1, stderr: "bad name"},
		{name: "bad name", env: "Add", status: 1, stderr: "bad name"},
		{name: "no folder", args: []string{"-dir", "none", "add_thing"}, status: 1, stderr: "does not exist"},
		{name: "two names", args: []string{"add_thing", "add_other"}, status: 2, stderr: "usage"},
		{name: "accept no version", args: []string{"-accept", "0"}, status: 2, stderr: "want one version"},
		{name: "accept two versions", args: []string{"-accept", "1", "-accept", "2"}, status: 2, stderr: "want one version"},
		{name: "accept and argument", args: []string{"-accept", "1", "add_thing"}, status: 2, stderr: "usage"},
		{name: "accept and environment", args: []string{"-accept", "1"}, env: "add_thing", status: 2, stderr: "usage"},
		{name: "accept what is not there", args: []string{"-accept", "1"}, status: 1, stderr: "v1: it has no line"},
		{name: "no name, no folder", args: []string{"-dir", "none"}, status: 1, stderr: "none"},
		{name: "unknown flag", args: []string{"-x", "add_thing"}, status: 2, stderr: "usage"},
		{name: "help", args: []string{"-h"}, env: "add_thing", stderr: "usage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.Mkdir("sub", 0o755); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), tt.args, tt.env, &stdout, &stderr)
			if status != tt.status || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("status %d, want %d, with %q in what it says:\n%s", status, tt.status, tt.stderr, &stderr)
			}
			if diff := cmp.Diff(tt.stdout, filepath.ToSlash(stdout.String())); diff != "" {
				t.Errorf("stdout (-want +got):\n%s", diff)
			}
			var made []string
			for line := range strings.Lines(tt.stdout) {
				made = append(made, strings.TrimSpace(line))
			}
			for _, path := range made {
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
			if len(made) > 0 {
				if err := frozen.Check(filepath.Dir(made[0])); err != nil {
					t.Error(err)
				}
				return
			}
			entries, err := os.ReadDir(".")
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 1 {
				t.Errorf("it left %v", entries)
			}
		})
	}
}

// TestFrozen goes the way of an author: the line of a new version is there from
// the start, keeps what it says, and is renewed on demand alone. Until then the
// command warns, and starts no version after it.
func TestFrozen(t *testing.T) {
	t.Chdir(t.TempDir())
	call := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if status := run(t.Context(), args, "", &out, &out); status != want {
			t.Fatalf("newmigration %v: status %d, want %d\n%s", args, status, want, &out)
		}
		return out.String()
	}
	says := func(out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q, but\n%s", want, out)
			}
		}
	}
	check := func(want error) {
		t.Helper()
		if err := frozen.Check("."); !errors.Is(err, want) {
			t.Fatalf("Check = %v, want %v", err, want)
		}
	}
	const file = "v0002_add_tags.go"
	call(0, "add_notes")
	call(0, "add_tags")
	check(nil)

	if err := os.WriteFile(file, []byte("package migrations\n\nvar up0002 int\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(frozen.ErrEdited)
	says(call(0), "warning: "+file+": it was edited", "newmigration -accept 2`")
	says(call(1, "add_links"), "v3 was not started", file+": it was edited", "newmigration -accept 2`")
	if made, err := filepath.Glob("v0003*"); err != nil || len(made) > 0 {
		t.Errorf("it made %v (%v)", made, err)
	}
	check(frozen.ErrEdited)
	call(1, "-accept", "4")
	call(0, "-accept", "1")
	check(frozen.ErrEdited)
	call(0, "-accept", "2")
	check(nil)
	if out := call(0); strings.Contains(out, "warning") {
		t.Errorf("without a fault it says\n%s", out)
	}
	call(0, "add_links")

	if err := os.WriteFile(file, []byte("package\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	says(call(0), "warning: "+file+":")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	says(call(0), "warning: "+file+": it is gone")
	if err := os.WriteFile(file, []byte("package migrations\n\nvar up0002 int\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(nil)

	if err := os.Remove(frozen.SumFile); err != nil {
		t.Fatal(err)
	}
	check(frozen.ErrUnlisted)
	call(0)
	check(nil)
}
