package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
)

// steps is a registry whose only migration commits one step and then fails.
func steps() *migrate.Registry {
	return migrate.NewRegistry(migrate.Migration{
		Version: 1, Name: "two_steps", Description: "writing in two steps",
		Up: func(_ context.Context, tx *migrate.Tx) error {
			if tx.Cursor() != nil {
				return errors.New("the disk is on fire")
			}
			tx.Continue([]byte("half"))
			return tx.Set(store.Entry{Key: []byte("note/1"), Value: []byte("Hello")})
		},
	})
}

// runIn runs one command on the store in dir.
func runIn(ctx context.Context, t *testing.T, cfg cli.Config, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	code = cli.Run(ctx, cfg, append([]string{"--store", dir}, args...), &out, &log)
	return code, out.String(), log.String()
}

// TestInterrupted: what a migration of several transactions left behind is there
// to see, for people and for programs.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: steps(), Program: "notes 1.0"}}

	code, stdout, stderr := runIn(t.Context(), t, cfg, dir, "up", "--json")
	if code != cli.ExitFailed || strings.Count(stderr, "the disk is on fire") != 1 {
		t.Errorf("up: exit code %d, want %d and the error once\n%s", code, cli.ExitFailed, stderr)
	}
	var report struct {
		To      uint32
		Applied []any
		Error   string
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("up --json: %v\n%s", err, stdout)
	}
	if report.To != 0 || len(report.Applied) != 0 || !strings.Contains(report.Error, "the disk is on fire") {
		t.Errorf("up --json = %+v, want v0, nothing applied and the error", report)
	}

	code, stdout, stderr = runIn(t.Context(), t, cfg, dir, "status")
	if code != cli.ExitDone {
		t.Errorf("status: exit code %d\n%s", code, stderr)
	}
	want := `schema          notes
stored version  v0
latest known    v1
pending         1
under way       1 transaction of v1 (two_steps), 1 key written and 0 deleted
  v1  two_steps  writing in two steps
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}

	_, stdout, _ = runIn(t.Context(), t, cfg, dir, "status", "--json")
	var status struct{ Progress map[string]any }
	if err := json.Unmarshal([]byte(stdout), &status); err != nil {
		t.Fatalf("status --json: %v\n%s", err, stdout)
	}
	delete(status.Progress, "started")
	if diff := cmp.Diff(map[string]any{
		"version": 1.0, "name": "two_steps", "transactions": 1.0, "keys_written": 1.0, "keys_deleted": 0.0,
		"phase": 1.0, "visited": 0.0, "visited_bytes": 0.0, "program": "notes 1.0",
	}, status.Progress); diff != "" {
		t.Errorf("progress of status --json (-want +got):\n%s", diff)
	}
}

// TestCancelled: a command whose context ended before it began does nothing.
func TestCancelled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}}
	code, stdout, stderr := runIn(ctx, t, cfg, dir, "up")
	if code != cli.ExitFailed || stdout != "" || !strings.Contains(stderr, context.Canceled.Error()) {
		t.Errorf("up: exit code %d, want %d; stdout %q, stderr %q", code, cli.ExitFailed, stdout, stderr)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("up left a store behind: %v", err)
	}
}

// TestFaultyRegistry: a program with faults in its migrations does not get as
// far as making a store.
func TestFaultyRegistry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(migrate.Migration{Version: 2, Name: "second"})}}
	code, _, stderr := runIn(t.Context(), t, cfg, dir, "up")
	if code != cli.ExitFailed || !strings.Contains(stderr, "leaves a gap") {
		t.Errorf("up: exit code %d, want %d and the faults\n%s", code, cli.ExitFailed, stderr)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("up left a store behind: %v", err)
	}
}

// TestCommandInATree: Command works below a program's own root, and its errors
// keep their exit codes there.
func TestCommandInATree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"up", []string{"schema", "--store", dir, "up"}, cli.ExitDone},
		{"no such flag", []string{"schema", "--store", dir, "up", "--nonsense"}, cli.ExitUsage},
		{"no such command", []string{"schema", "nonsense"}, cli.ExitUsage},
		{"no store", []string{"schema", "up"}, cli.ExitUsage},
		{"no such version", []string{"schema", "--store", dir, "up", "--to", "2"}, cli.ExitUsage},
		{"downgrade", []string{"schema", "--store", dir, "up", "--to", "0"}, cli.ExitRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := &cobra.Command{Use: "notes", SilenceErrors: true, SilenceUsage: true}
			root.AddCommand(cli.Command(cli.Config{Name: "schema", Options: migrate.Options{Schema: "notes", Registry: notes()}}))
			root.SetArgs(tt.args)
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			err := root.ExecuteContext(t.Context())
			if got := cli.ExitCode(err); got != tt.want {
				t.Errorf("exit code %d, want %d: %v\n%s", got, tt.want, err, out.String())
			}
		})
	}
}

// TestNameInATree: what the help says can be typed, and a program that knows its
// store need not be told.
func TestNameInATree(t *testing.T) {
	root := &cobra.Command{Use: "notes", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.Command(cli.Config{
		Name: "notes schema", Options: migrate.Options{Schema: "notes", Registry: notes()}, Store: filepath.Join(t.TempDir(), "store"),
	}))
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		root.SetArgs(args)
		root.SetOut(&out)
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out.String()
	}
	if got, want := run("schema", "up"), "notes schema is at v1 (1 applied)\n"; got != want {
		t.Errorf("up printed %q, want %q", got, want)
	}
	help := run("schema", "plan", "--help")
	for _, want := range []string{"  notes schema plan [flags]\n", "  notes schema --store DIR plan\n"} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q:\n%s", want, help)
		}
	}
}

// TestOwnCommands: a program's own commands have the others' flags, and their examples
// can be typed.
func TestOwnCommands(t *testing.T) {
	cfg := cli.Config{
		Name: "notes schema", Options: migrate.Options{Schema: "notes", Registry: notes()},
		Commands: func(view cli.View) []*cobra.Command {
			return []*cobra.Command{{Use: "count", Example: "  count\n  count --all", RunE: func(cmd *cobra.Command, _ []string) error {
				return view(cmd, func(s store.Reader) error {
					n := 0
					for _, err := range s.Scan(store.Scan{Prefix: []byte("note/")}) {
						if err != nil {
							return err
						}
						n++
					}
					cmd.Println(n)
					return nil
				})
			}}}
		},
	}
	dir := t.TempDir()
	runIn(t.Context(), t, cfg, dir, "up")
	if code, stdout, _ := runIn(t.Context(), t, cfg, dir, "count"); code != cli.ExitDone || stdout != "1\n" {
		t.Errorf("count: exit code %d, %q; want one note", code, stdout)
	}
	_, help, _ := runIn(t.Context(), t, cfg, dir, "count", "--help")
	if want := "Examples:\n  notes schema --store DIR count\n  notes schema --store DIR count --all\n\n"; !strings.Contains(help, want) {
		t.Errorf("help lacks %q:\n%s", want, help)
	}
}

// TestGoldenFolder: the program says where new puts things, and the flags have
// the last word.
func TestGoldenFolder(t *testing.T) {
	for _, tt := range []struct {
		name          string
		cfg           cli.Config
		args          []string
		file, fixture string
	}{
		{"defaults", cli.Config{}, nil, "migrations", "migrations/testdata/golden"},
		{"config", cli.Config{MigrationsDir: "schema", Golden: "golden"}, nil, "schema", "golden"},
		{"flags", cli.Config{MigrationsDir: "schema", Golden: "golden"}, []string{"--dir", "migrations", "--golden", "g"}, "migrations", "g"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.Mkdir(tt.file, 0o755); err != nil {
				t.Fatal(err)
			}
			if code, _, stderr := runIn(t.Context(), t, tt.cfg, "", append([]string{"new", "add_tags"}, tt.args...)...); code != cli.ExitDone {
				t.Fatalf("new: exit code %d\n%s", code, stderr)
			}
			for _, path := range []string{
				filepath.Join(tt.file, "v0001_add_tags.go"),
				filepath.Join(tt.fixture, "v0001_add_tags", "fixture.txt"),
			} {
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
