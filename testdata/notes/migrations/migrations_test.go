package migrations_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"

	"example.com/notes/migrations"
	"example.com/notes/notebook"
)

var suite = migratetest.Suite{Schema: migrations.Schema, Fresh: writeNotes}

func TestMigrations(t *testing.T) { migratetest.Run(t, suite) }

// writeNotes writes the notes of an old store with the program of today.
func writeNotes(ctx context.Context, st store.Store, version uint32) error {
	at := time.UnixMilli
	end := time.Unix(4102444800, 0)
	notes := []notebook.Note{
		{Title: "Stand-up", Body: "Nine o'clock, room 4.\nBring the figures.", Tag: "work", Created: at(1742825304000)},
		{Title: "Лодка 🛶", Body: "Спросить Åsa — naïve?", Tag: "идеи", Created: at(1742884200000)},
		{Title: "A title alone", Created: at(1709279999000)},
		{Created: at(1743465600000)},
		{Body: "The first line is empty", Tag: "work", Created: at(1743465601000)},
		{Title: "Badge", Body: "4711", Tag: "work", Created: at(1743580800000), Expires: end, Pinned: true},
		{Title: "beta", Created: at(0)},
	}
	if version >= 2 {
		notes = append(notes,
			notebook.Note{Title: "Leave", Body: "Two weeks\nin May", Tag: "work", Created: at(1746090000000)},
			notebook.Note{Title: "Removed", Tag: "work"},
			notebook.Note{Title: "東京", Tag: "в дороге", Created: at(1746090000001), Expires: end, Pinned: true},
			notebook.Note{Created: at(0)},
		)
	}
	book := notebook.New(st)
	for _, note := range notes {
		id, err := book.Add(ctx, note)
		if err == nil && note.Title == "Removed" {
			err = book.Remove(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestFrozen(t *testing.T) {
	if err := frozen.Check("."); err != nil {
		t.Error(err)
	}
}

// TestSplitTitleMemory: the rewrite holds batches of notes, not all 60 MiB of
// them.
func TestSplitTitleMemory(t *testing.T) {
	body := strings.Repeat("лодка ", 180)
	row := func(i int) store.Entry {
		data, err := value.Marshal(map[string]string{
			"text": fmt.Sprintf("Note %d\n%s", i, body), "when": "2025-03-24T14:08:24Z", "tag": "work",
		})
		if err != nil {
			t.Fatal(err)
		}
		return store.Entry{Key: fmt.Appendf(nil, "notes.note/%08d", i), Value: data}
	}
	migratetest.Memory(t, suite, 2, 30_000, row, 64<<20)
}
