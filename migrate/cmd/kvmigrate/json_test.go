package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
)

// schemas returns what docs/schemas has, by the names of the commands. It is strict: a
// key that a schema does not name is an error, though users must expect new ones.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	files, err := filepath.Glob("../../../docs/schemas/*.json")
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiler.AssertContent()
	ids := map[string]string{}
	for _, file := range files {
		text, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		schema, err := jsonschema.UnmarshalJSON(text)
		if err := errors.Join(err, text.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		id, _ := schema.(map[string]any)["$id"].(string)
		if filepath.Base(id) != filepath.Base(file) {
			return nil, fmt.Errorf("%s has the $id %q", file, id)
		}
		if err := compiler.AddResource(id, strict(schema)); err != nil {
			return nil, err
		}
		ids[strings.TrimSuffix(filepath.Base(file), ".json")] = id
	}
	compiled := map[string]*jsonschema.Schema{}
	for name, id := range ids {
		if compiled[name], err = compiler.Compile(id); err != nil {
			return nil, err
		}
	}
	return compiled, nil
})

// strict returns schema without a place for keys that it does not name.
func strict(schema any) any {
	switch s := schema.(type) {
	case []any:
		for _, v := range s {
			strict(v)
		}
	case map[string]any:
		for _, v := range s {
			strict(v)
		}
		if _, names := s["properties"].(map[string]any); names && s["type"] == "object" {
			s["additionalProperties"] = false
		}
	}
	return schema
}

// checkJSON checks what a command with these arguments printed.
func checkJSON(args []string, out string) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	for _, name := range args {
		schema := all[name]
		if schema == nil {
			continue
		}
		if name == "dump" || name == "scan" {
			for line := range strings.Lines(out) {
				err = errors.Join(err, checkValue(schema, strings.NewReader(line)))
			}
		} else {
			err = checkValue(schema, strings.NewReader(out))
		}
		if err != nil {
			return fmt.Errorf("%s --json is not as docs/schemas/%s.json has it: %w", name, name, err)
		}
		return nil
	}
	return fmt.Errorf("docs/schemas has nothing of %q", args)
}

func checkValue(schema *jsonschema.Schema, text io.Reader) error {
	v, err := jsonschema.UnmarshalJSON(text)
	if err != nil {
		return err
	}
	return schema.Validate(v)
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
	for cmd := range commands(cli.Command(config())) {
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
	if found != len(all) || found < 16 {
		t.Errorf("%d commands with --json, and %d schemas", found, len(all))
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
