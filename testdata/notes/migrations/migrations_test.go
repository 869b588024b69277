package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"

	"example.com/notes/migrations"
)

var suite = migratetest.Suite{Schema: migrations.Schema}

func TestMigrations(t *testing.T) { migratetest.Run(t, suite) }

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
