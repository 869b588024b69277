package systables

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
)

var (
	// ErrNotFound means that the table has no row with that key.
	ErrNotFound = errors.New("row not found")

	// ErrExists means that the table has a row with that primary key, or with that
	// value in a unique column, already.
	ErrExists = errors.New("row already exists")

	// ErrInUse means that the row cannot be deleted because rows of another table
	// depend on it.
	ErrInUse = errors.New("row is in use")
)

// A RowError says which table and row an operation failed on. The key is a field
// and not part of the text, because it can be secret.
type RowError struct {
	Op    string // "get", "insert", "put", "update", "delete", "scan"
	Table string // with its schema, for example "system.users"
	Key   string // the primary key
	Err   error  // a *multierror.Error if the row has several faults
}

func (e *RowError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Table, e.Err) }

// Unwrap returns Err.
func (e *RowError) Unwrap() error { return e.Err }

// A Table reads and writes the rows R of one table by their keys K, and keeps its
// indexes in the same transaction. Its errors are [*RowError]s. Its
// methods may be called concurrently, each within a transaction of its own.
//
// What is written is valid: see [Definition.Validate]. A row that is not, or whose
// unique values are taken, is refused with all of its faults together, each a
// [*ColumnError] or a match of [ErrExists], and nothing is written. An empty text
// and one that is no JSON, which older versions accepted, may stay where they are.
type Table[K ~string, R any] struct {
	name       string
	rows       store.Partition
	key        func(R) K
	indexes    []index[R]
	rules      rules[R]
	definition Definition // without the indexes
}

// newTable returns the system table of that name, whose own schema is at version.
func newTable[K ~string, R any](name string, version uint32, key func(R) K, indexes ...index[R]) Table[K, R] {
	t, err := tableOf(Definition{Name: name, Version: version}, key)
	if err != nil {
		panic(fmt.Sprintf("systables: table %s: %v", name, err))
	}
	t.indexes = indexes
	for i := range t.indexes {
		t.indexes[i].part = store.MustPartition(t.name + "." + t.indexes[i].name)
	}
	return t
}

// NewTable returns a table of the program's own, which may live beside the system
// tables: its rows are in the partition "schema.name". It has no indexes and is not in
// the catalog; to change its columns is up to the program's own migrations.
//
// R is a struct. Its fields are the columns, named by their tags "cbor", the first one
// the primary key, which key returns. A field is a string, an int32, int64, float64,
// bool, [Timestamp] or [JSON], or a type of string of the program's own; or, where null
// is allowed, a pointer to one, with "omitempty" in its tag. The tags "values",
// "text" and "secret" are as of the rows of this package. No primary key is empty.
//
// The error says what is wrong with the names, of which schema cannot be "system", or
// with R. To make a table reads and writes nothing.
func NewTable[K ~string, R any](schema, name string, key func(R) K) (Table[K, R], error) {
	if schema == "" || schema == migrations.Schema {
		return Table[K, R]{}, fmt.Errorf("table %s: schema %q is not for tables of a program's own", name, schema)
	}
	t, err := tableOf(Definition{Schema: schema, Name: name, Version: 1}, key)
	if err != nil {
		return t, fmt.Errorf("table %s.%s: %w", schema, name, err)
	}
	return t, nil
}

// tableOf returns the table of d, with the columns of R, of which the first is the
// primary key.
func tableOf[K ~string, R any](d Definition, key func(R) K) (t Table[K, R], err error) {
	if d.Columns, err = columnsOf(reflect.TypeFor[R]()); err != nil {
		return t, err
	}
	d.PrimaryKey = []string{d.Columns[0].Name}
	rows, err := store.NewPartition(d.table())
	return Table[K, R]{name: d.table(), rows: rows, key: key, definition: d}, err
}

// rules are what a table's rows have to do with those of others. In both functions
// old is nil if the row is new, and row is nil if it is deleted.
type rules[R any] struct {
	check func(s store.Reader, old, row *R) []error // why a change is refused
	after func(tx store.Txn, old, row *R) error     // makes the changes elsewhere that go with it
}

// under returns t with r, which may have one of the two functions.
func (t Table[K, R]) under(r rules[R]) Table[K, R] {
	t.rules = r
	return t
}

// Name returns the table's name with its schema, for example "system.users".
func (t Table[K, R]) Name() string { return t.name }

// Get returns the row with that key. The error matches [ErrNotFound] if there is
// none, and [store.ErrCorrupt] if the row cannot be decoded.
func (t Table[K, R]) Get(s store.Reader, key K) (R, error) {
	_, row, err := t.get(s, key)
	return row, t.fail("get", key, err)
}

// Insert adds row. The error matches [ErrExists] if its key, or its value in a
// unique index, is taken, and [ErrInvalid] if it is not valid.
func (t Table[K, R]) Insert(tx store.Txn, row R) error {
	c := change[K, R]{key: t.key(row), row: &row}
	switch _, err := tx.Get(t.rows.Key([]byte(c.key))); {
	case err == nil:
		c.faults = append(c.faults, ErrExists)
	case !errors.Is(err, store.ErrNotFound):
		return t.fail("insert", c.key, err)
	}
	return t.apply(tx, "insert", &c)
}

// Update replaces the row with that key by what update makes of it, and keeps
// the entry's expiry and user meta. The primary key must stay the same. The error
// matches [ErrNotFound] if there is no such row, [ErrExists] if a unique value is
// taken, and [ErrInvalid] if the new row is not valid; an error of update is in it
// unchanged. update may run again if the transaction is retried.
func (t Table[K, R]) Update(tx store.Txn, key K, update func(R) (R, error)) error {
	e, old, err := t.get(tx, key)
	if err != nil {
		return t.fail("update", key, err)
	}
	row, err := update(old)
	if err != nil {
		return t.fail("update", key, err)
	}
	if t.key(row) != key {
		return t.fail("update", key, errors.New("the primary key cannot change: delete the row and insert another"))
	}
	return t.apply(tx, "update", &change[K, R]{key: key, old: &old, row: &row, entry: e})
}

// Put makes the table have rows: each is added, or replaces the one with its key,
// whose expiry and user meta it keeps. Rows may swap unique values. If any of them
// is at fault nothing is written, and the error is a *multierror.Error of a
// [*RowError] for each that is, in their order. A key that comes twice is a fault
// that matches [ErrExists].
func (t Table[K, R]) Put(tx store.Txn, rows ...R) error {
	changes := make([]*change[K, R], len(rows))
	seen := make(map[K]bool, len(rows))
	for i, row := range rows {
		c := &change[K, R]{key: t.key(row), row: &row}
		changes[i] = c
		if seen[c.key] {
			c.faults = append(c.faults, fmt.Errorf("%w: its key comes twice", ErrExists))
			continue
		}
		seen[c.key] = true
		switch e, old, err := t.get(tx, c.key); {
		case err == nil:
			c.entry, c.old = e, &old
		case !errors.Is(err, ErrNotFound):
			return t.fail("put", c.key, err)
		}
	}
	if err := t.check(tx, "put", changes); err != nil {
		return err
	}
	var refused *multierror.Error
	for _, c := range changes {
		if err := t.refusal("put", c); err != nil {
			refused = multierror.Append(refused, err)
		}
	}
	if refused != nil {
		return faults.Join(refused)
	}
	return t.write(tx, "put", changes)
}

// Delete removes the row with that key. The error matches [ErrNotFound] if there
// is none, and [ErrInUse] if others depend on it.
func (t Table[K, R]) Delete(tx store.Txn, key K) error {
	_, old, err := t.get(tx, key)
	if err != nil {
		return t.fail("delete", key, err)
	}
	return t.apply(tx, "delete", &change[K, R]{key: key, old: &old})
}

func (t Table[K, R]) get(s store.Reader, key K) (e store.Entry, row R, err error) {
	e, err = s.Get(t.rows.Key([]byte(key)))
	if err != nil {
		return e, row, notFound(err)
	}
	row, err = t.decode(e.Value)
	return e, row, err
}

func (t Table[K, R]) decode(data []byte) (row R, err error) {
	if err := value.Unmarshal(data, &row); err != nil {
		return row, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return row, nil
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

// A change is what is to happen to one row.
type change[K ~string, R any] struct {
	key      K
	old, row *R          // nil if there is none before, or after
	entry    store.Entry // the row's, whose expiry and user meta stay
	faults   []error     // why it cannot be made
}

// apply makes one change, or returns its *RowError.
func (t Table[K, R]) apply(tx store.Txn, op string, c *change[K, R]) error {
	changes := []*change[K, R]{c}
	if err := t.check(tx, op, changes); err != nil {
		return err
	}
	if err := t.refusal(op, c); err != nil {
		return err
	}
	return t.write(tx, op, changes)
}

// refusal returns the faults of c as one *RowError, or nil.
func (t Table[K, R]) refusal(op string, c *change[K, R]) error {
	switch len(c.faults) {
	case 0:
		return nil
	case 1:
		return t.fail(op, c.key, c.faults[0])
	}
	return t.fail(op, c.key, faults.Join(&multierror.Error{Errors: c.faults}))
}

// check adds to the faults of changes, and writes nothing. The error is one of the
// store's.
func (t Table[K, R]) check(s store.Reader, op string, changes []*change[K, R]) error {
	unique := t.claimsOf(changes)
	for _, c := range changes {
		if err := t.checkOne(s, c, unique); err != nil {
			return t.fail(op, c.key, err)
		}
	}
	return nil
}

// checkOne encodes the row of c and adds to its faults.
func (t Table[K, R]) checkOne(s store.Reader, c *change[K, R], unique claims[K]) error {
	if c.row != nil {
		before := c.entry.Value
		if err := t.encode(c); err != nil {
			return err
		}
		for _, f := range t.definition.faultsOfNew([]byte(c.key), c.entry.Value, before) {
			c.faults = append(c.faults, f)
		}
		taken, err := t.takenOf(s, c, unique)
		if err != nil {
			return err
		}
		c.faults = append(c.faults, taken...)
	}
	if t.rules.check != nil {
		c.faults = append(c.faults, t.rules.check(s, c.old, c.row)...)
	}
	return nil
}

// encode makes c's entry that of its row.
func (t Table[K, R]) encode(c *change[K, R]) (err error) {
	c.entry.Key = t.rows.Key([]byte(c.key))
	c.entry.Value, err = value.Marshal(*c.row)
	return err
}

// write makes changes that were checked.
func (t Table[K, R]) write(tx store.Txn, op string, changes []*change[K, R]) error {
	steps := []func(store.Txn, *change[K, R]) error{
		t.leaveIndexes, // all of them, before another row takes what one gives up
		t.writeRow,
		t.enterIndexes,
		func(tx store.Txn, c *change[K, R]) error {
			if t.rules.after == nil {
				return nil
			}
			return t.rules.after(tx, c.old, c.row)
		},
	}
	for _, step := range steps {
		for _, c := range changes {
			if err := step(tx, c); err != nil {
				return t.fail(op, c.key, err)
			}
		}
	}
	return nil
}

func (t Table[K, R]) writeRow(tx store.Txn, c *change[K, R]) error {
	if c.row == nil {
		return tx.Delete(t.rows.Key([]byte(c.key)))
	}
	return tx.Set(c.entry)
}
