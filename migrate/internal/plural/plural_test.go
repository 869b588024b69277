package plural_test

import (
	"math"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
)

func TestOf(t *testing.T) {
	for _, test := range []struct {
		n    uint64
		noun string
		want string
	}{
		{0, "key", "0 keys"},
		{1, "transaction", "1 transaction"},
		{2949, "transaction", "2949 transactions"},
		{1, "entry", "1 entry"},
		{2, "entry", "2 entries"},
		{math.MaxUint64, "entry", "18446744073709551615 entries"},
	} {
		if got := plural.Of(test.n, test.noun); got != test.want {
			t.Errorf("Of(%d, %q) = %q, want %q", test.n, test.noun, got, test.want)
		}
	}
}

func TestMany(t *testing.T) {
	for _, test := range []struct {
		n     uint64
		nouns string
		want  string
	}{
		{0, "rows", "0 rows"},
		{1, "rows", "1 row"},
		{1, "history records", "1 history record"},
		{2, "history records", "2 history records"},
		{1, "index entries", "1 index entry"},
		{1, "records of nodes", "1 record of nodes"},
		{7, "records of nodes", "7 records of nodes"},
		{1, "indexes", "1 index"},
		{1, "addresses", "1 address"},
		{1, "patches", "1 patch"},
		{1, "caches", "1 cache"},
		{1, "access", "1 access"},
		{1, "data", "1 data"},
		{1, "", "1 "},
	} {
		if got := plural.Many(test.n, test.nouns); got != test.want {
			t.Errorf("Many(%d, %q) = %q, want %q", test.n, test.nouns, got, test.want)
		}
	}
}
