package migrate

import (
	"bytes"

	"github.com/kvmigrate/kvmigrate/migrate/internal/instep"
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
	for p, err := range instep.Pairs(before.Scan(store.Scan{Prefix: prefix}), after.Scan(store.Scan{Prefix: prefix})) {
		switch {
		case err != nil:
			return nil, err
		case p.A == nil:
			d.add(p.B.Key, nil, p.B)
		case p.B == nil || !same(*p.A, *p.B):
			d.add(p.A.Key, p.A, p.B)
		}
	}
	return d.partitionDiffs(), nil
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
