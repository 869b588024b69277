package dropped

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

var key = []byte("app/1")

func statements(tx *migrate.Tx, txn store.Txn) {
	tx.Set(store.Entry{})  // want `the error of Set is dropped, and the migration goes on after it failed: check it and return it`
	(tx.Delete(key))       // want `error of Delete`
	tx.Update(key, nil)    // want `error of Update`
	tx.Get(key)            // want `error of Get`
	txn.Set(store.Entry{}) // want `error of Set`
	defer txn.Delete(key)  // want `error of Delete`
	go tx.Delete(key)      // want `error of Delete` `belongs to one goroutine`
}

func overwritten(tx *migrate.Tx) error {
	err := tx.Delete(key)       // want `error of Delete`
	err = tx.Set(store.Entry{}) // want `error of Set`
	count(tx)
	if err = tx.Delete(key); err != nil {
		return err
	}
	switch e, err := tx.Get(key); { // read below
	case len(e.Key) > 0:
		_, err = tx.Get(key) // want `error of Get`
		e, err = tx.Get(key)
		return err
	default:
		_ = err == nil
	}
	_, err = tx.Get(key) // want `error of Get`
	err = nil
	return err
}

func notOverwritten(tx *migrate.Tx, some bool) (err error) {
	err = tx.Delete(key)
	if some {
		return // reads it
	}
	err = tx.Delete(key)
	if some {
		err = tx.Set(store.Entry{})
	}
	for range 2 {
		if err == nil {
			err = tx.Delete(key)
		}
	}
	err = errors.Join(err, tx.Delete(key))
	err = fmt.Errorf("delete: %w", err)

	var captured error
	look := func() bool { return captured != nil }
	captured = tx.Delete(key)
	some = look()
	captured = tx.Delete(key)
	pointed := tx.Delete(key)
	p := &pointed
	pointed = tx.Delete(key)
	some = *p == nil
	pointed = tx.Delete(key)

	n := count(tx)
	n = count(tx)
	err2 := fmt.Errorf("%d %t", n, some)
	err2 = tx.Delete(key)
	return errors.Join(err, err2, captured, pointed)
}

func swallowed(tx *migrate.Tx, t table) (int, error) {
	if err := tx.Delete(key); err != nil { // want `the error of Delete is dropped, and the migration goes on after it failed: return it, unless errors.Is says it is the one you expect`
		return 0, nil
	}
	err := put(tx, key)
	fmt.Println(key)
	if err != nil { // want `error of put`
		fmt.Println(key)
		return 1, nil
	}
	for e, err := range tx.Scan(store.Scan{}) {
		if err != nil { // want `the error of Scan is dropped, and a scan that broke off looks like one that is done: return it`
			return len(e.Key), (nil)
		}
	}
	for _, err := range tx.Scan(store.Scan{}) {
		if err != nil { // want `error of Scan`
			break
		}
	}
	for _, err := range tx.Scan(store.Scan{}) {
		if err != nil { // want `error of Scan`
			continue
		}
		if err := tx.Delete(key); err != nil { // want `error of Delete`
			fmt.Println(key)
			continue
		}
	}
	_ = func() error {
		if _, err := tx.Get(key); err != nil { // want `error of Get`
			return nil
		}
		return nil
	}
	return 0, nil
}

func notSwallowed(tx *migrate.Tx, t table) (n int, err error) {
	if _, err := tx.Get(key); errors.Is(err, store.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	_, err = tx.Get(key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	if err != nil {
		return 0, nil // not found
	}
	if _, err := tx.Get(key); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return 0, nil
		}
		return 0, err
	}
	if _, err := tx.Get(key); err != nil {
		t.err = err
		return 0, nil
	}
	if err := tx.Delete(key); err != nil {
		return 0, errors.New("no")
	}
	if err := tx.Delete(key); err == nil {
		return 0, nil
	}
	for _, err = range tx.Scan(store.Scan{}) {
		if err != nil {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	var failed error
	for _, err := range tx.Scan(store.Scan{}) {
		if err != nil {
			failed = err
			break
		}
	}
	for _, err := range tx.Scan(store.Scan{}) {
		if err != nil {
			failed = errors.New("no")
			break
		}
	}
	for {
		if err = tx.Delete(key); err != nil {
			break
		}
	}
	if _, err := fmt.Println(tx); err != nil {
		return 0, nil
	}
	defer func() { failed = err }()
	if err = tx.Delete(key); err != nil {
		return 0, nil // to the function above
	}
	_ = func() bool {
		if _, err := tx.Get(key); err != nil {
			return false
		}
		return true
	}
	return 0, failed
}

// Of no error: a pointer.
func pointer(tx *migrate.Tx) *int {
	if err := tx.Delete(key); err != nil {
		return nil
	}
	return nil
}

func methodValues(tx *migrate.Tx, txn store.Txn, m map[string]bool) error {
	set := tx.Set
	set(store.Entry{}) // want `error of Set`
	var remove = (txn.Delete)
	_ = remove(key)    // want `error of Delete`
	for k := range m { // want `order of a map`
		if err := remove([]byte(k)); err != nil {
			return err
		}
	}
	now, name := tx.Now, cache{}.Set
	now()
	name(1)
	scan := tx.Scan
	for range scan(store.Scan{}) { // want `error of Scan`
	}
	return set(store.Entry{})
}

func blanks(tx *migrate.Tx, txn store.Txn, r store.Reader) []byte {
	_ = tx.Set(store.Entry{})                 // want `error of Set`
	_, err := tx.Delete(key), txn.Delete(key) // want `error of Delete`
	e, _ := r.Get(key)                        // want `error of Get`
	_, _ = txn.Get(key)                       // want `error of Get`
	var _ = tx.Delete(key)                    // want `error of Delete`
	if e, _ = tx.Get(key); err != nil {       // want `error of Get`
		return nil
	}
	return e.Value
}

func unread(tx *migrate.Tx) error {
	err := tx.Set(store.Entry{}) // want `error of Set`
	_ = err
	var err2 = tx.Delete(key) // want `error of Delete`
	_ = err2
	e, err3 := tx.Get(key) // want `error of Get`
	_, _ = e, err3
	err4 := tx.Delete(key)
	if err4 != nil {
		return err4
	}
	err4 = tx.Set(store.Entry{}) // want `error of Set`
	_ = err4
	err4 = tx.Set(store.Entry{}) // want `error of Set`
	_ = err4
	return nil
}

func helpers(tx *migrate.Tx, txn store.Txn, r store.Reader, t table, up func(*migrate.Tx) error) {
	put(tx, key)         // want `the error of put is dropped`
	_ = put(tx, key)     // want `error of put`
	_, _ = get(r, key)   // want `error of get`
	n, _ := get(tx, key) // want `error of get`
	up(tx)               // want `error of up`
	t.put(tx)            // want `error of put`
	t.write()            // want `error of write`
	defer put(txn, key)  // want `error of put`
	each(1, tx, txn)     // want `error of each`
	known(tx)            // want `error of known`
	func() error { return nil }()
	func(store.Txn) error { return nil }(tx) // want `error of this call`
	err := put(tx, key)                      // want `error of put`
	_ = err
	_ = n
}

func scans(tx *migrate.Tx, r store.Reader) {
	for range tx.Scan(store.Scan{}) { // want `the error of Scan is dropped, and a scan that broke off looks like one that is done`
	}
	for e := range r.Scan(store.Scan{}) { // want `error of Scan`
		_ = e
	}
	for e, _ := range tx.Scan(store.Scan{}) { // want `error of Scan`
		_ = e
	}
	for e, err := range tx.Scan(store.Scan{}) { // want `error of Scan`
		_, _ = e, err
	}
}

func fine(ctx context.Context, tx *migrate.Tx, st store.Store, own cache) error {
	tx.Continue(key)
	_ = tx.Now()
	_ = st.Update(ctx, nil) // no method of a transaction
	own.Set(1)
	if _, err := tx.Get(key); err != nil {
		return err
	}
	for _, err := range tx.Scan(store.Scan{}) {
		if err != nil {
			return err
		}
	}
	err := tx.Set(store.Entry{})
	if err == nil {
		_, err = tx.Get(key)
	}
	return err
}

// What is read somewhere is not dropped, and what is no error of a transaction
// does not matter.
func alsoFine(tx *migrate.Tx, t table) (err error) {
	defer func() {
		if err != nil {
			_ = err
		}
	}()
	fmt.Println(tx)
	_, _ = fmt.Fprintln(io.Discard, tx, "x")
	_ = upFunc(up)
	t.look()
	count(tx)
	_ = unsafe.Sizeof(t)
	_ = len(key)
	later = tx.Delete(key)
	t.err = tx.Delete(key)
	if err := put(tx, key); err != nil {
		_ = err
	}
	err2 := put(tx, key)
	_ = err2
	if err2 != nil {
		return err2
	}
	func() { err2 = put(tx, key) }()
	if err2 == nil {
		err = tx.Set(store.Entry{})
		_ = err
	}
	return
}

var later error

type upFunc func(*migrate.Tx) error

func up(tx *migrate.Tx) error { return put(tx, key) }

func put(tx store.Txn, key []byte) error          { return tx.Set(store.Entry{Key: key}) }
func get(r store.Reader, key []byte) (int, error) { return 0, nil }
func each(n int, txns ...store.Txn) error         { return nil }
func count(r store.Reader) int                    { return 0 }

func known(getter interface {
	Get(key []byte) (store.Entry, error)
}) error {
	return nil
}

type table struct {
	tx  *migrate.Tx
	err error
}

func (table) put(*migrate.Tx) error { return nil }
func (t table) write() error        { return put(t.tx, key) }
func (t table) look() error         { return nil }

type cache struct{}

func (cache) Set(int) error { return nil }
