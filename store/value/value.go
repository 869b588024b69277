// Package value is how kvmigrate encodes values: CBOR in its core deterministic
// form (RFC 8949, section 4.2.1), so that equal values have equal bytes and
// golden files, fingerprints and checksums are possible.
package value

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

var encMode = must(cbor.CoreDetEncOptions().EncMode())

// The limits keep a damaged value from costing more than its own size many
// times over. Duplicate keys and indefinite lengths never come from Marshal.
var decMode = must(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthForbidden,
	MaxNestedLevels:   32,
	MaxArrayElements:  1 << 20,
	MaxMapPairs:       1 << 16,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	IntDec:            cbor.IntDecConvertNone,
}.DecMode())

func must[M any](mode M, err error) M {
	if err != nil {
		panic("value: " + err.Error())
	}
	return mode
}

// Marshal returns the encoding of v. Structs encode as maps under the rules of
// their `cbor` tags. It may be called concurrently.
func Marshal(v any) ([]byte, error) {
	data, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return data, nil
}

// Unmarshal decodes data, which must be exactly one well-formed item, into the
// value that v points to. The error does not contain the data. It may be called
// concurrently.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode value of %d bytes: %w", len(data), err)
	}
	return nil
}
