package dump_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	data, err := value.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLineAndBack(t *testing.T) {
	tests := []struct {
		name  string
		entry store.Entry
		want  string
	}{
		{"row", store.Entry{Key: []byte("system.users/u-1"), Value: encoded(t, map[string]any{"name": "Zoë 日本", "n": -3, "x": 3.0, "deleted": nil})},
			`"system.users/u-1" {"n": -3, "x": 3.0, "name": "Zoë 日本", "deleted": null}`},
		{"version", store.Entry{Key: []byte("system:schema_version"), Value: []byte{0, 0, 0, 2}}, `"system:schema_version" hex:00000002`},
		{"empty", store.Entry{Key: []byte("k"), Value: []byte{}}, `"k" hex:`},
		{"expiry and meta", store.Entry{Key: []byte("k"), Value: encoded(t, "a b"), ExpiresAt: 1767225600, Meta: 1}, `"k" "a b" expires=1767225600 meta=0x01`},
		{"binary key", store.Entry{Key: []byte("a\x00\xff"), Value: encoded(t, []int{1, 2})}, `"a\x00\xff" [1, 2]`},
		{"control characters and escapes", store.Entry{Key: []byte("k"), Value: encoded(t, "\n\\u0041\u0001\u200b 😀")}, `"k" "\n\\u0041\u0001\u200b 😀"`},
		{"largest", store.Entry{Key: []byte("k"), Value: encoded(t, uint64(1<<64-1))}, `"k" 18446744073709551615`},
		{"byte string", store.Entry{Key: []byte("k"), Value: encoded(t, []byte{1, 2})}, `"k" hex:420102`},
		{"not deterministic", store.Entry{Key: []byte("k"), Value: []byte{0x18, 0x01}}, `"k" hex:1801`},
		{"plain text", store.Entry{Key: []byte("k"), Value: []byte("hello world")}, `"k" hex:68656c6c6f20776f726c64`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			line := dump.Line(tt.entry)
			if diff := cmp.Diff(tt.want+"\n", line); diff != "" {
				t.Errorf("Line (-want +got):\n%s", diff)
			}
			back, err := dump.Read(strings.NewReader("# comment\n\n" + line))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]store.Entry{tt.entry}, back); diff != "" {
				t.Errorf("Read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadFaults(t *testing.T) {
	for _, line := range []string{`k 1`, `"k"`, `"k" {`, `"k" hex:0`, `"k" 1 ttl=3`, `"k" 1 meta=300`, `"k" 99999999999999999999`, `"k" 'x'`} {
		if got, err := dump.Read(strings.NewReader("\n" + line)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("Read(%s) = %v, %v; want an error that names line 2", line, got, err)
		}
	}
}
