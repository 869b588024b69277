package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// decode returns the parameters in text, a JSON object whose fields are those of P, a
// struct, or an error that lists all that is wrong with them.
func decode[P any](text string) (params P, err error) {
	fields := fieldsOf(reflect.ValueOf(&params).Elem())
	var faults *multierror.Error
	seen := map[string]bool{}
	err = eachField(text, func(name string, value json.RawMessage) {
		field, known := fields[name]
		switch {
		case !known:
			faults = multierror.Append(faults, fmt.Errorf("parameter %q is unknown", name))
			return
		case seen[name]:
			faults = multierror.Append(faults, fmt.Errorf("parameter %q comes twice", name))
			return
		}
		seen[name] = true
		d := json.NewDecoder(bytes.NewReader(value))
		d.DisallowUnknownFields()
		if err := d.Decode(field.Addr().Interface()); err != nil {
			faults = multierror.Append(faults, fmt.Errorf("parameter %q: %w", name, err))
		}
	})
	if err != nil {
		return params, fmt.Errorf("parameters are no JSON object: %w", err)
	}
	if v, ok := any(&params).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			faults = multierror.Append(faults, err)
		}
	}
	return params, faults.ErrorOrNil()
}

// fieldsOf returns the fields of a struct by the names that they have in JSON.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for f, field := range v.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = field
		}
	}
	return fields
}

// eachField calls fn for each field of the JSON object in text.
func eachField(text string, fn func(name string, value json.RawMessage)) error {
	d := json.NewDecoder(strings.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("want {"), err)
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
