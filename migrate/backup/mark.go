package backup

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/schema"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// mark is the key under which a schema keeps the progress of a migration, and what
// markText begins there no program can read as that. A store with it is refused by all.
func mark(schema string) []byte { return []byte(schema + ":schema_progress") }

const markText = "restoring"

// A marker is what follows the text: which restore it is.
type marker struct {
	Content string `cbor:"content"` // of the backup
	File    string `cbor:"file"`    // its name, without the directory
	Entries uint64 `cbor:"entries"` // in it
	Started int64  `cbor:"started"` // Unix milliseconds, of the first try
	Token   []byte `cbor:"token"`   // random bytes, new in each try
}

func newMarker(i Info) *marker {
	token := make([]byte, 16)
	_, _ = rand.Read(token) // never fails
	return &marker{Content: i.Content, File: filepath.Base(i.Path), Entries: i.Entries, Started: time.Now().UnixMilli(), Token: token}
}

func (m *marker) encode() ([]byte, error) {
	data, err := value.Marshal(m)
	return append([]byte(markText), data...), err
}

// readMarker returns the marker of the restore that is not finished, nil if there is none.
func readMarker(s store.Reader, schema string) (*marker, error) {
	e, err := s.Get(mark(schema))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, ok := bytes.CutPrefix(e.Value, []byte(markText))
	if !ok {
		return nil, nil
	}
	var m marker
	if err := value.Unmarshal(data, &m); err != nil {
		return nil, &UnfinishedError{Err: err}
	}
	return &m, nil
}

func (m *marker) unfinished() *UnfinishedError {
	return &UnfinishedError{Content: m.Content, File: m.File, Entries: m.Entries, Started: time.UnixMilli(m.Started).UTC()}
}

// UnderWay returns an [*UnfinishedError] if a backup of schema is restored into the store
// and that is not finished, and otherwise nil, or the error of reading it.
func UnderWay(s store.Reader, schema string) error {
	m, err := readMarker(s, schema)
	if err != nil || m == nil {
		return err
	}
	return m.unfinished()
}

// begin marks st, which must be empty, or what an earlier try with the same backup left.
func (m *marker) begin(tx store.Txn, schema string, all marks) error {
	old, err := readMarker(tx, schema)
	switch {
	case err != nil:
		return err
	case old != nil && old.Content != m.Content:
		return old.unfinished()
	case old != nil:
		m.Started = old.Started
	default:
		for _, err := range tx.Scan(store.Scan{KeysOnly: true}) {
			if err == nil {
				err = fmt.Errorf("%w: restore into one that is, or put this one aside", ErrNotEmpty)
			}
			return err
		}
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	return all.set(tx, data)
}

// holds fails unless the mark is still this one. Another try would otherwise finish, and
// what this one writes come after what programs have written since.
func (m *marker) holds(tx store.Txn, schema string) error {
	now, err := readMarker(tx, schema)
	if err == nil && (now == nil || !bytes.Equal(now.Token, m.Token)) {
		err = errOvertaken
	}
	return err
}

var errOvertaken = errors.New("a later restore of it into the same store has taken over; see what that one says")

// marks are the keys under which the schemas of a backup are marked, each with the entry
// that the backup has there, if any.
type marks map[string]*store.Entry

// note adds the mark of the schema whose version or progress has that key.
func (m *marks) note(key []byte) {
	name, record, ok := bytes.Cut(key, []byte(":schema_"))
	if ok && (string(record) == "version" || string(record) == "progress") && schema.Check(string(name)) == nil {
		m.add(string(name))
	}
}

func (m *marks) add(schema string) {
	if *m == nil {
		*m = marks{}
	}
	(*m)[string(mark(schema))] = nil
}

// keep reports whether e is what belongs under a mark, and keeps a copy of it if so.
func (m marks) keep(e store.Entry) bool {
	_, ok := m[string(e.Key)]
	if ok {
		e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
		m[string(e.Key)] = &e
	}
	return ok
}

// set puts data under each of the marks.
func (m marks) set(tx store.Txn, data []byte) error {
	for key := range m {
		if err := tx.Set(store.Entry{Key: []byte(key), Value: data}); err != nil {
			return err
		}
	}
	return nil
}

// remove puts in the place of the marks what belongs there.
func (m marks) remove(tx store.Txn) error {
	for key, e := range m {
		var err error
		if e == nil {
			err = tx.Delete([]byte(key))
		} else {
			err = tx.Set(*e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
