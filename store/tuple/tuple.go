// Package tuple encodes tuples of strings and integers as keys whose byte order
// is the order of the tuples: element by element, strings by their bytes,
// integers by value, a shorter tuple before its extensions.
//
// # Encoding
//
// A string is the byte 0x02, its bytes with each 0x00 written as 0x00 0xff, and
// a final 0x00. An integer is the byte 0x15 and its eight bytes, big-endian,
// with the sign bit flipped. A missing element (a null column) is the byte 0x00
// and orders before every other.
//
// The bytes of a tuple start those of its extensions, and those of tuples in
// which its last string goes on with 0x00. The latter order behind all of its
// extensions; [HasPrefix] tells them apart.
package tuple

import (
	"bytes"
	"encoding/binary"
	"errors"
)

const (
	tagNull   = 0x00
	tagString = 0x02
	tagInt    = 0x15
	signBit   = 1 << 63
)

// ErrMalformed means that the bytes are not the encoding of a tuple.
var ErrMalformed = errors.New("malformed tuple key")

// AppendString appends the encoding of s to key.
func AppendString(key []byte, s string) []byte {
	key = append(key, tagString)
	for i := range len(s) {
		key = append(key, s[i])
		if s[i] == 0 {
			key = append(key, 0xff)
		}
	}
	return append(key, 0)
}

// AppendInt appends the encoding of n to key.
func AppendInt(key []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(key, tagInt), uint64(n)^signBit)
}

// AppendNull appends the encoding of a missing element to key.
func AppendNull(key []byte) []byte { return append(key, tagNull) }

// HasPrefix reports whether the tuple of key starts with the elements of the tuple
// of prefix: where a scan over the bytes of prefix first meets a key that does not,
// none that follows does. Both must be encodings of tuples, or such keys of one
// partition. It may be called concurrently.
func HasPrefix(key, prefix []byte) bool {
	rest, ok := bytes.CutPrefix(key, prefix)
	// An element never starts with what an escaped zero goes on with.
	return ok && (len(rest) == 0 || rest[0] != 0xff)
}

// Decode returns the elements of key: string, int64, or nil for a missing one.
// If key is not the encoding of a tuple, the error is [ErrMalformed].
func Decode(key []byte) ([]any, error) {
	var elements []any
	for len(key) > 0 {
		tag, rest := key[0], key[1:]
		switch tag {
		case tagNull:
			elements, key = append(elements, nil), rest
		case tagInt:
			if len(rest) < 8 {
				return nil, ErrMalformed
			}
			elements = append(elements, int64(binary.BigEndian.Uint64(rest)^signBit))
			key = rest[8:]
		case tagString:
			s, after, err := cutString(rest)
			if err != nil {
				return nil, err
			}
			elements, key = append(elements, s), after
		default:
			return nil, ErrMalformed
		}
	}
	return elements, nil
}

func cutString(b []byte) (s string, after []byte, err error) {
	var out []byte
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return "", nil, ErrMalformed
		}
		out = append(out, b[:i]...)
		b = b[i+1:]
		if len(b) == 0 || b[0] != 0xff {
			return string(out), b, nil
		}
		out = append(out, 0)
		b = b[1:]
	}
}
