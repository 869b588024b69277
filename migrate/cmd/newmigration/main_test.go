package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	const (
		one = "v0001_add_thing.go\n"
		two = "testdata/golden/v0001_add_thing/fixture.txt\n"
	)
	for _, tt := range []struct {
		name   string
		args   []string
		env    string
		status int
		stdout string
		stderr string // is contained in it
	}{
		{name: "argument", args: []string{"add_thing"}, stdout: one + two},
		{name: "environment", env: "add_thing", stdout: one + two},
		{name: "argument before environment", args: []string{"add_thing"}, env: "other", stdout: one + two},
		{name: "golden", args: []string{"-golden", "g", "add_thing"}, stdout: one + "g/v0001_add_thing/fixture.txt\n"},
		{name: "dir", args: []string{"-dir", "sub", "add_thing"}, stdout: "sub/" + one + "sub/" + two},
		{name: "no name", stderr: "no migration to start"},
		{name: "empty argument", args: []string{""}, env: "add_thing", status: 1, stderr: "bad name"},
		{name: "bad name", env: "Add", status: 1, stderr: "bad name"},
		{name: "no folder", args: []string{"-dir", "none", "add_thing"}, status: 1, stderr: "does not exist"},
		{name: "two names", args: []string{"add_thing", "add_other"}, status: 2, stderr: "usage"},
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
