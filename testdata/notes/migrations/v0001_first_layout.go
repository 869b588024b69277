package migrations

import (
	"context"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     1,
		Name:        "first_layout",
		Description: "counting notes from 1",
		Up:          up0001,
	})
}

// up0001 stores the number of the first note, so that a program that finds no
// counter knows that something is wrong. It is all that a store without notes
// holds. Programs at v1 keep
//
//	notes.note/00000001  {"text": "title\nbody", "when": RFC 3339, "tag": "work"}
//	notes.tags/work      [1, …], the notes with that tag
func up0001(_ context.Context, tx *migrate.Tx) error {
	next, err := value.Marshal(1)
	if err != nil {
		return err
	}
	return tx.Set(store.Entry{Key: []byte("notes.meta/next"), Value: next})
}
