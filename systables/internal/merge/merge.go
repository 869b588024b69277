// Package merge makes one sorted sequence of several.
package merge

import "iter"

// Sorted yields what seqs yield, each in ascending order of compare, in that order;
// of equal values that of the earlier sequence comes first. It holds one value of each.
// The first error of any ends the sequence, before the values that would follow.
func Sorted[T any](compare func(a, b T) int, seqs ...iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		heads := make([]*head[T], 0, len(seqs))
		for _, seq := range seqs {
			next, stop := iter.Pull2(seq)
			defer stop()
			h := &head[T]{next: next}
			if h.advance() {
				heads = append(heads, h)
			}
			if h.err != nil {
				yield(h.value, h.err)
				return
			}
		}
		for len(heads) > 0 {
			least := 0
			for i, h := range heads {
				if compare(h.value, heads[least].value) < 0 {
					least = i
				}
			}
			h := heads[least]
			if !yield(h.value, nil) {
				return
			}
			if !h.advance() {
				heads = append(heads[:least], heads[least+1:]...)
			}
			if h.err != nil {
				yield(h.value, h.err)
				return
			}
		}
	}
}

// A head is a sequence and the first value that it has left.
type head[T any] struct {
	next  func() (T, error, bool)
	value T
	err   error
}

// advance reports whether the sequence has another value.
func (h *head[T]) advance() (ok bool) {
	h.value, h.err, ok = h.next()
	return ok
}
