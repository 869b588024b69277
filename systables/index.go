package systables

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// An index finds rows by something other than their primary key. Its entries
// expire with their rows.
type index[R any] struct {
	name    string
	columns []string
	unique  bool
	key     func(R) []byte // the tuple of the columns, nil if the row has no entry; not unique, it ends with the primary key
	part    store.Partition
}

// entry returns the key of row's entry, or nil if there is no row or it has none.
func (ix index[R]) entry(row *R) []byte {
	if row == nil {
		return nil
	}
	key := ix.key(*row)
	if key == nil {
		return nil
	}
	return ix.part.Key(key)
}

// leaveIndexes removes the entries that c's row had and has no more.
func (t Table[K, R]) leaveIndexes(tx store.Txn, c *change[K, R]) error {
	for _, ix := range t.indexes {
		old := ix.entry(c.old)
		if old == nil || bytes.Equal(old, ix.entry(c.row)) {
			continue
		}
		if err := tx.Delete(old); err != nil {
			return err
		}
	}
	return nil
}

// enterIndexes adds the entries that c's row did not have before.
func (t Table[K, R]) enterIndexes(tx store.Txn, c *change[K, R]) error {
	ref, err := value.Marshal(string(c.key))
	if err != nil {
		return err
	}
	for _, ix := range t.indexes {
		key := ix.entry(c.row)
		if key == nil || bytes.Equal(key, ix.entry(c.old)) {
			continue
		}
		if err := tx.Set(store.Entry{Key: key, Value: ref, ExpiresAt: c.entry.ExpiresAt}); err != nil {
			return err
		}
	}
	return nil
}

// claims are what changes that are made together do to the entries of unique
// indexes.
type claims[K ~string] struct {
	left  map[string]bool // entries that a row gives up
	taken map[string]K    // entries that a row takes, by the first that does
}

func (t Table[K, R]) claimsOf(changes []*change[K, R]) claims[K] {
	all := claims[K]{map[string]bool{}, map[string]K{}}
	for _, ix := range t.indexes {
		if !ix.unique {
			continue
		}
		for _, c := range changes {
			old, key := ix.entry(c.old), ix.entry(c.row)
			if old != nil && !bytes.Equal(old, key) {
				all.left[string(old)] = true
			}
			if _, ok := all.taken[string(key)]; key != nil && !ok {
				all.taken[string(key)] = c.key
			}
		}
	}
	return all
}

// takenOf returns a fault for each unique index in which c's row would have the
// entry of another.
func (t Table[K, R]) takenOf(s store.Reader, c *change[K, R], all claims[K]) (faults []error, err error) {
	for _, ix := range t.indexes {
		key := ix.entry(c.row)
		if !ix.unique || key == nil || bytes.Equal(key, ix.entry(c.old)) {
			continue
		}
		taken := all.taken[string(key)] != c.key
		if !taken && !all.left[string(key)] {
			switch _, err := s.Get(key); {
			case err == nil:
				taken = true
			case !errors.Is(err, store.ErrNotFound):
				return nil, err
			}
		}
		if taken {
			faults = append(faults, fmt.Errorf("%w: its %s is taken", ErrExists, ix.name))
		}
	}
	return faults, nil
}

// follow returns the row that e, an entry of ix, stands for, and its key as far as
// it is known. The error matches [store.ErrCorrupt] if there is no such row or it
// belongs elsewhere in ix, and [ErrNotFound] if e is not there any more.
func (t Table[K, R]) follow(s store.Reader, ix index[R], e store.Entry) (row R, key K, err error) {
	var none R
	if err := value.Unmarshal(e.Value, &key); err != nil {
		return none, key, fmt.Errorf("%w: entry of index %s: %w", store.ErrCorrupt, ix.name, err)
	}
	_, row, err = t.get(s, key)
	if err == nil && bytes.Equal(ix.entry(&row), e.Key) {
		return row, key, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return none, key, err
	}
	// An entry can go after it was read: the caller may write while a scan runs, and
	// a snapshot does not stop the clock that makes entries expire.
	if _, err := s.Get(e.Key); err != nil {
		return none, key, notFound(err)
	}
	return none, key, fmt.Errorf("%w: an entry of index %s has no row, or one with other columns", store.ErrCorrupt, ix.name)
}

// find returns the row that has the columns of key in ix, a unique index.
func (t Table[K, R]) find(s store.Reader, ix index[R], key []byte) (row R, id K, err error) {
	e, err := s.Get(ix.part.Key(key))
	if err != nil {
		return row, id, notFound(err)
	}
	return t.follow(s, ix, e)
}

// through yields the rows of the entries of ix that scan selects, as far as the
// first whose key is not within.
func (t Table[K, R]) through(s store.Reader, ix index[R], scan store.Scan, within func(key []byte) bool) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var none R
		for e, err := range s.Scan(scan) {
			if err != nil {
				yield(none, t.fail("scan", "", err))
				return
			}
			if !within(e.Key) {
				return
			}
			row, key, err := t.follow(s, ix, e)
			switch {
			case errors.Is(err, ErrNotFound):
				continue
			case err != nil:
				yield(none, t.fail("scan", key, err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// JobsByStatus yields the jobs with that status in the order in which they were
// created, and those of one millisecond in the order of their keys, through the
// index. It reads no other jobs and holds one at a time. The first error is
// yielded once, with a zero Job, and ends the sequence; it matches
// [store.ErrCorrupt] if a row cannot be decoded or the index and the rows
// contradict each other. The transaction may change jobs meanwhile: one that loses
// the status before its turn is not yielded; whether one that gains it is, is not
// defined.
func JobsByStatus(s store.Reader, status string) iter.Seq2[Job, error] {
	return jobsIn(s, Jobs.indexes[jobsByStatus], tuple.AppendString(nil, status))
}

// QueuedJobs yields the jobs that have a NotBefore in its order, and those of one
// millisecond in the order of their keys, under the rules of [JobsByStatus].
func QueuedJobs(s store.Reader) iter.Seq2[Job, error] {
	return jobsIn(s, Jobs.indexes[jobsQueue], nil)
}

// jobsIn yields the jobs whose entries in ix start with the elements of prefix.
func jobsIn(s store.Reader, ix index[Job], prefix []byte) iter.Seq2[Job, error] {
	prefix = ix.part.Key(prefix)
	return Jobs.through(s, ix, store.Scan{Prefix: prefix}, func(key []byte) bool {
		return tuple.HasPrefix(key, prefix) // what has a longer last element follows
	})
}

// JobByIdempotencyKey returns the job with that idempotency key, through the unique
// index. The error matches [ErrNotFound] if there is none, and [store.ErrCorrupt] if
// the index and the rows contradict each other.
func JobByIdempotencyKey(s store.Reader, key string) (Job, error) {
	job, id, err := Jobs.find(s, Jobs.indexes[jobsByKey], tuple.AppendString(nil, key))
	return job, Jobs.fail("get", id, err)
}
