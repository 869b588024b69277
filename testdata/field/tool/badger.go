package tool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/dgraph-io/badger/v4"
)

func init() {
	byHand := Tool{
		Name: Floor, Engine: "badger", Module: "github.com/dgraph-io/badger/v4",
		About:   "the runner that people write on Badger: read the version, compare, one transaction for each small migration; a row loop with a `WriteBatch` for many rows, and the version after it",
		Open:    openByHand,
		Restore: restoreByHand,
		Source:  "tool/badger.go",
	}
	Register(byHand)
	byHand.Variant = true
	byHand.Name, byHand.About = Twin, "the same once more: how far it is from the line above is the noise"
	Register(byHand)
}

// byHand is a Badger database with its version under one key.
type byHand struct{ db *badger.DB }

func openByHand(_ context.Context, dir string) (Database, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	return byHand{db}, nil
}

func (h byHand) Close() error { return h.db.Close() }

var versionKey = []byte("version")

// version returns the stored version, 0 if there is none.
func (h byHand) version() (version int, err error) {
	err = h.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(versionKey)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(data []byte) error {
			version = int(binary.BigEndian.Uint32(data))
			return nil
		})
	})
	return version, err
}

func (h byHand) Start(s Schema) func(context.Context) error {
	return func(context.Context) error {
		stored, err := h.version()
		if err != nil {
			return err
		}
		for v := stored + 1; v <= s.latest(); v++ {
			if v > s.Small {
				if err := h.rewrite(s.change()); err != nil {
					return err
				}
			}
			err := h.db.Update(func(txn *badger.Txn) error {
				if v <= s.Small {
					key, value := s.small(v)
					if err := txn.Set([]byte(key), []byte(value)); err != nil {
						return err
					}
				}
				return txn.Set(versionKey, binary.BigEndian.AppendUint32(nil, uint32(v)))
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

var accountPrefix = []byte("acct/")

// rewrite changes every account. It does not fit in one transaction, so it is neither
// atomic nor resumed.
func (h byHand) rewrite(change func([]byte) ([]byte, error)) error {
	wb := h.db.NewWriteBatch()
	defer wb.Cancel()
	err := h.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Seek(accountPrefix); it.ValidForPrefix(accountPrefix); it.Next() {
			old, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			changed, err := change(old)
			if err != nil {
				return err
			}
			if err := wb.Set(it.Item().KeyCopy(nil), changed); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return wb.Flush()
}

func (h byHand) Fill(_ context.Context, n int) error { return fillBadger(h.db, n) }

func fillBadger(db *badger.DB, n int) error {
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	for i := range n {
		value, err := accountValue(i)
		if err != nil {
			return err
		}
		if err := wb.Set([]byte(accountKey(i)), value); err != nil {
			return err
		}
	}
	return wb.Flush()
}

func (h byHand) Accounts(_ context.Context, visit func([]byte) error) error {
	return scanBadger(h.db, accountPrefix, visit)
}

func scanBadger(db *badger.DB, prefix []byte, visit func(value []byte) error) error {
	return db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := it.Item().Value(visit); err != nil {
				return err
			}
		}
		return nil
	})
}

func (h byHand) Entries(context.Context) (int, string, error) { return entriesOfBadger(h.db) }

func entriesOfBadger(db *badger.DB) (n int, first string, err error) {
	err = scanBadger(db, []byte("data/"), func(value []byte) error {
		if n++; n == 1 {
			first = string(value)
		}
		return nil
	})
	return n, first, err
}

func (h byHand) State(context.Context) (string, error) {
	version, err := h.version()
	return fmt.Sprintf("v%d", version), err
}

func (h byHand) Backup(_ context.Context, file string) error {
	return writeFile(file, func(f *os.File) error {
		_, err := h.db.Backup(f, 0)
		return err
	})
}

func restoreByHand(ctx context.Context, backup, dir string) (err error) {
	f, err := os.Open(backup)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	db, err := openByHand(ctx, dir)
	if err != nil {
		return err
	}
	// 16 is the number of pending writes that badger restore has by default.
	return errors.Join(db.(byHand).db.Load(f, 16), db.Close())
}

// writeFile makes a file of what write writes to it, on the disk.
func writeFile(name string, write func(*os.File) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Sync(), f.Close())
}
