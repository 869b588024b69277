package jobs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
)

// decode returns the parameters in text, a JSON object whose fields are those of P, a
// struct, or an error that lists all that is wrong with them, by their own method
// Validate and by checks as well.
func decode[P any](text string, checks ...func(P) error) (params P, err error) {
	known := map[string]bool{}
	addNames(known, reflect.TypeFor[P]())
	var wrong *multierror.Error
	seen := map[string]bool{}
	err = eachField(text, func(name string, value json.RawMessage) {
		switch {
		case !known[name]:
			wrong = multierror.Append(wrong, fmt.Errorf("parameter %q is unknown", name))
			return
		case seen[name]:
			wrong = multierror.Append(wrong, fmt.Errorf("parameter %q comes twice", name))
			return
		}
		seen[name] = true
		if err := guard(func() error { return setField(&params, name, value) }); err != nil {
			wrong = multierror.Append(wrong, fmt.Errorf("parameter %q: %w", name, err))
		}
	})
	if err != nil {
		return params, fmt.Errorf("parameters are no JSON object: %w", err)
	}
	if v, ok := any(&params).(interface{ Validate() error }); ok {
		checks = append([]func(P) error{func(P) error { return v.Validate() }}, checks...)
	}
	for _, check := range checks {
		err := guard(func() error { return check(params) })
		if _, ok := errors.AsType[*PanicError](err); ok {
			err = fmt.Errorf("validate parameters: %w", err)
		}
		if err != nil {
			wrong = multierror.Append(wrong, err)
		}
	}
	return params, faults.Join(wrong)
}

// addNames adds the names that the fields of a struct have for package encoding/json.
func addNames(names map[string]bool, t reflect.Type) {
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		embedded := f.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		switch {
		case tag == "-":
		case f.Anonymous && name == "" && embedded.Kind() == reflect.Struct:
			addNames(names, embedded)
		case f.IsExported():
			names[cmp.Or(name, f.Name)] = true
		}
	}
}

// setField decodes value into the field of params, a pointer to a struct, that has name.
func setField(params any, name string, value json.RawMessage) error {
	object, err := json.Marshal(map[string]json.RawMessage{name: value})
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	err = d.Decode(params)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("want type %v, not a %s", e.Type, e.Value)
	}
	return err
}

// eachField calls fn for each field of the JSON object in text.
func eachField(text string, fn func(name string, value json.RawMessage)) error {
	d := json.NewDecoder(strings.NewReader(text))
	switch t, err := d.Token(); {
	case err != nil:
		return err
	case t != json.Delim('{'):
		return errors.New("want {")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		fn(t.(string), value)
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows it")
	}
	return nil
}
