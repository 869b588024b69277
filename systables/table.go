package systables

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

var (
	// ErrNotFound means that the table has no row with that key.
	ErrNotFound = errors.New("row not found")

	// ErrExists means that the table has a row with that primary key, or with that
	// value in a unique column, already.
	ErrExists = errors.New("row already exists")
)

// A RowError says which table and row an operation failed on. The key is a field
// and not part of the text, because it can be secret.
type RowError struct {
	Op    string // "get", "insert", "update", "delete", "scan"
	Table string // with its schema, for example "system.users"
	Key   string // the primary key
	Err   error
}

func (e *RowError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Table, e.Err) }

// Unwrap returns Err.
func (e *RowError) Unwrap() error { return e.Err }

// A Table reads and writes the rows R of one system table by their keys K, and
// keeps its indexes in the same transaction. Its errors are [*RowError]s. Its
// methods may be called concurrently, each within a transaction of its own.
type Table[K ~string, R any] struct {
	name       string
	rows       store.Partition
	key        func(R) K
	indexes    []index[R]
	definition Definition // without the indexes
}

// An index finds rows by something other than their primary key. Its entries
// expire with their rows.
type index[R any] struct {
	name    string
	columns []string
	unique  bool
	key     func(R) []byte // the tuple of the columns; not unique, it ends with the primary key
	part    store.Partition
}

// newTable returns the table of that name, whose own schema is at version. Its
// primary key is the first column.
func newTable[K ~string, R any](name string, version uint32, key func(R) K, indexes ...index[R]) Table[K, R] {
	columns := columnsOf(reflect.TypeFor[R]())
	d := Definition{Name: name, Version: version, Columns: columns, PrimaryKey: []string{columns[0].Name}}
	t := Table[K, R]{name: d.table(), key: key, indexes: indexes, definition: d}
	t.rows = store.MustPartition(t.name)
	for i := range t.indexes {
		t.indexes[i].part = store.MustPartition(t.name + "." + t.indexes[i].name)
	}
	return t
}

// Name returns the table's name with its schema, for example "system.users".
func (t Table[K, R]) Name() string { return t.name }

// Get returns the row with that key. The error matches [ErrNotFound] if there is
// none, and [store.ErrCorrupt] if the row cannot be decoded.
func (t Table[K, R]) Get(s store.Reader, key K) (R, error) {
	row, err := t.get(s, key)
	return row, t.fail("get", key, err)
}

// Insert adds row. The error matches [ErrExists] if its key, or its value in a
// unique index, is taken; nothing must then be committed.
func (t Table[K, R]) Insert(tx store.Txn, row R) error {
	key := t.key(row)
	switch _, err := t.get(tx, key); {
	case err == nil:
		return t.fail("insert", key, ErrExists)
	case !errors.Is(err, ErrNotFound):
		return t.fail("insert", key, err)
	}
	if err := t.addToIndexes(tx, row, nil, 0); err != nil {
		return t.fail("insert", key, err)
	}
	return t.fail("insert", key, t.put(tx, store.Entry{}, row))
}

// Update replaces the row with that key by what change makes of it, and keeps
// the entry's expiry and user meta. The primary key must stay the same. The error
// matches [ErrNotFound] if there is no such row, and [ErrExists] if a unique
// value is taken. change may run again if the transaction is retried.
func (t Table[K, R]) Update(tx store.Txn, key K, change func(R) (R, error)) error {
	return t.fail("update", key, t.update(tx, key, change))
}

func (t Table[K, R]) update(tx store.Txn, key K, change func(R) (R, error)) error {
	e, err := tx.Get(t.rows.Key([]byte(key)))
	if err != nil {
		return notFound(err)
	}
	old, err := t.decode(e.Value)
	if err != nil {
		return err
	}
	row, err := change(old)
	if err != nil {
		return err
	}
	if t.key(row) != key {
		return errors.New("the primary key cannot change: delete the row and insert another")
	}
	if err := t.removeFromIndexes(tx, old, &row); err != nil {
		return err
	}
	if err := t.addToIndexes(tx, row, &old, e.ExpiresAt); err != nil {
		return err
	}
	return t.put(tx, e, row)
}

// Delete removes the row with that key. The error matches [ErrNotFound] if there
// is none.
func (t Table[K, R]) Delete(tx store.Txn, key K) error {
	row, err := t.get(tx, key)
	if err != nil {
		return t.fail("delete", key, err)
	}
	if err := t.removeFromIndexes(tx, row, nil); err != nil {
		return t.fail("delete", key, err)
	}
	return t.fail("delete", key, tx.Delete(t.rows.Key([]byte(key))))
}

// All yields the rows whose key starts with prefix, in key order. The first
// error is yielded once, with a zero row, and ends the sequence.
func (t Table[K, R]) All(s store.Reader, prefix K) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var zero R
		for e, err := range s.Scan(store.Scan{Prefix: t.rows.Key([]byte(prefix))}) {
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

func (t Table[K, R]) get(s store.Reader, key K) (row R, err error) {
	e, err := s.Get(t.rows.Key([]byte(key)))
	if err != nil {
		return row, notFound(err)
	}
	return t.decode(e.Value)
}

func (t Table[K, R]) decode(data []byte) (row R, err error) {
	if err := value.Unmarshal(data, &row); err != nil {
		return row, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return row, nil
}

// put stores row with the expiry and user meta of e.
func (t Table[K, R]) put(tx store.Txn, e store.Entry, row R) error {
	data, err := value.Marshal(row)
	if err != nil {
		return err
	}
	e.Key, e.Value = t.rows.Key([]byte(t.key(row))), data
	return tx.Set(e)
}

// addToIndexes adds row, which expires at expiresAt, to the indexes in which its
// entry differs from old's.
func (t Table[K, R]) addToIndexes(tx store.Txn, row R, old *R, expiresAt uint64) error {
	ref, err := value.Marshal(string(t.key(row)))
	if err != nil {
		return err
	}
	for _, ix := range t.indexes {
		key := ix.part.Key(ix.key(row))
		if old != nil && bytes.Equal(ix.key(*old), ix.key(row)) {
			continue
		}
		if ix.unique {
			switch _, err := tx.Get(key); {
			case err == nil:
				return fmt.Errorf("%w: its %s is taken", ErrExists, ix.name)
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		if err := tx.Set(store.Entry{Key: key, Value: ref, ExpiresAt: expiresAt}); err != nil {
			return err
		}
	}
	return nil
}

// removeFromIndexes removes row from the indexes in which its entry differs from
// next's.
func (t Table[K, R]) removeFromIndexes(tx store.Txn, row R, next *R) error {
	for _, ix := range t.indexes {
		if next != nil && bytes.Equal(ix.key(*next), ix.key(row)) {
			continue
		}
		if err := tx.Delete(ix.part.Key(ix.key(row))); err != nil {
			return err
		}
	}
	return nil
}

func (t Table[K, R]) fail(op string, key K, err error) error {
	if err == nil {
		return nil
	}
	return &RowError{Op: op, Table: t.name, Key: string(key), Err: err}
}

// notFound makes a missing key a missing row.
func notFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// follow returns the row that e, an entry of ix, stands for, and its key as far as
// it is known. The error matches [store.ErrCorrupt] if there is no such row or it
// belongs elsewhere in ix, and [ErrNotFound] if e is not there any more.
func (t Table[K, R]) follow(s store.Reader, ix index[R], e store.Entry) (row R, key K, err error) {
	var none R
	if err := value.Unmarshal(e.Value, &key); err != nil {
		return none, key, fmt.Errorf("%w: entry of index %s: %w", store.ErrCorrupt, ix.name, err)
	}
	row, err = t.get(s, key)
	if err == nil && bytes.Equal(ix.part.Key(ix.key(row)), e.Key) {
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

// UserByName returns the user with that username, through the unique index. The
// error matches [ErrNotFound] if there is none, and [store.ErrCorrupt] if the
// index and the rows contradict each other.
func UserByName(s store.Reader, username string) (User, error) {
	ix := Users.indexes[0]
	e, err := s.Get(ix.part.Key(tuple.AppendString(nil, username)))
	if err != nil {
		return User{}, Users.fail("get", "", notFound(err))
	}
	user, id, err := Users.follow(s, ix, e)
	return user, Users.fail("get", id, err)
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
	ix := Jobs.indexes[0]
	prefix := ix.part.Key(tuple.AppendString(nil, status))
	return func(yield func(Job, error) bool) {
		for e, err := range s.Scan(store.Scan{Prefix: prefix}) {
			if err != nil {
				yield(Job{}, Jobs.fail("scan", "", err))
				return
			}
			if !tuple.HasPrefix(e.Key, prefix) {
				return // the jobs of a longer status follow
			}
			job, id, err := Jobs.follow(s, ix, e)
			switch {
			case errors.Is(err, ErrNotFound):
				continue
			case err != nil:
				yield(Job{}, Jobs.fail("scan", id, err))
				return
			}
			if !yield(job, nil) {
				return
			}
		}
	}
}
