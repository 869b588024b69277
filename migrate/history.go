package migrate

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// Applied is the record of one migration in a store's history.
type Applied struct {
	Version      uint32
	Name         string
	Description  string
	Fingerprint  Fingerprint // of the ladder up to this version
	Started      time.Time   // UTC, milliseconds
	Finished     time.Time   // UTC, milliseconds
	Transactions uint64      // how many it took
	KeysWritten  uint64      // Sets, an overwritten key counted each time
	KeysDeleted  uint64      // Deletes
	Program      string      // the program and version that ran it
}

// record is the encoding of Applied. The one-letter key orders first, so that
// the start-up check can compare the fingerprint without decoding the rest.
type record struct {
	Fingerprint  string `cbor:"f"` // in hexadecimal
	Version      uint32 `cbor:"version"`
	Name         string `cbor:"name"`
	Description  string `cbor:"description"`
	Started      int64  `cbor:"started"`  // Unix milliseconds
	Finished     int64  `cbor:"finished"` // Unix milliseconds
	Transactions uint64 `cbor:"transactions"`
	KeysWritten  uint64 `cbor:"keys_written"`
	KeysDeleted  uint64 `cbor:"keys_deleted"`
	Program      string `cbor:"program"`
}

// recordHead is how every record starts: a map of ten pairs, the key "f", a
// text of sixteen bytes.
const recordHead = "\xaa\x61f\x70"

func (a Applied) encode() ([]byte, error) {
	return value.Marshal(record{
		Fingerprint: a.Fingerprint.String(), Version: a.Version, Name: a.Name, Description: a.Description,
		Started: a.Started.UnixMilli(), Finished: a.Finished.UnixMilli(),
		Transactions: a.Transactions, KeysWritten: a.KeysWritten, KeysDeleted: a.KeysDeleted, Program: a.Program,
	})
}

func decodeApplied(data []byte) (Applied, error) {
	var r record
	if err := value.Unmarshal(data, &r); err != nil {
		return Applied{}, err
	}
	f, err := hex.DecodeString(r.Fingerprint)
	if err != nil || len(f) != len(Fingerprint{}) {
		return Applied{}, errors.New("its fingerprint is not 16 hexadecimal digits")
	}
	return Applied{
		Version: r.Version, Name: r.Name, Description: r.Description, Fingerprint: Fingerprint(f),
		Started: time.UnixMilli(r.Started).UTC(), Finished: time.UnixMilli(r.Finished).UTC(),
		Transactions: r.Transactions, KeysWritten: r.KeysWritten, KeysDeleted: r.KeysDeleted, Program: r.Program,
	}, nil
}

// headOf returns how the record of a migration with fingerprint f starts.
func headOf(f Fingerprint) []byte { return hex.AppendEncode([]byte(recordHead), f[:]) }

// readVersion reads a schema's version. stored is false if there is none.
func (r *Runner) readVersion(s store.Reader) (version uint32, stored bool, err error) {
	e, err := s.Get(r.keys.version)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, false, nil
	case err != nil:
		return 0, false, r.unreadable(r.keys.version, "its version", err)
	case len(e.Value) != 4:
		return 0, false, r.corrupt(r.keys.version, "its version has %d bytes instead of 4", len(e.Value))
	}
	return binary.BigEndian.Uint32(e.Value), true, nil
}

// readHistory reads and checks a schema's whole history against its version:
// one record for each version from 1 on, no more and no fewer.
func (r *Runner) readHistory(s store.Reader, version uint32) ([]Applied, error) {
	var history []Applied
	for e, err := range s.Scan(store.Scan{Prefix: []byte(r.keys.history)}) {
		if err != nil {
			return nil, r.unreadable([]byte(r.keys.history), "its history", err)
		}
		next := uint32(len(history)) + 1
		if string(e.Key) != string(r.keys.historyOf(next)) {
			return nil, r.corrupt(e.Key, "its history has no record of v%d where one is due", next)
		}
		a, err := decodeApplied(e.Value)
		if err != nil {
			return nil, r.undecodable(e.Key, fmt.Sprintf("the history record of v%d", next), err)
		}
		if a.Version != next {
			return nil, r.corrupt(e.Key, "the history record of v%d says v%d", next, a.Version)
		}
		history = append(history, a)
	}
	if uint32(len(history)) != version {
		return nil, r.corrupt(r.keys.historyOf(version), "its version is v%d but its history ends at v%d", version, len(history))
	}
	return history, nil
}

func (r *Runner) corrupt(key []byte, format string, args ...any) error {
	return &CorruptError{Schema: r.schema, Key: append([]byte(nil), key...), Reason: fmt.Sprintf(format, args...)}
}

// unreadable wraps an error of reading what. Only damage makes it a
// CorruptError: a cancelled context or a closed store is not one.
func (r *Runner) unreadable(key []byte, what string, err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		return r.undecodable(key, what, err)
	}
	return fmt.Errorf("read %s schema: %s: %w", r.schema, what, err)
}

// undecodable is the error of a record that was read and makes no sense.
func (r *Runner) undecodable(key []byte, what string, err error) error {
	return &CorruptError{Schema: r.schema, Key: append([]byte(nil), key...), Reason: what + " cannot be read", Err: err}
}
