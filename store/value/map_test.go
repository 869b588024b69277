package value_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store/value"
)

func TestMap(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"empty":    {"a0", "a1616e00"},                 // {} -> {"n": 0}
		"replaced": {"a1616e05", "a1616e00"},           // {"n": 5} -> {"n": 0}
		"null":     {"a16161f6", "a26161f6616e00"},     // {"a": null} stays
		"bytes":    {"a161614101", "a261614101616e00"}, // {"a": h'01'}
		"tag":      {"a16161c11a00000001", "a26161c11a00000001616e00"},
		"wide":     {"a161611b0000000000000001", "a261611b0000000000000001616e00"}, // 1 in 8 bytes
		"nested":   {"a16161a2617a01616101", "a26161a2617a01616101616e00"},         // {"a": {"z": 1, "a": 1}}, unsorted
		"unsorted": {"a2617a01616102", "a3616102616e00617a01"},                     // sorted by Marshal
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := unhex(t, tt.in)
			m, err := value.UnmarshalMap(in)
			if err != nil {
				t.Fatal(err)
			}
			clear(in) // what was decoded must not change with it
			if err := m.Set("n", 0); err != nil {
				t.Fatal(err)
			}
			got, err := value.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, hex.EncodeToString(got)); diff != "" {
				t.Errorf("map with n (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMapSetFails(t *testing.T) {
	m := value.Map{}
	if err := m.Set("n", func() {}); err == nil || len(m) != 0 {
		t.Errorf("Set of a function: error = %v, map = %v; want an error and no change", err, m)
	}
}

func TestUnmarshalMapRefuses(t *testing.T) {
	tests := map[string]string{
		"nothing":           "",
		"null":              "f6",
		"undefined":         "f7",
		"text":              "6161",
		"list":              "80",
		"integer key":       "a10102",
		"twice the same":    "a2616101616102",
		"two items":         "a0a0",
		"cut":               "a16161",
		"indefinite length": "bfff",
	}
	for name, in := range tests {
		if m, err := value.UnmarshalMap(unhex(t, in)); err == nil {
			t.Errorf("%s: got %v, want an error", name, m)
		}
	}
}

// TestErrorsAreSilent: what cannot be decoded is not in the text of the error.
func TestErrorsAreSilent(t *testing.T) {
	var row struct {
		Small uint8     `cbor:"small"`
		Name  int       `cbor:"name"`
		At    time.Time `cbor:"at"`
	}
	secrets := map[string]any{"small": 123456, "name": "secret", "at": "secret"}
	for column, secret := range secrets {
		data, err := value.Marshal(map[string]any{column: secret})
		if err != nil {
			t.Fatal(err)
		}
		wantSilent(t, column, value.Unmarshal(data, &row), fmt.Sprint(secret))
	}
	twice := unhex(t, "a266736563726574016673656372657402") // {"secret": 1, "secret": 2}
	_, err := value.UnmarshalMap(twice)
	wantSilent(t, "a map", err, "secret")
	if _, ok := errors.AsType[*cbor.DupMapKeyError](err); !ok {
		t.Errorf("a map: error = %v, want that of the decoder within", err)
	}
	wantSilent(t, "a struct", value.Unmarshal(unhex(t, "a265736d616c6c0165736d616c6c02"), &row), `"small"`)
}

func wantSilent(t *testing.T, what string, err error, secret string) {
	t.Helper()
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%s: error = %v, want one without %q", what, err, secret)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	data, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
