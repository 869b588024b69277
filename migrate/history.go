package migrate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// Applied is the record of one migration in a store's history. Its JSON is that of
// kvmigrate history --json, and of package statushttp.
type Applied struct {
	Version      uint32      `json:"version"`
	Name         string      `json:"name"`
	Description  string      `json:"description"`
	Fingerprint  Fingerprint `json:"fingerprint"`  // of the ladder up to this version
	Started      time.Time   `json:"started"`      // UTC, milliseconds
	Finished     time.Time   `json:"finished"`     // UTC, milliseconds
	Transactions uint64      `json:"transactions"` // how many it took
	KeysWritten  uint64      `json:"keys_written"` // Sets, an overwritten key counted each time
	KeysDeleted  uint64      `json:"keys_deleted"` // Deletes
	Program      string      `json:"program"`      // the program and version that ran it

	// Origin is how the store came to Version. A history begins with version 1,
	// or with a record whose Origin is not Migrated.
	Origin Origin `json:"origin,omitempty"`

	// ReadableFrom and WritableFrom are the oldest versions whose programs may
	// read, and write, the store as long as this record is its latest; Version if
	// there is no older one, and then JSON leaves them out.
	ReadableFrom uint32 `json:"readable_from,omitempty"`
	WritableFrom uint32 `json:"writable_from,omitempty"`

	// Unreleased says that the migration could still change when it ran.
	Unreleased bool `json:"unreleased,omitempty"`

	// SizeBefore and SizeAfter are the bytes that the store took on the disk before
	// the run which applied this migration last, and after Options.Reclaim had given
	// room back; 0 if that was not asked for.
	SizeBefore uint64 `json:"size_before,omitempty"`
	SizeAfter  uint64 `json:"size_after,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (a Applied) MarshalJSON() ([]byte, error) {
	if a.ReadableFrom >= a.Version {
		a.ReadableFrom = 0
	}
	if a.WritableFrom >= a.Version {
		a.WritableFrom = 0
	}
	return json.Marshal(appliedJSON(a))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (a *Applied) UnmarshalJSON(data []byte) error {
	var in appliedJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*a = Applied(in)
	a.ReadableFrom, a.WritableFrom = cmp.Or(a.ReadableFrom, a.Version), cmp.Or(a.WritableFrom, a.Version)
	return nil
}

// appliedJSON is Applied without its methods.
type appliedJSON Applied

// An Origin is how a store came to a version.
type Origin string

// The origins: by the migration from the version before, by a baseline in an empty
// store, or by Options.Adopt, which found it there.
const (
	Migrated Origin = ""
	Created  Origin = "baseline"
	Adopted  Origin = "adopted"
)

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
	Origin       Origin `cbor:"origin,omitempty"`
	Readable     uint32 `cbor:"readable_from,omitempty"` // 0 if it is Version
	Writable     uint32 `cbor:"writable_from,omitempty"` // 0 if it is Version
	Unreleased   bool   `cbor:"unreleased,omitempty"`
	SizeBefore   uint64 `cbor:"size_before,omitempty"`
	SizeAfter    uint64 `cbor:"size_after,omitempty"`
}

// recordHead is how every record starts after the byte that says how many pairs
// the map has: the key "f", a text of sixteen bytes.
const recordHead = "\x61f\x70"

func (a Applied) encode() ([]byte, error) {
	r := record{
		Fingerprint: a.Fingerprint.String(), Version: a.Version, Name: a.Name, Description: legible(a.Description),
		Started: a.Started.UnixMilli(), Finished: a.Finished.UnixMilli(),
		Transactions: a.Transactions, KeysWritten: a.KeysWritten, KeysDeleted: a.KeysDeleted, Program: a.Program,
		Origin: a.Origin, Unreleased: a.Unreleased, SizeBefore: a.SizeBefore, SizeAfter: a.SizeAfter,
	}
	if a.ReadableFrom < a.Version {
		r.Readable = a.ReadableFrom
	}
	if a.WritableFrom < a.Version {
		r.Writable = a.WritableFrom
	}
	return value.Marshal(r)
}

func decodeApplied(data []byte) (Applied, error) {
	var r record
	if err := value.Unmarshal(data, &r); err != nil {
		return Applied{}, err
	}
	f, err := parseFingerprint(r.Fingerprint)
	if err != nil {
		return Applied{}, err
	}
	a := Applied{
		Version: r.Version, Name: r.Name, Description: r.Description, Fingerprint: f,
		Started: time.UnixMilli(r.Started).UTC(), Finished: time.UnixMilli(r.Finished).UTC(),
		Transactions: r.Transactions, KeysWritten: r.KeysWritten, KeysDeleted: r.KeysDeleted, Program: r.Program,
		Origin: r.Origin, ReadableFrom: r.Version, WritableFrom: r.Version, Unreleased: r.Unreleased,
		SizeBefore: r.SizeBefore, SizeAfter: r.SizeAfter,
	}
	if r.Readable > 0 {
		a.ReadableFrom = r.Readable
	}
	if r.Writable > 0 {
		a.WritableFrom = r.Writable
	}
	return a, nil
}

// headOf returns how the record of a migration with fingerprint f starts after its
// first byte.
func headOf(f Fingerprint) []byte { return hex.AppendEncode([]byte(recordHead), f[:]) }

// startsWith reports whether a record starts with head.
func startsWith(record, head []byte) bool {
	return len(record) > 0 && bytes.HasPrefix(record[1:], head)
}

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

// readHistory reads and checks a schema's whole history against its version: one
// record for each version from 1 on, or from where it was created or adopted, no
// more and no fewer.
func (r *Runner) readHistory(s store.Reader, version uint32) ([]Applied, error) {
	var history []Applied
	last := uint32(0)
	for e, err := range s.Scan(store.Scan{Prefix: []byte(r.keys.history)}) {
		if err != nil {
			return nil, r.unreadable([]byte(r.keys.history), "its history", err)
		}
		version, err := strconv.ParseUint(string(e.Key[len(r.keys.history):]), 10, 32)
		if err != nil || string(e.Key) != string(r.keys.historyOf(uint32(version))) {
			return nil, r.corrupt(e.Key, "its history has a record of no version after v%d", last)
		}
		a, err := decodeApplied(e.Value)
		if err != nil {
			return nil, r.undecodable(e.Key, fmt.Sprintf("the history record of v%d", version), err)
		}
		if a.Version != uint32(version) {
			return nil, r.corrupt(e.Key, "the history record of v%d says v%d", version, a.Version)
		}
		if begins := last == 0 && a.Origin != Migrated && version > 0; !begins && a.Version != last+1 {
			return nil, r.corrupt(e.Key, "its history has no record of v%d where one is due", last+1)
		}
		last = a.Version
		history = append(history, a)
	}
	if last != version {
		return nil, r.corrupt(r.keys.historyOf(version), "its version is v%d but its history ends at v%d", version, last)
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
