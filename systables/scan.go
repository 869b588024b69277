package systables

import (
	"bytes"
	"cmp"
	"iter"
	"math"
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

// AuditLogsByTime yields the audit logs of a time range in the order of their
// timestamps, and those of one millisecond in that of their keys, through the
// index. It reads no others and holds one at a time; break out to limit them. Its
// errors, and what the transaction may do meanwhile, are as of [JobsByStatus].
func AuditLogsByTime(s store.Reader, r TimeRange) iter.Seq2[AuditLog, error] {
	return AuditLogs.byTime(s, AuditLogs.indexes[0], nil, r)
}

// MetricsByTime yields the metrics of a time range in the order in which they were
// recorded, as [AuditLogsByTime].
func MetricsByTime(s store.Reader, r TimeRange) iter.Seq2[Metric, error] {
	return Metrics.byTime(s, Metrics.indexes[0], nil, r)
}

// JobsByTime yields the jobs, whatever their status, that were created in a time range,
// as [AuditLogsByTime]; it holds one of each status. A job whose status the transaction
// changes before its turn may not be yielded.
//
// There is no index by the time at which jobs started or completed. Those that
// completed since some time can have been created at any time before.
func JobsByTime(s store.Reader, r TimeRange) iter.Seq2[Job, error] {
	status, _ := Jobs.definition.column("status")
	seqs := make([]iter.Seq2[Job, error], len(status.Values))
	for i, value := range status.Values {
		seqs[i] = Jobs.byTime(s, Jobs.indexes[jobsByStatus], tuple.AppendString(nil, value), r)
	}
	return merge.Sorted(func(a, b Job) int {
		if r.NewestFirst {
			a, b = b, a
		}
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	}, seqs...)
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

// ceil returns the first millisecond that is not before t.
func ceil(t time.Time) int64 {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return ms
}
