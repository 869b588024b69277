package transfer

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"

	"github.com/kvmigrate/kvmigrate/store"
)

// maxPartitions is how many partitions are told apart.
const maxPartitions = 1000

// A Sum is what a store has in a partition. Those who want to know whether two stores
// hold the same compare it.
type Sum struct {
	// Partition is the partition's name, "" for the entries that are in none, and
	// "*" for all beyond the first 1000 partitions.
	Partition string

	Entries uint64
	Bytes   uint64 // of their keys and values

	// Expiring is how many of the entries have an expiry. They are not part of
	// Checksum, because they can be gone when it is next taken.
	Expiring uint64

	// Checksum is the SHA-256 of the other entries in the order of their keys, each
	// its key, value and user meta.
	Checksum [sha256.Size]byte
}

// A tally adds up entries, which come in the order of their keys.
type tally struct {
	entries, bytes uint64
	partitions     map[string]*partition
	scratch        []byte
}

type partition struct {
	Sum
	hash hash.Hash
}

func newTally() *tally { return &tally{partitions: map[string]*partition{}} }

// add adds e and returns what its partition has now, but for the checksum.
func (t *tally) add(e store.Entry) Sum {
	p := t.partition(e.Key)
	n := uint64(len(e.Key) + len(e.Value))
	t.entries++
	t.bytes += n
	p.Entries++
	p.Bytes += n
	if e.ExpiresAt != 0 {
		p.Expiring++
		return p.Sum
	}
	b := binary.AppendUvarint(t.scratch[:0], uint64(len(e.Key)))
	b = append(b, e.Key...)
	b = append(b, e.Meta)
	b = binary.AppendUvarint(b, uint64(len(e.Value)))
	_, _ = p.hash.Write(b) // never fails
	_, _ = p.hash.Write(e.Value)
	t.scratch = b
	return p.Sum
}

func (t *tally) partition(key []byte) *partition {
	name := partitionOf(key)
	if t.partitions[name] == nil {
		if len(t.partitions) >= maxPartitions {
			name = "*"
		}
		if t.partitions[name] == nil {
			t.partitions[name] = &partition{Sum: Sum{Partition: name}, hash: sha256.New()}
		}
	}
	return t.partitions[name]
}

// sums returns what each partition has, in the order of their names.
func (t *tally) sums() []Sum {
	var sums []Sum
	for _, p := range slices.SortedFunc(maps.Values(t.partitions), func(a, b *partition) int { return cmp.Compare(a.Partition, b.Partition) }) {
		p.hash.Sum(p.Checksum[:0])
		sums = append(sums, p.Sum)
	}
	return sums
}

// fingerprint identifies the entries that do not expire.
func (t *tally) fingerprint() []byte {
	h := sha256.New()
	for _, s := range t.sums() {
		if s.Entries > s.Expiring {
			_, _ = h.Write(append([]byte(s.Partition), 0))
			_, _ = h.Write(s.Checksum[:])
		}
	}
	return h.Sum(nil)
}
