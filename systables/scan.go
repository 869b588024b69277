package systables

import (
	"bytes"
	"cmp"
	"errors"
	"iter"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/systables/internal/merge"
)

// All yields the rows whose key starts with prefix, in key order; break out to
// limit them. The first error is yielded once, with a zero row, and ends the
// sequence.
func (t Table[K, R]) All(s store.Reader, prefix K) iter.Seq2[R, error] {
	return t.scan(s, prefix, false)
}

// Backward is [Table.All] from the last key to the first.
func (t Table[K, R]) Backward(s store.Reader, prefix K) iter.Seq2[R, error] {
	return t.scan(s, prefix, true)
}

func (t Table[K, R]) scan(s store.Reader, prefix K, reverse bool) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var zero R
		for e, err := range s.Scan(store.Scan{Prefix: t.rows.Key([]byte(prefix)), Reverse: reverse}) {
			if err != nil {
				yield(zero, t.fail("scan", prefix, err))
				return
			}
			row, err := t.decode(e.Value)
			if err != nil {
				key, _ := t.rows.Cut(e.Key)
				yield(zero, t.fail("scan", K(key), err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// A TimeRange selects rows by a column of type Timestamp. The zero TimeRange
// selects all of them, the oldest first.
type TimeRange struct {
	Since       time.Time // inclusive; zero is the beginning of time
	Until       time.Time // exclusive; zero is the end of time
	NewestFirst bool
}

// ByTime yields the rows of a time range in the order of their times, and those of one
// millisecond in the order of their keys; break out to limit them. A table's time is the
// first of its columns that is a Timestamp: when an audit log or a metric was recorded,
// and when all others were created. Rows in which it is null are not yielded.
//
// Audit logs, metrics and jobs have an index by it: no others are read, and one is held at
// a time, or of jobs one of each status. Other tables are read whole, and the times and
// keys of the rows in the range held, before the first is yielded.
//
// The first error is yielded once, with a zero row, and ends the sequence; it matches
// [store.ErrCorrupt] if a row cannot be decoded or the index and the rows contradict each
// other. The transaction may change rows meanwhile: one whose time it changes before its
// turn, or whose status if it is a job, may not be yielded.
func (t Table[K, R]) ByTime(s store.Reader, r TimeRange) iter.Seq2[R, error] {
	field := slices.IndexFunc(t.definition.Columns, func(c Column) bool { return c.Type == "Timestamp" })
	if field < 0 {
		return func(yield func(R, error) bool) {
			var none R
			yield(none, t.fail("scan", "", errors.New("it has no column of type Timestamp")))
		}
	}
	column := t.definition.Columns[field].Name
	for _, ix := range t.indexes {
		first, _ := t.definition.column(ix.columns[0])
		switch {
		case first.Name == column:
			return t.byTime(s, ix, nil, r)
		case first.Values != nil && len(ix.columns) > 1 && ix.columns[1] == column:
			parts := make([]iter.Seq2[R, error], len(first.Values))
			for i, value := range first.Values {
				parts[i] = t.byTime(s, ix, tuple.AppendString(nil, value), r)
			}
			return merge.Sorted(func(a, b R) int { return order(r, t.dated(a, field), t.dated(b, field)) }, parts...)
		}
	}
	return t.sorted(s, r, field)
}

// A dated is the key of a row and its time.
type dated[K ~string] struct {
	key  K
	at   Timestamp
	null bool
}

// dated returns those of row, whose time is in a field.
func (t Table[K, R]) dated(row R, field int) dated[K] {
	at := reflect.Indirect(reflect.ValueOf(row).Field(field))
	if !at.IsValid() {
		return dated[K]{key: t.key(row), null: true}
	}
	return dated[K]{key: t.key(row), at: Timestamp(at.Int())}
}

func order[K ~string](r TimeRange, a, b dated[K]) int {
	if r.NewestFirst {
		a, b = b, a
	}
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key))
}

// sorted is ByTime of a table without an index by the time, which is in a field.
func (t Table[K, R]) sorted(s store.Reader, r TimeRange, field int) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var none R
		var all []dated[K]
		for row, err := range t.All(s, "") {
			if err != nil {
				yield(none, err)
				return
			}
			if d := t.dated(row, field); !d.null && r.has(d.at) {
				all = append(all, d)
			}
		}
		slices.SortFunc(all, func(a, b dated[K]) int { return order(r, a, b) })
		for _, d := range all {
			switch _, row, err := t.get(s, d.key); {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				yield(none, t.fail("scan", d.key, err))
				return
			case t.dated(row, field) == d:
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// byTime yields rows through the part of ix that has the elements of prefix, in which
// the next column is the time.
func (t Table[K, R]) byTime(s store.Reader, ix index[R], prefix []byte, r TimeRange) iter.Seq2[R, error] {
	prefix = ix.part.Key(prefix)
	since, until := r.bounds(prefix)
	scan := store.Scan{Prefix: prefix, From: since}
	if r.NewestFirst {
		scan.From, scan.Reverse = until, true
	}
	return t.through(s, ix, scan, func(key []byte) bool {
		return bytes.Compare(key, since) >= 0 && bytes.Compare(key, until) < 0
	})
}

// bounds returns the first key that has prefix and then a time in r, and one after
// the last. No entry has exactly such a key, because its columns go on after the
// time.
func (r TimeRange) bounds(prefix []byte) (since, until []byte) {
	first := int64(math.MinInt64)
	if !r.Since.IsZero() {
		first = ceil(r.Since)
	}
	since = tuple.AppendInt(slices.Clone(prefix), first)
	if !r.Until.IsZero() {
		return since, tuple.AppendInt(slices.Clone(prefix), ceil(r.Until))
	}
	return since, append(tuple.AppendInt(slices.Clone(prefix), math.MaxInt64), 0xff) // with which no element starts
}

// has reports whether at is in r.
func (r TimeRange) has(at Timestamp) bool {
	return (r.Since.IsZero() || int64(at) >= ceil(r.Since)) && (r.Until.IsZero() || int64(at) < ceil(r.Until))
}

// ceil returns the first millisecond that is not before t.
func ceil(t time.Time) int64 {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return ms
}
