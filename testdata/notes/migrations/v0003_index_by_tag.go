package migrations

import (
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     3,
		Name:        "index_by_tag",
		Description: "indexing notes by tag",
		Up:          up0003,
	})
}

// up0003 replaces the list of each tag, which was written anew with each note and
// kept the numbers of notes that had expired, by one entry a note. The lists go
// once the index is complete.
var up0003 = migrate.Phases(
	migrate.Index(store.MustPartition("notes.note"), store.MustPartition("notes.by_tag"), tagEntry0003),
	migrate.DropPrefix(store.MustPartition("notes.tags").Prefix()),
)

// note0003 is what the index needs of a note.
type note0003 struct {
	Tag string `cbor:"tag"`
}

// tagEntry0003 returns a note's entry in the index. The key, (tag, number), says
// all; a note without a tag has none.
func tagEntry0003(id, row []byte) (key, data []byte, err error) {
	var note note0003
	if err := value.Unmarshal(row, &note); err != nil {
		return nil, nil, fmt.Errorf("note: %w", err)
	}
	if note.Tag == "" {
		return nil, nil, nil
	}
	return tuple.AppendString(tuple.AppendString(nil, note.Tag), string(id)), nil, nil
}
