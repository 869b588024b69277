package maporder

import (
	"maps"
	"slices"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"maporder/frozen"
)

type names map[string]string

func direct(tx *migrate.Tx, txn store.Txn, m names) error {
	for k := range m { // want `the order of a map differs between runs, and this writes in it: range over slices.Sorted\(maps.Keys\(m\)\)`
		if err := tx.Set(store.Entry{Key: []byte(k)}); err != nil {
			return err
		}
	}
	for k := range m { // want `order of a map`
		if err := txn.Delete([]byte(k)); err != nil {
			return err
		}
	}
	for k, v := range m { // want `order of a map`
		if err := tx.Update([]byte(k), func([]byte) ([]byte, error) { return []byte(v), nil }); err != nil {
			return err
		}
	}
	for k := range maps.Keys(m) { // want `order of a map`
		tx.Continue([]byte(k))
	}
	return nil
}

func called(tx *migrate.Tx, m names, up func(*migrate.Tx) error) (err error) {
	for k := range m { // want `order of a map`
		err = put(tx, k)
	}
	for k := range m { // want `order of a map`
		each(tx, k)
	}
	for k := range m { // want `order of a map`
		err = table{tx}.put(k)
	}
	for k := range m { // want `order of a map`
		err = frozen.Create(tx, k)
	}
	for range m { // want `order of a map`
		err = up(tx)
	}
	closure := func(k string) error { return tx.Delete([]byte(k)) }
	for k := range m { // want `order of a map`
		err = closure(k)
	}
	return err
}

func fine(tx *migrate.Tx, m names) (err error) {
	var keys []string
	for k := range m {
		if look(tx, k) == nil && (table{tx}).get(k) == nil && frozen.Exists(tx, k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		err = put(tx, k)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		err = put(tx, k)
	}
	other := map[string]int{}
	for k := range m {
		other[k] = len(k)
		delete(m, k)
	}
	return err
}
