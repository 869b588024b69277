package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrate/internal/jsontest"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

// schemas are those of the commands.
var schemas = sync.OnceValues(func() (jsontest.Schemas, error) { return jsontest.Load("../../../docs/schemas") })

// checkJSON checks what a command with these arguments printed.
func checkJSON(args []string, out string) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(args, func(arg string) bool { return all[arg] != nil })
	if i < 0 {
		return fmt.Errorf("docs/schemas has nothing of %q", args)
	}
	name := args[i]
	if name != "dump" && name != "scan" {
		return all.Check(name, strings.NewReader(out))
	}
	for line := range strings.Lines(out) {
		err = errors.Join(err, all.Check(name, strings.NewReader(line)))
	}
	return err
}

// TestSchemas: every command with --json has a schema, and a script that tries it; no
// schema is of no command.
func TestSchemas(t *testing.T) {
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	scripts := ""
	files, err := filepath.Glob("../../../testdata/cli/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		scripts += string(text)
	}
	found := 0
	for cmd := range commands(cli.Command(tablescli.Config())) {
		if cmd.Flags().Lookup("json") == nil {
			continue
		}
		found++
		if all[cmd.Name()] == nil {
			t.Errorf("%s --json has no schema in docs/schemas", cmd.Name())
		}
		if !regexp.MustCompile(`(?m)^exits 0 .* ` + cmd.Name() + `( .*)? --json`).MatchString(scripts) {
			t.Errorf("no script in testdata/cli runs %s --json", cmd.Name())
		}
	}
	if schemas := len(all) - 1; found != schemas || found < 16 { // that of statushttp is of no command
		t.Errorf("%d commands with --json, and %d schemas", found, schemas)
	}
}

// TestStrict: a key that no schema names does not pass.
func TestStrict(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"size_before": 1, "size_after": 2}`:             true,
		`{"size_before": 1, "size_after": 2, "other": 3}`: false,
		`{"size_before": 1}`:                              false,
		`{"size_before": -1, "size_after": 2}`:            false,
		``:                                                false,
	} {
		if err := checkJSON([]string{"--store", "db", "reclaim"}, text); ok != (err == nil) {
			t.Errorf("%s: %v, want ok %v", text, err, ok)
		}
	}
}

// commands yields cmd and all below it.
func commands(cmd *cobra.Command) func(yield func(*cobra.Command) bool) {
	return func(yield func(*cobra.Command) bool) {
		if !yield(cmd) {
			return
		}
		for _, sub := range cmd.Commands() {
			for c := range commands(sub) {
				if !yield(c) {
					return
				}
			}
		}
	}
}
