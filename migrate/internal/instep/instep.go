// Package instep reads two scans in step.
package instep

import (
	"bytes"
	"iter"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Pair is what both sides have at one key; nil if one has not.
type Pair struct{ A, B *store.Entry }

// Pairs yields what the scans a and b yield, in the order of their keys, in which both
// must be. It holds one entry of each, which are valid until the next pair. The error is
// that of a scan, and the last that is yielded.
func Pairs(a, b iter.Seq2[store.Entry, error]) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		nextA, stop := iter.Pull2(a)
		defer stop()
		nextB, stop := iter.Pull2(b)
		defer stop()
		x, err := pull(nextA)
		var y *store.Entry
		if err == nil {
			y, err = pull(nextB)
		}
		for err == nil && (x != nil || y != nil) {
			p := Pair{x, y}
			switch order := compare(x, y); {
			case order < 0:
				p.B = nil
			case order > 0:
				p.A = nil
			}
			ofA, ofB := p.A != nil, p.B != nil
			if !yield(p, nil) {
				return
			}
			if ofA {
				x, err = pull(nextA)
			}
			if ofB && err == nil {
				y, err = pull(nextB)
			}
		}
		if err != nil {
			yield(Pair{}, err)
		}
	}
}

// pull returns the next entry, nil at the end.
func pull(next func() (store.Entry, error, bool)) (*store.Entry, error) {
	e, err, ok := next()
	if !ok || err != nil {
		return nil, err
	}
	return &e, nil
}

// compare orders the next entries of two sides; a side that has ended comes last.
func compare(a, b *store.Entry) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return bytes.Compare(a.Key, b.Key)
}
