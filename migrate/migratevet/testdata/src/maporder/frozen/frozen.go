package frozen

import (
	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

func Create(tx *migrate.Tx, name string) error { return tx.Set(store.Entry{Key: []byte(name)}) }
func Exists(s store.Reader, name string) bool  { return true }
