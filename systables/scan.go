package systables

import (
	"bytes"
	"iter"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
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
	return AuditLogs.byTime(s, AuditLogs.indexes[0], r)
}

// MetricsByTime yields the metrics of a time range in the order in which they were
// recorded, as [AuditLogsByTime].
func MetricsByTime(s store.Reader, r TimeRange) iter.Seq2[Metric, error] {
	return Metrics.byTime(s, Metrics.indexes[0], r)
}

// byTime yields rows through ix, whose first column is the time.
func (t Table[K, R]) byTime(s store.Reader, ix index[R], r TimeRange) iter.Seq2[R, error] {
	since, until := r.bounds(ix.part)
	scan := store.Scan{Prefix: ix.part.Prefix(), From: since}
	if r.NewestFirst {
		scan.From, scan.Reverse = until, true
	}
	return t.through(s, ix, scan, func(key []byte) bool {
		return bytes.Compare(key, since) >= 0 && (until == nil || bytes.Compare(key, until) < 0)
	})
}

// bounds returns the first key of part that is in r, and the first after it, each
// nil if there is no bound. No entry has exactly such a key, because its columns go
// on after the time.
func (r TimeRange) bounds(part store.Partition) (since, until []byte) {
	if !r.Since.IsZero() {
		since = part.Key(tuple.AppendInt(nil, ceil(r.Since)))
	}
	if !r.Until.IsZero() {
		until = part.Key(tuple.AppendInt(nil, ceil(r.Until)))
	}
	return since, until
}

// ceil returns the first millisecond that is not before t.
func ceil(t time.Time) int64 {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return ms
}
