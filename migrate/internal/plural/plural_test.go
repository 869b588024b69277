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
