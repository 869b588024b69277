package migrate

import (
	"bytes"
	"fmt"
	"iter"
	"runtime/debug"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Tx is the transaction of a running migration. It is a [store.Txn] that also
// counts what it writes, guards the schema's own keys, and carries the clock.
// Like every transaction it must not be used concurrently or after the Up
// returned.
type Tx struct {
	txn      store.Txn
	reserved []byte
	limits   store.Limits
	now      time.Time

	cursor    []byte // where the step before stopped, nil in the first
	next      []byte // where this step stopped
	continues bool   // whether there is a next step

	phase, phases int  // the phase of this step, from 1, and their number, 0 if the Up has none
	serial        bool // whether batches must not overlap

	rows    *visit // what a builder asked for, nil if the Up did its work itself
	batch   *batch // the entries of this step
	row     []byte // the key of the one that is being visited
	scratch []byte

	strayed bool // whether a row function read anything, or wrote a key other than its row's

	failed           error // the first write that was refused here
	written, deleted uint64
}

var _ store.Txn = (*Tx)(nil)

// Now returns when the migration started, in UTC and whole milliseconds. It is
// the same on every call, also in later steps and after an interruption, and the
// only clock that a migration may use: with it, two runs write identical bytes.
func (tx *Tx) Now() time.Time { return tx.now }

// Cursor returns what the step before passed to [Tx.Continue], nil in the first
// step. The migration must not change it.
func (tx *Tx) Cursor() []byte { return tx.cursor }

// Continue makes the Up one step of several: the writes of this call, cursor and
// the counters commit in one transaction, and Up is called again with that cursor
// in a next one. The call that does not call Continue is the last, and also
// commits the version. A program that is killed between goes on from the cursor.
//
// cursor must not be nil and must differ from [Tx.Cursor], or Up would run for
// ever; otherwise the step fails and is not committed. Continue copies it.
func (tx *Tx) Continue(cursor []byte) {
	tx.continues = true
	tx.next = bytes.Clone(cursor)
}

// Limits returns the bounds of a step: what one transaction holds of the
// migration's own writes, beside the records that the runner adds.
func (tx *Tx) Limits() store.Limits {
	const entries, bytes = 8, 4 << 10
	l := tx.limits
	l.TxnEntries = max(1, l.TxnEntries-entries)
	l.TxnBytes = max(1, l.TxnBytes-bytes)
	return l
}

// Get implements [store.Reader].
func (tx *Tx) Get(key []byte) (store.Entry, error) {
	tx.strayed = true
	return tx.txn.Get(key)
}

// Scan implements [store.Reader].
func (tx *Tx) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	tx.strayed = true
	return tx.txn.Scan(s)
}

// Set implements [store.Txn]. It also refuses the schema's own keys
// ([ErrReservedKey]), a value that a power loss could empty ([ErrTornValue]), and
// in a [RowFunc] a key that the scan has yet to reach ([ErrAhead]). Set gives the
// entry the expiry and user meta of e; [Tx.Update] keeps those that it has.
func (tx *Tx) Set(e store.Entry) error {
	if err := tx.guard("set", e.Key, len(e.Value)); err != nil {
		return err
	}
	tx.written++
	return tx.txn.Set(e)
}

// Delete implements [store.Txn]. It also refuses the schema's own keys
// ([ErrReservedKey]), and in a [RowFunc] a key that the scan has yet to reach
// ([ErrAhead]).
func (tx *Tx) Delete(key []byte) error {
	if err := tx.guard("delete", key, 0); err != nil {
		return err
	}
	tx.deleted++
	return tx.txn.Delete(key)
}

// Update replaces the value of key by what change makes of it and keeps the
// entry's expiry and user meta. The error matches [store.ErrNotFound] if there
// is no such entry; an error of change is returned with key as a field.
func (tx *Tx) Update(key []byte, change func(value []byte) ([]byte, error)) error {
	e, err := tx.Get(key)
	if err != nil {
		return err
	}
	e.Value, err = change(e.Value)
	if err != nil {
		return &store.Error{Op: "update", Key: bytes.Clone(key), Err: err}
	}
	return tx.Set(e)
}

// guard refuses a write that the store would accept. The refusal sticks: a
// migration that drops the error must not commit.
func (tx *Tx) guard(op string, key []byte, size int) error {
	if tx.failed != nil {
		return tx.failed
	}
	tx.strayed = tx.strayed || !bytes.Equal(key, tx.row)
	switch {
	case bytes.HasPrefix(key, tx.reserved) || isRecord(key):
		tx.failed = &store.Error{Op: op, Key: bytes.Clone(key), Err: ErrReservedKey}
	case tx.limits.TornValueBytes > 0 && size >= tx.limits.TornValueBytes:
		tx.failed = &store.Error{Op: op, Key: bytes.Clone(key), Err: tornValue(size)}
	case tx.row != nil && bytes.Compare(key, tx.row) > 0 && bytes.HasPrefix(key, tx.rows.prefix):
		tx.failed = &store.Error{Op: op, Key: bytes.Clone(key), Err: ErrAhead}
	}
	return tx.failed
}

func tornValue(size int) error { return fmt.Errorf("%w (it has %d bytes)", ErrTornValue, size) }

// end lets go of what the transaction holds, which is in the store.
func (tx *Tx) end() { tx.txn = ended{} }

// ended is the transaction of a Tx that a migration kept.
type ended struct{}

func (ended) Get([]byte) (store.Entry, error) { return store.Entry{}, errEnded("get") }

func (ended) Scan(store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, errEnded("scan")) }
}

func (ended) Set(store.Entry) error { return errEnded("set") }
func (ended) Delete([]byte) error   { return errEnded("delete") }

func errEnded(op string) error {
	return &store.Error{Op: op, Err: fmt.Errorf("%w: a migration must not keep its Tx", store.ErrTxnDone)}
}

// repeatable reports whether the batch of this step can be made again after later
// ones are, to the same effect: it depends on its rows alone and changes nothing
// else, or its builder knows that what else it does makes no difference.
func (tx *Tx) repeatable() bool { return tx.rows.again || !tx.strayed && !tx.serial }

// call runs fn and turns a panic into an error.
func call(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}
