package etcdstore

import (
	"encoding/binary"
	"hash/fnv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvmigrate/kvmigrate/store"
)

// How often a large transaction that nothing concerns is sent again, and how many
// commits it looks at before that, until it gives way like any other.
const (
	maxMoves = 10
	maxLooks = 1000
)

// hashBytes is what a commit says of each key that it wrote.
const hashBytes = 8

// hashOf is the same in all programs: commits of one are read by others.
func hashOf(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return h.Sum64()
}

// hashesOf says which keys a transaction wrote: the value of the key of all commits.
func hashesOf(writes map[string]write) string {
	hashes := make([]byte, 0, len(writes)*hashBytes)
	for key := range writes {
		hashes = binary.BigEndian.AppendUint64(hashes, hashOf(key))
	}
	return string(hashes)
}

// A keySet is a set of keys in bounded memory. It has every key that was added, and may
// have some that were not.
type keySet struct{ bits [keySetBits / 64]uint64 }

const keySetBits = 1 << 23 // of a million keys one in twenty others is taken for one

func (s *keySet) add(hash uint64) {
	for _, bit := range places(hash) {
		s.bits[bit/64] |= 1 << (bit % 64)
	}
}

func (s *keySet) has(hash uint64) bool {
	for _, bit := range places(hash) {
		if s.bits[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

func places(hash uint64) [2]uint64 {
	return [2]uint64{hash % keySetBits, hash >> 32 % keySetBits}
}

// touches reports whether a commit that says commits wrote a key of the set, or does not
// say what it wrote.
func (s *keySet) touches(commits []byte) bool {
	if len(commits) == 0 || len(commits)%hashBytes != 0 {
		return true
	}
	for ; len(commits) > 0; commits = commits[hashBytes:] {
		if s.has(binary.BigEndian.Uint64(commits)) {
			return true
		}
	}
	return false
}

// move makes the transaction one of a later revision, at which all that it read is as it
// read it: nothing that was committed meanwhile has touched it. Otherwise, every sign of
// life of another process would be a conflict for a transaction that reads a table.
func (t *txn) move() error {
	var latest int64
	for at, looks := int64(0), 0; looks < maxLooks; looks++ { // 0 is now
		resp, err := t.store.get(t.ctx, t.store.commits, clientv3.WithRev(at))
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			if latest == 0 || !t.fresh { // somebody else deleted it, and what was read
				return store.ErrConflict
			}
			t.revision, t.fresh = latest, false
			return nil
		}
		commit := resp.Kvs[0]
		latest = max(latest, commit.ModRevision)
		switch {
		case commit.ModRevision <= t.revision:
			t.revision = latest
			return nil
		case t.many.touches(commit.Value):
			return store.ErrConflict
		}
		at = commit.ModRevision - 1
	}
	return store.ErrConflict
}
