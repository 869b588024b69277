package dropped

import (
	"context"

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

func scans(tx *migrate.Tx, r store.Reader) {
	for range tx.Scan(store.Scan{}) { // want `the error of Scan is dropped, and a scan that broke off looks like one that is done`
	}
	for e := range r.Scan(store.Scan{}) { // want `error of Scan`
		_ = e
	}
	for e, _ := range tx.Scan(store.Scan{}) { // want `error of Scan`
		_ = e
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

type cache struct{}

func (cache) Set(int) error { return nil }
