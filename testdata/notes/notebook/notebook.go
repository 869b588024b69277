// Package notebook keeps notes in a store at the latest version of the notes
// schema.
package notebook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// ErrNoNote means that there is no note with that number.
var ErrNoNote = errors.New("no such note")

// A Note is a piece of text and what is known of it.
type Note struct {
	ID      string // a number of eight digits
	Title   string
	Body    string
	Tag     string    // "" is none
	Created time.Time // zero if not known
	Expires time.Time // zero is never
	Pinned  bool
}

// row is a note as the store has it.
type row struct {
	Title   string `cbor:"title"`
	Body    string `cbor:"body"`
	Created int64  `cbor:"created"` // Unix milliseconds, 0 if not known
	Tag     string `cbor:"tag"`
}

// pinned is the user meta of a pinned note.
const pinned = 0x01

var (
	notes = store.MustPartition("notes.note")
	byTag = store.MustPartition("notes.by_tag") // (tag, number), without a value
	next  = store.MustPartition("notes.meta").Key([]byte("next"))
)

// A Book is the notes of a store.
type Book struct{ st store.Store }

// New returns the notes of st, which must be at the latest version.
func New(st store.Store) Book { return Book{st} }

// Add stores n under a number of its own, which it returns.
func (b Book) Add(ctx context.Context, n Note) (id string, err error) {
	data, err := value.Marshal(row{Title: n.Title, Body: n.Body, Created: n.Created.UnixMilli(), Tag: n.Tag})
	if err != nil {
		return "", err
	}
	note := store.Entry{Value: data}
	if n.Pinned {
		note.Meta = pinned
	}
	if !n.Expires.IsZero() {
		note.ExpiresAt = uint64(n.Expires.Unix())
	}
	err = store.Update(ctx, b.st, func(tx store.Txn) error {
		if id, err = take(tx); err != nil {
			return err
		}
		note.Key = notes.Key([]byte(id))
		if err := tx.Set(note); err != nil || n.Tag == "" {
			return err
		}
		return tx.Set(store.Entry{Key: tagKey(n.Tag, id), ExpiresAt: note.ExpiresAt})
	})
	return id, err
}

// take returns the next number and counts on.
func take(tx store.Txn) (id string, err error) {
	counter, err := tx.Get(next)
	if err != nil {
		return "", err
	}
	var n int64
	if err := value.Unmarshal(counter.Value, &n); err != nil {
		return "", err
	}
	if counter.Value, err = value.Marshal(n + 1); err != nil {
		return "", err
	}
	return fmt.Sprintf("%08d", n), tx.Set(counter)
}

func tagKey(tag, id string) []byte {
	return byTag.Key(tuple.AppendString(tuple.AppendString(nil, tag), id))
}

// All calls yield with every note, by number, and ends with its first error.
func (b Book) All(ctx context.Context, yield func(Note) error) error {
	return b.st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: notes.Prefix()}) {
			if err != nil {
				return err
			}
			n, err := decode(e)
			if err != nil {
				return err
			}
			if err := yield(n); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tagged is All for the notes with that tag.
func (b Book) Tagged(ctx context.Context, tag string, yield func(Note) error) error {
	return b.st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: byTag.Key(tuple.AppendString(nil, tag)), KeysOnly: true}) {
			if err != nil {
				return err
			}
			key, _ := byTag.Cut(e.Key)
			parts, err := tuple.Decode(key)
			if err != nil {
				return err
			}
			if len(parts) != 2 || parts[0] != tag {
				break // a tag that goes on with a zero byte; see package tuple
			}
			id, ok := parts[1].(string)
			if !ok {
				return tuple.ErrMalformed
			}
			e, err := r.Get(notes.Key([]byte(id)))
			if err != nil {
				return err
			}
			n, err := decode(e)
			if err != nil {
				return err
			}
			if err := yield(n); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove removes a note. If there is none the error matches [ErrNoNote].
func (b Book) Remove(ctx context.Context, id string) error {
	key := notes.Key([]byte(id))
	return store.Update(ctx, b.st, func(tx store.Txn) error {
		e, err := tx.Get(key)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: %s", ErrNoNote, id)
		} else if err != nil {
			return err
		}
		n, err := decode(e)
		if err != nil {
			return err
		}
		if n.Tag != "" {
			if err := tx.Delete(tagKey(n.Tag, id)); err != nil {
				return err
			}
		}
		return tx.Delete(key)
	})
}

func decode(e store.Entry) (Note, error) {
	id, _ := notes.Cut(e.Key)
	var r row
	if err := value.Unmarshal(e.Value, &r); err != nil {
		return Note{}, fmt.Errorf("note %s: %w", id, err)
	}
	n := Note{ID: string(id), Title: r.Title, Body: r.Body, Tag: r.Tag, Pinned: e.Meta == pinned}
	if r.Created != 0 {
		n.Created = time.UnixMilli(r.Created).UTC()
	}
	if e.ExpiresAt != 0 {
		n.Expires = time.Unix(int64(e.ExpiresAt), 0).UTC()
	}
	return n, nil
}
