package badgerstore

import "github.com/dgraph-io/badger/v4"

// ForMigration returns o changed to suit the migration of many rows: Badger
// compacts later and caches less, which saves a migration of a million rows more
// than half of the memory and a fifth of the processor's time
// (docs/performance.md). Bounds that o has beyond it stay.
//
// It is safe for every store, because it changes nothing that a store keeps, and
// the size of a memtable, which a store may depend on, not at all. What it puts off
// comes later: reads have more tables to look into, and Badger compacts them when
// the store is next opened. A program therefore opens a store with it for the
// upgrade, closes it, and opens it again with its own options:
//
//	badgerstore.Open(ctx, dir, badgerstore.Options{Configure: badgerstore.ForMigration})
func ForMigration(o badger.Options) badger.Options {
	o.NumLevelZeroTables = max(o.NumLevelZeroTables, 20)
	o.NumLevelZeroTablesStall = max(o.NumLevelZeroTablesStall, 60)
	// A migration reads each block once.
	o.BlockCacheSize = min(o.BlockCacheSize, 16<<20)
	return o
}

// ForMigration returns o with a Configure that, after its own, is the function
// [ForMigration].
func (o Options) ForMigration() Options {
	configure := o.Configure
	o.Configure = func(b badger.Options) badger.Options {
		if configure != nil {
			b = configure(b)
		}
		return ForMigration(b)
	}
	return o
}
