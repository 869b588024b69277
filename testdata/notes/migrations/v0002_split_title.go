package migrations

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     2,
		Name:        "split_title",
		Description: "splitting notes into title and body",
		Up:          migrate.Rewrite(store.MustPartition("notes.note").Prefix(), splitTitle0002),
	})
}

// old0002 is a note at v1.
type old0002 struct {
	Text string `cbor:"text"`
	When string `cbor:"when"` // missing in notes of the first beta
	Tag  string `cbor:"tag"`
}

// note0002 is a note at v2.
type note0002 struct {
	Title   string `cbor:"title"`
	Body    string `cbor:"body"`
	Created int64  `cbor:"created"` // Unix milliseconds, 0 if not known
	Tag     string `cbor:"tag"`
}

// splitTitle0002 takes the first line for the title. The time becomes a number,
// so that programs need not parse it to compare it.
func splitTitle0002(data []byte) ([]byte, error) {
	var old old0002
	if err := value.Unmarshal(data, &old); err != nil {
		return nil, fmt.Errorf("note: %w", err)
	}
	note := note0002{Tag: old.Tag}
	note.Title, note.Body, _ = strings.Cut(old.Text, "\n")
	if old.When != "" {
		when, err := time.Parse(time.RFC3339, old.When)
		if err != nil { // which has the text of a user's note in it
			return nil, errors.New("note: when is not a time of RFC 3339")
		}
		note.Created = when.UnixMilli()
	}
	return value.Marshal(note)
}
