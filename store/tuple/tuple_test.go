package tuple_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store/tuple"
)

// ordered lists tuples in their order, so that each pair of rows is a case.
var ordered = [][]any{
	{},
	{nil},
	{nil, "a"},
	{""},
	{"", int64(1)},
	{"\x00"},
	{"\x00\x00"},
	{"\x00\xff"},
	{"\x01"},
	{"a"},
	{"a", "b"},
	{"a\x00"},
	{"a\x00b"},
	{"ab"},
	{"zoë"},
	{"日本"},
	{"\xff"},
	{"\xff\xff"},
	{int64(math.MinInt64)},
	{int64(-1)},
	{int64(0)},
	{int64(0), "x"},
	{int64(1)},
	{int64(256)},
	{int64(math.MaxInt64)},
}

func encode(elements []any) []byte {
	var key []byte
	for _, e := range elements {
		switch e := e.(type) {
		case nil:
			key = tuple.AppendNull(key)
		case string:
			key = tuple.AppendString(key, e)
		case int64:
			key = tuple.AppendInt(key, e)
		}
	}
	return key
}

func TestOrder(t *testing.T) {
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := bytes.Compare(encode(a), encode(b)); got != want {
				t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestHasPrefix(t *testing.T) {
	for _, a := range ordered {
		for _, b := range ordered {
			want := len(a) >= len(b) && cmp.Equal(append([]any{}, a[:len(b)]...), b)
			if got := tuple.HasPrefix(encode(a), encode(b)); got != want {
				t.Errorf("HasPrefix(%q, %q) = %t, want %t", a, b, got, want)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range ordered[1:] {
		got, err := tuple.Decode(encode(want))
		if err != nil {
			t.Errorf("Decode(%q): %v", want, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Decode(%q) (-want +got):\n%s", want, diff)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, key := range []string{"\x02abc", "\x02", "\x02a\x00\xff", "\x15\x00", "\x15", "a", "\xff", "\x02a\x00\x01"} {
		if _, err := tuple.Decode([]byte(key)); !errors.Is(err, tuple.ErrMalformed) {
			t.Errorf("Decode(%q) error = %v, want ErrMalformed", key, err)
		}
	}
}

func Example() {
	key := tuple.AppendString(nil, "failed")
	key = tuple.AppendInt(key, 1700000000000)
	elements, err := tuple.Decode(key)
	fmt.Println(elements, err)
	// Output: [failed 1700000000000] <nil>
}
