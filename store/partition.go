package store

import (
	"bytes"
	"fmt"
)

// partitionEnd ends a partition's name. No name contains it, so no partition's
// prefix is a prefix of another's.
const partitionEnd = '/'

// A Partition is a named region of the keyspace: the keys that start with its
// name and a slash. Two partitions with different names never overlap. The zero
// Partition is the default partition, which is every key of the store.
type Partition struct {
	prefix string
}

// NewPartition returns the partition with that name. A name is 1 to 255 of the
// characters a-z, 0-9, '_', '-' and '.'.
func NewPartition(name string) (Partition, error) {
	if len(name) == 0 || len(name) > 255 {
		return Partition{}, fmt.Errorf("partition name of %d characters: want 1 to 255", len(name))
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return Partition{}, fmt.Errorf("partition name %q: want only a-z, 0-9, '_', '-' and '.'", name)
		}
	}
	return Partition{name + string(partitionEnd)}, nil
}

// MustPartition is NewPartition for names known at compile time. It panics if
// the name is not valid.
func MustPartition(name string) Partition {
	p, err := NewPartition(name)
	if err != nil {
		panic("store: " + err.Error())
	}
	return p
}

// Name returns the partition's name, "" for the default partition.
func (p Partition) Name() string {
	if p.prefix == "" {
		return ""
	}
	return p.prefix[:len(p.prefix)-1]
}

// Key returns the store's key for key within the partition, in a new slice.
func (p Partition) Key(key []byte) []byte {
	return append([]byte(p.prefix), key...)
}

// Prefix returns the bytes that all keys of the partition start with, in a new
// slice.
func (p Partition) Prefix() []byte { return []byte(p.prefix) }

// Cut returns what follows the partition's prefix in a store's key, and whether
// the key belongs to the partition. The result shares memory with key.
func (p Partition) Cut(key []byte) (rest []byte, ok bool) {
	return bytes.CutPrefix(key, []byte(p.prefix))
}
