package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// TestReadOnlyAfterAKill: a store that was not closed is put in order, which the log
// says, and then tried or verified.
func TestReadOnlyAfterAKill(t *testing.T) {
	dir := t.TempDir()
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"up", "--dry-run"}, `+ "note/1"`},
		{[]string{"verify"}, "notes schema is as it should be at no version"},
	} {
		t.Run(tt.args[0], func(t *testing.T) {
			killed := filepath.Join(t.TempDir(), "killed")
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := runIn(t.Context(), t, cfg, killed, tt.args...)
			if code != cli.ExitDone || !strings.Contains(stdout, tt.want) || strings.Count(stderr, "opening it for writing") != 1 {
				t.Errorf("exit code %d, want 0, %q and one warning\n%s%s", code, tt.want, stdout, stderr)
			}
			if _, stdout, _ := runIn(t.Context(), t, cfg, killed, "dump"); stdout != "" {
				t.Errorf("the store holds %s, want nothing", stdout)
			}
		})
	}
}

// TestDryRunShowsWhatWasBefore: the versions before the one that fails are shown.
func TestDryRunShowsWhatWasBefore(t *testing.T) {
	dir := t.TempDir()
	ladder := notes()
	failing := steps().Migrations()[0]
	failing.Version = 2
	ladder.Register(failing)
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}}
	if code, _, stderr := runIn(t.Context(), t, cfg, dir, "up", "--to", "0"); code != cli.ExitDone {
		t.Fatalf("make a store: exit code %d\n%s", code, stderr)
	}
	cfg.Options.Registry = ladder
	code, stdout, stderr := runIn(t.Context(), t, cfg, dir, "up", "--dry-run")
	if code != cli.ExitFailed || !strings.Contains(stdout, "v1  first_note") || strings.Contains(stdout, "v2") ||
		!strings.Contains(stderr, "the disk is on fire; it was a dry run, so the store is unchanged") {
		t.Errorf("exit code %d, want %d, the diff of v1 and the error of v2\n%s%s", code, cli.ExitFailed, stdout, stderr)
	}
}
