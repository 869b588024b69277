// Package value is how kvmigrate encodes values: CBOR in its core deterministic
// form (RFC 8949, section 4.2.1), so that equal values have equal bytes and
// golden files, fingerprints and checksums are possible.
package value

import (
	"errors"
	"fmt"
	"strings"

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
// value that v points to. The text of the error does not contain the data, unless an
// Unmarshal method of a type of the caller's puts it there. It may be called
// concurrently.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode value of %d bytes: %w", len(data), redact(err))
	}
	return nil
}

// A redacted is an error of the decoder without the data in its text.
type redacted struct {
	text  string
	cause error
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.cause }

// redact takes the data out of an error of the decoder: keys of maps that come twice,
// numbers that are too large for their field, and texts that are no time.
func redact(err error) error {
	if e, ok := errors.AsType[*cbor.DupMapKeyError](err); ok {
		return &redacted{fmt.Sprintf("cbor: found duplicate map key at map element index %d", e.Index), err}
	}
	if e, ok := errors.AsType[*cbor.UnmarshalTypeError](err); ok {
		bare := cbor.UnmarshalTypeError{CBORType: e.CBORType, GoType: e.GoType, StructFieldName: e.StructFieldName}
		return &redacted{bare.Error(), err}
	}
	if strings.HasPrefix(err.Error(), "cbor: cannot set ") && strings.Contains(err.Error(), " for time.Time: ") {
		return &redacted{"cbor: cannot set time.Time to a text that is none", err}
	}
	return err
}
