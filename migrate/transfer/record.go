package transfer

import (
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// record is what the destination holds while a copy is not finished.
type record struct {
	Fingerprint []byte `cbor:"f"`       // of the source's entries
	Token       []byte `cbor:"token"`   // random bytes, new in each call
	Started     int64  `cbor:"started"` // Unix milliseconds, of the first call
	Total       uint64 `cbor:"total"`   // entries to copy
	Entries     uint64 `cbor:"entries"` // that were copied, and
	Bytes       uint64 `cbor:"bytes"`   // of their keys and values
	Last        []byte `cbor:"last"`    // the key of the last one; nil if there is none
}

func (r record) encode() ([]byte, error) { return value.Marshal(r) }

// decode returns an [*UnfinishedError] for a record that is damaged.
func decode(encoded []byte) (*record, error) {
	var r record
	if err := value.Unmarshal(encoded, &r); err != nil {
		return nil, &UnfinishedError{Err: err}
	}
	return &r, nil
}

// readRecord returns the record of the copy that s holds, nil if it holds none.
func readRecord(s store.Reader) (*record, error) {
	encoded, err := get(s, recordKey)
	if err != nil || encoded == nil {
		return nil, err
	}
	return decode(encoded)
}

// unfinished says that the store with the record is no store yet.
func (r *record) unfinished() *UnfinishedError {
	return &UnfinishedError{Entries: r.Entries, Total: r.Total, Started: time.UnixMilli(r.Started).UTC()}
}

// UnderWay returns an [*UnfinishedError] if the store holds a copy that is not finished,
// and otherwise nil, or the error of reading it.
func UnderWay(s store.Reader) error {
	r, err := readRecord(s)
	if err != nil || r == nil {
		return err
	}
	return r.unfinished()
}
