package merge_test

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/systables/internal/merge"
)

// of returns a sequence of values that ends with err, if it is not nil.
func of(err error, values ...int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for _, v := range values {
			if !yield(v, nil) {
				return
			}
		}
		if err != nil {
			yield(0, err)
		}
	}
}

func TestSorted(t *testing.T) {
	broken := errors.New("broken")
	tests := map[string]struct {
		seqs  []iter.Seq2[int, error]
		limit int
		want  []int
		err   error
	}{
		"none":             {},
		"empty ones":       {seqs: []iter.Seq2[int, error]{of(nil), of(nil)}},
		"one":              {seqs: []iter.Seq2[int, error]{of(nil, 1, 2)}, want: []int{1, 2}},
		"several":          {seqs: []iter.Seq2[int, error]{of(nil, 1, 4, 4), of(nil), of(nil, 2, 4, 9), of(nil, 3)}, want: []int{1, 2, 3, 4, 4, 4, 9}},
		"broken off":       {seqs: []iter.Seq2[int, error]{of(nil, 1, 3), of(nil, 2)}, limit: 2, want: []int{1, 2}},
		"an error at once": {seqs: []iter.Seq2[int, error]{of(nil, 1), of(broken)}, err: broken},
		"an error later":   {seqs: []iter.Seq2[int, error]{of(nil, 1, 3), of(broken, 2)}, want: []int{1, 2}, err: broken},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []int
			var err error
			for v, e := range merge.Sorted(cmp.Compare[int], tt.seqs...) {
				if err = e; err != nil {
					continue // nothing may follow
				}
				if got = append(got, v); len(got) == tt.limit {
					break
				}
			}
			if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
				t.Errorf("error %v, want %v; values (-want +got):\n%s", err, tt.err, gocmp.Diff(tt.want, got))
			}
		})
	}
}
