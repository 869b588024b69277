package badgerstore

import (
	"context"

	"github.com/dgraph-io/badger/v4"
)

// Small returns o changed for a store of a few megabytes, as tests have: memtables
// of 8 MiB and a value log of 16 MiB instead of Badger's 64 MiB and 1 GiB, which
// open in a fraction of the time and memory. A store that was made with it must
// not be opened with a smaller memtable.
func Small(o badger.Options) badger.Options {
	return o.WithMemTableSize(8 << 20).WithValueThreshold(64 << 10).WithValueLogFileSize(16 << 20).WithBlockCacheSize(8 << 20)
}

// Uncompacted is [Small] for a store whose memory is measured: Badger compacts
// nothing and lets one memtable wait for the disk, so that some 35 MiB are its own
// whatever it holds. Otherwise it is up to several times what was written. Reads
// have all tables to look into, so it suits no program, only a test.
func Uncompacted(o badger.Options) badger.Options {
	return Small(o).WithNumMemtables(1).WithNumLevelZeroTables(1000).WithNumLevelZeroTablesStall(2000)
}

// OpenInMemory opens an empty store that keeps nothing on the disk, for tests. Its
// size is that of Small; Close forgets what it holds.
func OpenInMemory(_ context.Context) (*Store, error) {
	db, err := badger.Open(Small(badger.DefaultOptions("")).WithInMemory(true).WithLogger(nil).
		WithMetricsEnabled(false).WithNumCompactors(2).WithNumMemtables(2))
	if err != nil {
		return nil, wrapOpen("in memory", err)
	}
	s, err := New(db)
	if err != nil {
		return nil, err
	}
	s.owned = true
	return s, nil
}
