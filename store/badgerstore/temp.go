package badgerstore

import (
	"context"
	"crypto/rand"
	"errors"
	"os"

	"github.com/dgraph-io/badger/v4"
	badgeroptions "github.com/dgraph-io/badger/v4/options"

	"github.com/kvmigrate/kvmigrate/store"
)

// OpenTemp opens an empty store in a new directory below dir, or below os.TempDir
// if dir is empty, for what is too much for the memory and need not last, such as
// the scratch store of an overlay. Close removes the directory.
//
// A transaction holds what one of a store with those limits does, and 16 bytes
// more an entry. Badger's memory follows from that, whatever is written: up to some
// eight times the MemTableSize of the store whose limits they are, while it flushes.
//
// What it holds is encrypted with a key that only the process has: if that is
// killed, the directory stays and nobody can read it.
func OpenTemp(_ context.Context, dir string, limits store.Limits) (*Store, error) {
	dir, err := os.MkdirTemp(dir, "kvmigrate-")
	if err != nil {
		return nil, &store.Error{Op: "open temporary store", Err: err}
	}
	db, err := badger.Open(temporary(dir, limits))
	if err != nil {
		return nil, errors.Join(wrapOpen(dir, err), os.RemoveAll(dir))
	}
	s, err := New(db)
	if err != nil {
		return nil, errors.Join(err, db.Close(), os.RemoveAll(dir))
	}
	s.owned, s.temp = true, dir
	return s, nil
}

// drop empties a temporary store that is about to be closed, or Badger would make
// tables of what it has in memory, in as much memory again. To empty one that holds
// little takes longer.
func (s *Store) drop() error {
	const little = 16 << 20
	if used, err := s.used(); err != nil || used < little {
		return err
	}
	return s.db.DropAll()
}

// temporary returns the options of a store that nobody opens again.
func temporary(dir string, limits store.Limits) badger.Options {
	const (
		node  = 96      // bytes that Badger reckons for an entry of a transaction, at least
		extra = 16 + 24 // for an entry: the caller's and this package's own
		part  = 8       // of a memtable fits in a transaction, by the limits of New
	)
	memtable := part * (max(limits.TxnBytes, node*limits.TxnEntries) + extra*limits.TxnEntries)
	apart := 64 << 10
	if limits.ApartBytes > 0 {
		apart = min(apart, limits.ApartBytes)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return badger.DefaultOptions(dir).WithLogger(nil).WithMetricsEnabled(false).
		WithEncryptionKey(secret).WithIndexCacheSize(8 << 20).
		WithCompression(badgeroptions.None).WithBlockCacheSize(8 << 20).
		WithNumLevelZeroTables(1000).WithNumLevelZeroTablesStall(2000).WithNumMemtables(1).WithMemTableSize(max(4<<20, int64(memtable))).
		WithValueThreshold(int64(apart)).
		WithValueLogFileSize(min(2<<30-1, max(16<<20, int64(limits.ValueBytes)+64<<10)))
}
