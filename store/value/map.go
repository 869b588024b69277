package value

import (
	"errors"

	"github.com/fxamacker/cbor/v2"
)

// A Map is a decoded map whose values stay encoded. Marshal writes them as they
// were read, byte for byte, so that a program changes the columns of a row that
// it knows and keeps those that it does not. Like any map it must not be changed
// concurrently.
type Map map[string]cbor.RawMessage

// UnmarshalMap decodes data, which must be exactly one map with distinct text
// keys; null is not one. The Map shares no memory with data. The error does not
// contain the data. It may be called concurrently.
func UnmarshalMap(data []byte) (Map, error) {
	var m Map
	if err := Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("decode value: null instead of a map")
	}
	return m, nil
}

// Set gives key the encoding of v, or returns the error of [Marshal] and leaves m
// as it is. m must not be nil.
func (m Map) Set(key string, v any) error {
	data, err := Marshal(v)
	if err != nil {
		return err
	}
	m[key] = data
	return nil
}
