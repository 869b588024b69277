package transfer

import (
	"bytes"
	"errors"
	"strings"

	"github.com/kvmigrate/kvmigrate/store"
)

// recordKey is where the destination keeps the record of the copy. Names of schemas and
// partitions begin with a letter or another character that is not this one.
var recordKey = []byte(":copy")

// A kind says what becomes of an entry.
type kind int

const (
	data       kind = iota // it is copied
	version                // of a schema: it is written at the end
	momentary              // who uses the store at the moment: it stays behind
	attached               // to a migration that has begun; momentary if none has
	copyRecord             // the record of a copy
)

// kindIn tells what key is in r: data, if it is attached to a migration that has begun.
func kindIn(r store.Reader, key []byte) (kind, error) {
	k := kindOf(key)
	if k != attached {
		return k, nil
	}
	schema, _, _ := bytes.Cut(key, []byte(":"))
	_, err := r.Get([]byte(string(schema) + ":schema_progress"))
	if errors.Is(err, store.ErrNotFound) {
		return momentary, nil
	}
	return data, err
}

// kindOf tells by the names of a schema's records, which docs/on-disk-format.md has.
func kindOf(key []byte) kind {
	if bytes.Equal(key, recordKey) {
		return copyRecord
	}
	schema, name, ok := bytes.Cut(key, []byte(":schema_"))
	if !ok || !isSchema(schema) {
		return data
	}
	switch name := string(name); {
	case name == "version":
		return version
	case name == "lock", name == "intent":
		return attached
	case name == "turn", strings.HasPrefix(name, "node:"), strings.HasPrefix(name, "beat:"):
		return momentary
	}
	return data
}

func isSchema(name []byte) bool {
	bad := bytes.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
	return !bad && len(name) > 0 && name[0] >= 'a'
}

// partitionOf returns the name of key's partition, "" if it is in none.
func partitionOf(key []byte) string {
	if name, _, ok := bytes.Cut(key, []byte("/")); ok {
		if p, err := store.NewPartition(string(name)); err == nil {
			return p.Name()
		}
	}
	return ""
}
