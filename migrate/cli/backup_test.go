package cli_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// one returns the one file that matches pattern.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s matches %v, %v; want one file", pattern, found, err)
	}
	return found[0]
}

// TestBackupOfEncrypted: a program that opens its store with a key need say nothing of it
// to back up and restore, and without the key nobody can.
func TestBackupOfEncrypted(t *testing.T) {
	base := t.TempDir()
	dir, backups, keyFile := filepath.Join(base, "store"), filepath.Join(base, "backups"), filepath.Join(base, "key")
	key := []byte("0123456789abcdef")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}, Badger: badgerstore.Options{
		Configure: func(o badger.Options) badger.Options { return o.WithEncryptionKey(key).WithIndexCacheSize(8 << 20) },
	}}
	plain := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}}
	run := func(want int, cfg cli.Config, args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := runIn(t.Context(), t, cfg, dir, args...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d\n%s", args, code, want, stderr)
		}
		return stdout, stderr
	}
	run(cli.ExitDone, cfg, "up")
	before, _ := run(cli.ExitDone, cfg, "dump")
	run(cli.ExitDone, cfg, "backup", "--dir", backups)
	file := one(t, filepath.Join(backups, "*"))
	if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), "age-encryption.org") {
		t.Errorf("the backup is not encrypted (%v)", err)
	}
	if list, _ := run(cli.ExitDone, cfg, "backup", "--dir", backups, "--list"); !strings.Contains(list, "good, encrypted") {
		t.Errorf("list:\n%s", list)
	}
	run(cli.ExitDone, cfg, "restore", file)
	after, _ := run(cli.ExitDone, cfg, "dump")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("restored store (-before +after):\n%s", diff)
	}

	into := filepath.Join(base, "plain")
	if _, stderr := run(cli.ExitRefused, plain, "restore", file, "--into", into); !strings.Contains(stderr, "the key is missing or another") {
		t.Errorf("restore without the key says:\n%s", stderr)
	}
	if _, err := os.Stat(into); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("restore without the key made %s: %v", into, err)
	}
	run(cli.ExitDone, plain, "restore", file, "--into", into, "--key-file", keyFile)
	if got, _ := run(cli.ExitDone, plain, "--store", into, "dump"); got != before {
		t.Errorf("restored store (-before +after):\n%s", cmp.Diff(before, got))
	}
}

// TestRestoreIntoOther: a program with stores of its own kind restores into new ones.
func TestRestoreIntoOther(t *testing.T) {
	base := t.TempDir()
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()},
		Open: func(ctx context.Context, name string, o cli.OpenOptions) (store.Store, error) {
			return badgerstore.Open(ctx, filepath.Join(base, name), badgerstore.Options{MustExist: o.MustExist, Logger: o.Logger})
		},
	}
	backups := filepath.Join(base, "backups")
	for _, tt := range []struct {
		want int
		args []string
	}{
		{cli.ExitDone, []string{"up"}},
		{cli.ExitUsage, []string{"backup"}},
		{cli.ExitDone, []string{"backup", "--dir", backups}},
		{cli.ExitUsage, []string{"restore", "FILE"}},
		{cli.ExitDone, []string{"restore", "FILE", "--into", "second"}},
		{cli.ExitFailed, []string{"restore", "FILE", "--into", "second"}},
	} {
		if tt.args[0] == "restore" {
			tt.args[1] = one(t, filepath.Join(backups, "*"))
		}
		if code, _, stderr := runIn(t.Context(), t, cfg, "first", tt.args...); code != tt.want {
			t.Errorf("%v: exit code %d, want %d\n%s", tt.args, code, tt.want, stderr)
		}
	}
	_, first, _ := runIn(t.Context(), t, cfg, "first", "dump")
	_, second, _ := runIn(t.Context(), t, cfg, "second", "dump")
	if diff := cmp.Diff(first, second); diff != "" || first == "" {
		t.Errorf("stores (-first +second):\n%s", diff)
	}
}
