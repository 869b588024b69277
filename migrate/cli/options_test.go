package cli_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
)

// release returns the commands of the release of notes that knows the first n
// versions. The third may still change; programs that know the first may go on
// reading at the second.
func release(n int) cli.Config {
	nothing := func(context.Context, *migrate.Tx) error { return nil }
	return cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Program: "notes", Registry: migrate.NewRegistry([]migrate.Migration{
		{Version: 1, Name: "first_note", Up: nothing},
		{Version: 2, Name: "second_note", Up: nothing, ReadableFrom: 1},
		{Version: 3, Name: "third_note", Up: nothing, Unreleased: true},
	}[:n]...)}}
}

func upJSON(t *testing.T, cfg cli.Config, dir string, args ...string) (code int, report map[string]any) {
	t.Helper()
	code, stdout, stderr := runIn(t.Context(), t, cfg, dir, append(args, "up", "--json")...)
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("up --json: %v\n%s%s", err, stdout, stderr)
	}
	delete(report, "applied")
	return code, report
}

// TestReadOnlyRelease: an older program may read what it is allowed to.
func TestReadOnlyRelease(t *testing.T) {
	dir, cfg := t.TempDir(), release(1)
	if code, _ := upJSON(t, release(2), dir); code != cli.ExitDone {
		t.Fatalf("up: exit code %d", code)
	}
	code, report := upJSON(t, cfg, dir)
	if text, _ := report["error"].(string); code != cli.ExitRefused || !strings.Contains(text, "may read the store") {
		t.Errorf("up of an older release: exit code %d, %v; want a refusal that says what it may do", code, report)
	}
	cfg.Options.AllowReadOnly = true
	code, report = upJSON(t, cfg, dir)
	want := map[string]any{"schema": "notes", "from": 2.0, "to": 2.0, "read_only": true}
	if diff := cmp.Diff(want, report); code != cli.ExitDone || diff != "" {
		t.Errorf("up of an older release that only reads: exit code %d (-want +got):\n%s", code, diff)
	}

	var stdout string
	code, stdout, _ = runIn(t.Context(), t, cfg, dir, "status")
	if code != cli.ExitDone || !strings.Contains(stdout, "access          read only") {
		t.Errorf("status of an older release that only reads: exit code %d\n%s", code, stdout)
	}
	_, stdout, _ = runIn(t.Context(), t, cfg, dir, "history", "--json")
	if !strings.Contains(stdout, `"readable_from": 1`) {
		t.Errorf("history --json: want it to say who may read:\n%s", stdout)
	}
}

// TestUnreleased: what may still change needs to be asked for.
func TestUnreleased(t *testing.T) {
	dir := t.TempDir()
	upJSON(t, release(2), dir)
	if code, report := upJSON(t, release(3), dir); code != cli.ExitRefused || !strings.Contains(report["error"].(string), "v3 (third_note) is not released") {
		t.Errorf("up: exit code %d, %v; want a refusal that names v3", code, report)
	}
	if code, report := upJSON(t, release(3), dir, "--allow-unreleased"); code != cli.ExitDone || report["to"] != 3.0 {
		t.Errorf("up --allow-unreleased: exit code %d, %v; want v3", code, report)
	}
	if _, stdout, _ := runIn(t.Context(), t, release(3), dir, "history"); !strings.Contains(stdout, "third_note (unreleased)") {
		t.Errorf("history: want v3 marked:\n%s", stdout)
	}
}

// TestAdopt: the program's own way to tell the version of an old store is the
// commands' as well.
func TestAdopt(t *testing.T) {
	dir, cfg := t.TempDir(), release(2)
	upJSON(t, cli.Config{Options: migrate.Options{Schema: "other", Registry: notes()}}, dir)
	code, _, _ := runIn(t.Context(), t, cfg, dir, "status")
	if code != cli.ExitRefused {
		t.Errorf("status of a store of another program: exit code %d, want a refusal", code)
	}
	cfg.Options.Adopt = func(context.Context, store.Reader) (uint32, error) { return 1, nil }
	_, report := upJSON(t, cfg, dir)
	want := map[string]any{"schema": "notes", "from": 1.0, "to": 2.0, "adopted": true}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("up --json (-want +got):\n%s", diff)
	}
}
