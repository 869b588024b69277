package etcdstore_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

// TestMigrations takes the migrations of the system schema through their golden
// files and ladders on etcd. Two things differ from Badger and are seen to: entries
// have no expiry and no user meta, and the server takes transactions so large that
// migrations are in as few as there.
func TestMigrations(t *testing.T) {
	dir := t.TempDir()
	copyPlain(t, filepath.Join(dir, "golden"), "../../testdata/golden")
	copyPlain(t, filepath.Join(dir, "stores"), "../../testdata/stores")
	const ops = 2000
	client := newClient(t, startServer(t, func(c *embed.Config) { c.MaxTxnOps = ops }))
	suite := migratetest.Suite{
		Schema: migrations.Schema,
		Golden: filepath.Join(dir, "golden"), Stores: filepath.Join(dir, "stores"),
		Open: func(ctx context.Context) (store.Store, error) {
			st, err := etcdstore.New(ctx, client, newPrefix(), etcdstore.Options{TxnOps: ops, Logger: quiet})
			return plain{st}, err
		},
	}
	t.Run("Golden", func(t *testing.T) { migratetest.Golden(t, suite) })
	t.Run("Ladder", func(t *testing.T) { migratetest.Ladder(t, suite) })
}

// unkept is what package dump shows of an entry that etcd does not keep.
var unkept = regexp.MustCompile(`( expires=\d+)?( meta=0x[0-9a-f]{2})?$`)

// copyPlain copies files, and leaves out of golden files what etcd does not keep.
func copyPlain(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".txt" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			lines[i] = unkept.ReplaceAllString(line, "")
		}
		return os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// plain leaves out of what is written what etcd does not keep.
type plain struct{ store.Store }

func (p plain) Update(ctx context.Context, fn func(store.Txn) error) error {
	return p.Store.Update(ctx, func(tx store.Txn) error { return fn(plainTxn{tx}) })
}

type plainTxn struct{ store.Txn }

func (t plainTxn) Set(e store.Entry) error {
	e.ExpiresAt, e.Meta = 0, 0
	return t.Txn.Set(e)
}
