package migrate

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// Progress is how far a migration of several transactions has come. A store has
// one exactly while such a migration is under way.
type Progress struct {
	Version      uint32
	Name         string
	Started      time.Time // of the first step, UTC, milliseconds
	Transactions uint64    // steps committed so far
	KeysWritten  uint64
	KeysDeleted  uint64
	Program      string // that committed the last step

	Phase        int    // the phase it is in, from 1; see Phases
	Visited      uint64 // entries that the builder of that phase has visited, 0 if it has none
	VisitedBytes uint64 // their keys and values

	fingerprint string
	cursor      []byte
	rows        int    // the most entries in the next batch, 0 for the usual
	until       []byte // the last key of the next batch, nil if there is no such bound
	unstored    bool   // whether the store has no version yet
	checking    bool   // whether Up is done and Check is what is left
}

// progressRecord is the encoding of Progress.
type progressRecord struct {
	Fingerprint  string `cbor:"f"` // in hexadecimal
	Version      uint32 `cbor:"version"`
	Name         string `cbor:"name"`
	Started      int64  `cbor:"started"` // Unix milliseconds
	Transactions uint64 `cbor:"transactions"`
	KeysWritten  uint64 `cbor:"keys_written"`
	KeysDeleted  uint64 `cbor:"keys_deleted"`
	Program      string `cbor:"program"`
	Phase        int    `cbor:"phase"`
	Visited      uint64 `cbor:"visited"`
	VisitedBytes uint64 `cbor:"visited_bytes"`
	Rows         int    `cbor:"rows"`
	Cursor       []byte `cbor:"cursor"`
	Checking     bool   `cbor:"checking,omitempty"`
}

func (p Progress) encode() ([]byte, error) {
	return value.Marshal(progressRecord{
		Fingerprint: p.fingerprint, Version: p.Version, Name: p.Name, Started: p.Started.UnixMilli(),
		Transactions: p.Transactions, KeysWritten: p.KeysWritten, KeysDeleted: p.KeysDeleted,
		Program: p.Program, Phase: p.Phase, Visited: p.Visited, VisitedBytes: p.VisitedBytes, Rows: p.rows, Cursor: p.cursor,
		Checking: p.checking,
	})
}

// readProgress reads a schema's progress, nil if nothing is under way. It must
// be of the version after the stored one.
func (r *Runner) readProgress(s store.Reader, version uint32) (*Progress, error) {
	e, err := s.Get(r.keys.progress)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, r.unreadable(r.keys.progress, "the progress of a migration", err)
	}
	p, err := decodeProgress(e.Value)
	if err != nil {
		return nil, r.undecodable(r.keys.progress, "the progress of a migration", err)
	}
	if version == 0 && p.Version > 0 {
		version = p.Version - 1 // it can be that of a baseline, also if this program has none
	}
	if p.Version == 0 || p.Version-1 != version {
		return nil, r.corrupt(r.keys.progress, "it is at v%d but carries progress of v%d", version, p.Version)
	}
	return p, nil
}

func decodeProgress(data []byte) (*Progress, error) {
	var p progressRecord
	if err := value.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	return &Progress{
		Version: p.Version, Name: p.Name, Started: time.UnixMilli(p.Started).UTC(),
		Transactions: p.Transactions, KeysWritten: p.KeysWritten, KeysDeleted: p.KeysDeleted,
		Program: p.Program, Phase: p.Phase, Visited: p.Visited, VisitedBytes: p.VisitedBytes,
		fingerprint: p.Fingerprint, cursor: p.Cursor, rows: p.Rows, checking: p.Checking,
	}, nil
}

// resumable reports why a program that may go up to target cannot go on with p in
// a store at version.
func (r *Runner) resumable(p *Progress, version, target uint32) error {
	l := r.registry.ladder()
	if p.Version > min(target, l.latest()) || p.Version != l.next(version) {
		return &UnderWayError{Schema: r.schema, Version: p.Version, Name: p.Name, Known: target}
	}
	known := l.at(p.Version)
	if p.Name != known.Name {
		return &RenamedError{Schema: r.schema, Version: p.Version, Stored: p.Name, Known: known.Name}
	}
	if p.fingerprint != l.fingerprint(p.Version).String() {
		return r.corrupt(r.keys.progress, "the fingerprint of the migration under way does not belong to its name")
	}
	if p.Phase < 1 || p.rows < 0 {
		return r.corrupt(r.keys.progress, "the progress of v%d is in no phase", p.Version)
	}
	return nil
}

// String says how far p has come, for people.
func (p Progress) String() string {
	text := fmt.Sprintf("%s of v%d (%s), %s written and %d deleted", plural.Of(p.Transactions, "transaction"), p.Version, p.Name, plural.Of(p.KeysWritten, "key"), p.KeysDeleted)
	if p.Phase > 1 {
		text += fmt.Sprintf(", now in phase %d", p.Phase)
	}
	if p.checking {
		text += ", and its check is due"
	}
	if p.Visited > 0 {
		text += fmt.Sprintf(", %s visited", plural.Of(p.Visited, "entry"))
	}
	return text
}
