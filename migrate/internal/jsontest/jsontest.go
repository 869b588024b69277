// Package jsontest holds JSON against the schemas in docs/schemas, in tests.
package jsontest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schemas are those of a directory, by the names of their files without .json.
type Schemas map[string]*jsonschema.Schema

// Load reads the schemas in dir. They are strict: a key that a schema does not name is
// an error, though users must expect new ones.
func Load(dir string) (Schemas, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
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
		object, _ := schema.(map[string]any)
		id, _ := object["$id"].(string)
		if filepath.Base(id) != filepath.Base(file) {
			return nil, fmt.Errorf("%s has the $id %q", file, id)
		}
		makeStrict(schema)
		if err := compiler.AddResource(id, schema); err != nil {
			return nil, err
		}
		ids[strings.TrimSuffix(filepath.Base(file), ".json")] = id
	}
	all := Schemas{}
	for name, id := range ids {
		if all[name], err = compiler.Compile(id); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// makeStrict leaves a schema no place for keys that it does not name.
func makeStrict(schema any) {
	switch s := schema.(type) {
	case []any:
		for _, v := range s {
			makeStrict(v)
		}
	case map[string]any:
		for _, v := range s {
			makeStrict(v)
		}
		if _, names := s["properties"].(map[string]any); names && s["type"] == "object" {
			s["additionalProperties"] = false
		}
	}
}

// Check reports what is wrong with text, which is to be one value of the schema of that
// name.
func (all Schemas) Check(name string, text io.Reader) error {
	schema := all[name]
	if schema == nil {
		return fmt.Errorf("there is no schema %s.json", name)
	}
	v, err := jsonschema.UnmarshalJSON(text)
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		return fmt.Errorf("it is not as %s.json has it: %w", name, err)
	}
	return nil
}
