package helpers

import "github.com/kvmigrate/kvmigrate/migrate"

func up0001(tx *migrate.Tx) error { return stamp(tx, names) }
