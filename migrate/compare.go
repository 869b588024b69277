package migrate

import (
	"bytes"
	"iter"

	"github.com/kvmigrate/kvmigrate/store"
)

// Compare returns by partition how the entries of after differ from those of before,
// in the order of the partitions' names; nil if they do not. Only keys that start
// with prefix count. samples is as in [DryRunOptions].
//
// Of a history record it counts what identifies the migration, and not when it ran,
// for how long, and by which program. Compare reads both in step and, whatever their
// size, holds one entry of each beside its result. The error is one of reading.
func Compare(before, after store.Reader, prefix []byte, samples int) ([]PartitionDiff, error) {
	d := newDiffer(samples)
	old, stopOld := iter.Pull2(before.Scan(store.Scan{Prefix: prefix}))
	defer stopOld()
	now, stopNow := iter.Pull2(after.Scan(store.Scan{Prefix: prefix}))
	defer stopNow()
	a, err := pull(old)
	if err != nil {
		return nil, err
	}
	b, err := pull(now)
	for a != nil || b != nil {
		if err != nil {
			return nil, err
		}
		switch order := compareKeys(a, b); {
		case order < 0:
			d.add(a.Key, a, nil)
			a, err = pull(old)
		case order > 0:
			d.add(b.Key, nil, b)
			b, err = pull(now)
		default:
			if !same(*a, *b) {
				d.add(a.Key, a, b)
			}
			if a, err = pull(old); err == nil {
				b, err = pull(now)
			}
		}
	}
	return d.partitionDiffs(), err
}

// pull returns the next entry, nil at the end.
func pull(next func() (store.Entry, error, bool)) (*store.Entry, error) {
	e, err, ok := next()
	if !ok || err != nil {
		return nil, err
	}
	return &e, nil
}

// compareKeys orders nil, the end of a scan, after every entry.
func compareKeys(a, b *store.Entry) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return bytes.Compare(a.Key, b.Key)
}

// same reports whether two entries of one key are the same to Compare.
func same(a, b store.Entry) bool {
	if a.ExpiresAt != b.ExpiresAt || a.Meta != b.Meta {
		return false
	}
	return bytes.Equal(a.Value, b.Value) || isHistory(a.Key) && sameMigration(a.Value, b.Value)
}

// isHistory reports whether key is of a history record, of whatever schema.
func isHistory(key []byte) bool {
	_, rest, _ := bytes.Cut(key, []byte(":schema_"))
	return isRecord(key) && bytes.HasPrefix(rest, []byte("history:"))
}

// sameMigration reports whether two history records are of one migration, that came
// to be in the store in the same way.
func sameMigration(a, b []byte) bool {
	x, err := decodeApplied(a)
	if err != nil {
		return false
	}
	y, err := decodeApplied(b)
	return err == nil && x.Version == y.Version && x.Name == y.Name && x.Fingerprint == y.Fingerprint && x.Origin == y.Origin
}
