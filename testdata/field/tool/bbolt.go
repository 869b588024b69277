package tool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

func init() {
	Register(Tool{
		Name: "bbolt-by-hand", Engine: "bbolt", Module: "go.etcd.io/bbolt",
		About: "a runner on bbolt shaped like that of lnd's channeldb: all that is pending in one transaction, which a dry run rolls back",
		Open:  openBolt,
		Restore: func(_ context.Context, backup, dir string) error {
			return copyFile(backup, filepath.Join(dir, "bolt.db"))
		},
		Source: "tool/bbolt.go",
	})
}

// bolt is a bbolt database with its version in a bucket of its own.
type bolt struct{ db *bbolt.DB }

var (
	metaBucket    = []byte("metadata")
	accountBucket = []byte("accounts")
	dataBucket    = []byte("data")
)

func openBolt(_ context.Context, dir string) (Database, error) {
	// lnd's options, but that it waits a minute for the file.
	db, err := bbolt.Open(filepath.Join(dir, "bolt.db"), 0o600, &bbolt.Options{
		Timeout: 5 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	return bolt{db}, nil
}

func (b bolt) Close() error { return b.db.Close() }

var errReversion = errors.New("channel db cannot revert to prior version") // lnd's words

func (b bolt) version() (version int, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			version = int(binary.BigEndian.Uint32(meta.Get(versionKey)))
		}
		return nil
	})
	return version, err
}

func (b bolt) Start(s Schema) func(context.Context) error {
	return func(context.Context) error {
		stored, err := b.version()
		if err != nil {
			return err
		}
		switch {
		case stored > s.latest():
			return errReversion
		case stored == s.latest():
			return nil
		}
		return b.db.Update(func(tx *bbolt.Tx) error { return migrateBolt(tx, s, stored) })
	}
}

var errDryRun = errors.New("dry run")

func (b bolt) DryRun(_ context.Context, s Schema) error {
	stored, err := b.version()
	if err != nil {
		return err
	}
	err = b.db.Update(func(tx *bbolt.Tx) error {
		if err := migrateBolt(tx, s, stored); err != nil {
			return err
		}
		return errDryRun
	})
	if !errors.Is(err, errDryRun) {
		return err
	}
	return nil
}

// migrateBolt runs in tx what s has beyond the stored version.
func migrateBolt(tx *bbolt.Tx, s Schema, stored int) error {
	for v := stored + 1; v <= s.latest(); v++ {
		if v > s.Small {
			if err := rewriteBolt(tx, s.change()); err != nil {
				return err
			}
			continue
		}
		data, err := tx.CreateBucketIfNotExists(dataBucket)
		if err != nil {
			return err
		}
		key, value := s.small(v)
		if err := data.Put([]byte(key), []byte(value)); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	return meta.Put(versionKey, binary.BigEndian.AppendUint32(nil, uint32(s.latest())))
}

func rewriteBolt(tx *bbolt.Tx, change func([]byte) ([]byte, error)) error {
	accounts := tx.Bucket(accountBucket)
	c := accounts.Cursor()
	for key, old := c.First(); key != nil; {
		changed, err := change(old)
		if err != nil {
			return err
		}
		// A Put can move what the cursor stands on.
		key = append([]byte(nil), key...)
		if err := accounts.Put(key, changed); err != nil {
			return err
		}
		c.Seek(key)
		key, old = c.Next()
	}
	return nil
}

func (b bolt) Fill(_ context.Context, n int) error {
	const batch = 10_000
	for from := 0; from < n; from += batch {
		err := b.db.Update(func(tx *bbolt.Tx) error {
			accounts, err := tx.CreateBucketIfNotExists(accountBucket)
			if err != nil {
				return err
			}
			for i := from; i < min(from+batch, n); i++ {
				value, err := accountValue(i)
				if err != nil {
					return err
				}
				if err := accounts.Put([]byte(accountKey(i)), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b bolt) Accounts(_ context.Context, visit func([]byte) error) error {
	return b.each(accountBucket, visit)
}

func (b bolt) each(bucket []byte, visit func(value []byte) error) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		in := tx.Bucket(bucket)
		if in == nil {
			return nil
		}
		return in.ForEach(func(_, value []byte) error { return visit(value) })
	})
}

func (b bolt) Entries(context.Context) (n int, first string, err error) {
	err = b.each(dataBucket, func(value []byte) error {
		if n++; n == 1 {
			first = string(value)
		}
		return nil
	})
	return n, first, err
}

func (b bolt) State(context.Context) (string, error) {
	version, err := b.version()
	return fmt.Sprintf("v%d", version), err
}

func (b bolt) Backup(_ context.Context, file string) error {
	return writeFile(file, func(f *os.File) error {
		return b.db.View(func(tx *bbolt.Tx) error {
			_, err := tx.WriteTo(f)
			return err
		})
	})
}

// copyFile copies a file, onto the disk.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return writeFile(to, func(out *os.File) error {
		_, err := io.Copy(out, in)
		return err
	})
}
