package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/etcdcli"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

// TestRestoreKilled: half a restore is called that, by every command that reads it as a
// store, and the same command finishes it.
func TestRestoreKilled(t *testing.T) {
	dir := t.TempDir()
	home, to := filepath.Join(dir, "home"), "etcd:"+server(t, nil)+"/restored"
	fillDir(t, home)
	file := strings.Fields(kvmigrate(t, "--store", home, "backup", "--dir", filepath.Join(dir, "backups")))[0]
	if !killed(t, 4, "restore", file, "--into", to) {
		t.Fatal("the restore ended before it could be killed")
	}
	cfg := tablescli.Config()
	cfg.Stores = map[string]cli.Opener{"etcd": etcdcli.Open}
	want := "the store is a restore that is not finished: of " + filepath.Base(file) + ", with "
	for _, command := range []string{"up", "plan", "status", "history", "verify", "tables"} {
		var stdout, stderr bytes.Buffer
		if code := cli.Run(t.Context(), cfg, []string{"--store", to, command}, &stdout, &stderr); code != cli.ExitRefused || !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%s on half a restore: exit code %d, want %d and %q\n%s%s", command, code, cli.ExitRefused, want, &stdout, &stderr)
		}
	}
	kvmigrate(t, "restore", file, "--into", to)
	if diff := cmp.Diff(kvmigrate(t, "--store", home, "dump"), kvmigrate(t, "--store", to, "dump")); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
}
