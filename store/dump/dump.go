// Package dump is the text form of a store: one line an entry, in key order,
// readable in a review and exact, so that loading a dump gives the same entries.
//
// # Format
//
// A line is a key, a value and, where the entry has them, its expiry and user
// meta:
//
//	"system.users/u-0001" {"role": "user", "user_id": "u-0001"}
//	"system:schema_version" hex:00000002
//	"session/9" "text" expires=1767225600 meta=0x01
//
// The key is a Go string literal. The value is CBOR diagnostic notation, of
// which only what JSON also has (RFC 8949, section 8), when the value is a
// deterministically encoded item that can be written so; otherwise hex. Empty
// lines and lines that start with # mean nothing.
package dump

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/fxamacker/cbor/v2"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// Write writes the entries that scan selects from r to w.
func Write(w io.Writer, r store.Reader, scan store.Scan) error {
	out := bufio.NewWriter(w)
	for e, err := range r.Scan(scan) {
		if err != nil {
			return err
		}
		if _, err := out.WriteString(Line(e)); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Line returns the line of e, with its newline.
func Line(e store.Entry) string {
	return strconv.Quote(string(e.Key)) + " " + Text(e) + "\n"
}

// Text returns what Line says of e beside its key.
func Text(e store.Entry) string {
	text := Value(e.Value)
	if e.ExpiresAt != 0 {
		text += fmt.Sprintf(" expires=%d", e.ExpiresAt)
	}
	if e.Meta != 0 {
		text += fmt.Sprintf(" meta=0x%02x", e.Meta)
	}
	return text
}

// Value returns the text of a value alone.
func Value(data []byte) string {
	if text, ok := notation(data); ok {
		return text
	}
	return "hex:" + hex.EncodeToString(data)
}

// notation returns the diagnostic notation of data if reading it back gives
// data again.
func notation(data []byte) (string, bool) {
	text, err := cbor.Diagnose(data)
	if err != nil {
		return "", false
	}
	text = readable(text)
	back, err := encode(json.NewDecoder(strings.NewReader(text)))
	if err != nil || !bytes.Equal(back, data) {
		return "", false
	}
	return text, true
}

// escapes matches a run of Unicode escapes, and an escaped backslash so that it
// is not taken for the start of one.
var escapes = regexp.MustCompile(`\\\\|(\\u[0-9a-f]{4})+`)

// readable undoes the escaping of printable letters beyond ASCII.
func readable(text string) string {
	return escapes.ReplaceAllStringFunc(text, func(run string) string {
		var s string
		if err := json.Unmarshal([]byte(`"`+run+`"`), &s); err != nil || run == `\\` {
			return run
		}
		for _, c := range s {
			if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
				return run
			}
		}
		return s
	})
}

// encode reads one JSON value from dec and returns its CBOR. A number with a
// point or an exponent is a float, any other an integer.
func encode(dec *json.Decoder) ([]byte, error) {
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	v, err := numbers(v)
	if err != nil {
		return nil, err
	}
	return value.Marshal(v)
}

func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if v[k], err = numbers(v[k]); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case json.Number:
		s := v.String()
		switch {
		case strings.ContainsAny(s, ".eE"):
			return strconv.ParseFloat(s, 64)
		case strings.HasPrefix(s, "-"):
			return strconv.ParseInt(s, 10, 64)
		default:
			return strconv.ParseUint(s, 10, 64)
		}
	}
	return v, nil
}

// Read returns the entries of a dump, in the order of its lines. The error names
// the first line that it cannot read.
func Read(r io.Reader) ([]store.Entry, error) {
	var entries []store.Entry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("dump line %d: %w", n, err)
		}
		entries = append(entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read dump: %w", err)
	}
	return entries, nil
}

func parse(line string) (store.Entry, error) {
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		return store.Entry{}, fmt.Errorf("want a quoted key: %w", err)
	}
	key, err := strconv.Unquote(quoted)
	if err != nil {
		return store.Entry{}, fmt.Errorf("key: %w", err)
	}
	e := store.Entry{Key: []byte(key)}
	rest := strings.TrimLeft(line[len(quoted):], " \t")
	if e.Value, rest, err = parseValue(rest); err != nil {
		return store.Entry{}, fmt.Errorf("value: %w", err)
	}
	for _, field := range strings.Fields(rest) {
		if err := parseField(&e, field); err != nil {
			return store.Entry{}, err
		}
	}
	return e, nil
}

func parseValue(text string) (data []byte, rest string, err error) {
	if digits, ok := strings.CutPrefix(text, "hex:"); ok {
		digits, rest, _ = strings.Cut(digits, " ")
		data, err = hex.DecodeString(digits)
		return data, rest, err
	}
	dec := json.NewDecoder(strings.NewReader(text))
	data, err = encode(dec)
	if err != nil {
		return nil, "", err
	}
	return data, text[dec.InputOffset():], nil
}

func parseField(e *store.Entry, field string) error {
	name, text, _ := strings.Cut(field, "=")
	var err error
	switch name {
	case "expires":
		e.ExpiresAt, err = strconv.ParseUint(text, 10, 64)
	case "meta":
		var meta uint64
		meta, err = strconv.ParseUint(text, 0, 8)
		e.Meta = byte(meta)
	default:
		return fmt.Errorf("unknown field %q: want expires=… or meta=…", name)
	}
	return err
}
