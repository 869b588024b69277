package maporder

import (
	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

func put(tx *migrate.Tx, name string) error { return really(tx, name) }

func really(tx store.Txn, name string) error {
	if name == "" {
		return put(nil, name)
	}
	return tx.Set(store.Entry{Key: []byte(name)})
}

func look(tx *migrate.Tx, name string) error {
	_, err := tx.Get([]byte(name))
	return err
}

func each[K comparable](tx *migrate.Tx, k K) { tx.Continue(nil) }

type table struct{ tx *migrate.Tx }

func (t table) put(name string) error { return put(t.tx, name) }
func (t table) get(name string) error { return look(t.tx, name) }
