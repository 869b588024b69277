package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// An account is a row of about 200 bytes, before and after the migration.
type account struct {
	ID      uint64 `cbor:"id"`
	Name    string `cbor:"name"`
	Email   string `cbor:"email"`
	Address string `cbor:"address"`
	Created int64  `cbor:"created"`
	Updated int64  `cbor:"updated"`
	Logins  *int32 `cbor:"logins,omitempty"` // what the migration adds
}

var accounts = []byte("acct/")

func newAccount(i int) account {
	return account{
		ID:      uint64(i) * 7919,
		Name:    fmt.Sprintf("user number %09d", i),
		Email:   fmt.Sprintf("user.%09d@mail.example.com", i),
		Address: fmt.Sprintf("%05d Long Street, Some District, Apartment %04d, 12345 City", i%100000, i%10000),
		Created: 1736942400000 + int64(i),
		Updated: 1736942400000 + int64(i)*3,
	}
}

// addLogins is the change of a row: decode, add a field, encode.
func addLogins(data []byte) ([]byte, error) {
	var a account
	if err := value.Unmarshal(data, &a); err != nil {
		return nil, err
	}
	if a.Logins != nil {
		return nil, fmt.Errorf("row %d is changed twice", a.ID)
	}
	a.Logins = new(int32)
	return value.Marshal(a)
}

// fill writes n rows to a new store in dir.
func fill(dir string, n int) (err error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	for i := range n {
		v, err := value.Marshal(newAccount(i))
		if err != nil {
			return err
		}
		if err := wb.Set(fmt.Appendf(nil, "%s%015d", accounts, i), v); err != nil {
			return err
		}
	}
	return wb.Flush()
}

// withRows calls do with a fresh copy of a store of n rows.
func (b *bench) withRows(ctx context.Context, n int, do func(dir string) error) (err error) {
	prepared := filepath.Join(b.dir, fmt.Sprintf("rows-%d", n))
	if _, err := os.Stat(prepared); errors.Is(err, os.ErrNotExist) {
		// In a child, so that this process stays small.
		if _, err := runChild(ctx, job{What: "fill", Dir: prepared, Rows: n}); err != nil {
			return err
		}
	}
	dir := filepath.Join(b.dir, "copy")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.CopyFS(dir, os.DirFS(prepared)); err != nil {
		return err
	}
	syscall.Sync() // or the contestant pays for the copy
	return do(dir)
}

// runOverRows runs one job over a fresh copy of a store of n rows.
func (b *bench) runOverRows(ctx context.Context, what string, n int) (r result, err error) {
	err = b.withRows(ctx, n, func(dir string) error {
		r, err = runChild(ctx, job{what, dir, n})
		return err
	})
	return r, err
}

// withStore calls do with the store in dir, which badgerstore opens as it
// proposes.
func withStore(ctx context.Context, dir string, do func(*badgerstore.Store) error) (err error) {
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return do(st)
}

// rewriting is the change of all rows as a migration.
func rewriting(up migrate.UpFunc) migrate.Options {
	return migrate.Options{
		Registry:         migrate.NewRegistry(migrate.Migration{Version: 1, Name: "add_logins", Up: up}),
		AllowUnversioned: true,
		Logger:           slog.New(slog.DiscardHandler),
	}
}

// migrateRows runs it and returns how many rows it changed.
func migrateRows(ctx context.Context, st store.Store) (int, error) {
	report, err := migrate.Up(ctx, st, rewriting(migrate.Rewrite(accounts, addLogins)))
	if err != nil {
		return 0, err
	}
	return int(report.Applied[0].KeysWritten), nil
}
