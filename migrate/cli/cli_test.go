package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// notes is a program's own registry.
func notes() *migrate.Registry {
	return migrate.NewRegistry(migrate.Migration{
		Version: 1, Name: "first_note", Description: "writing the first note",
		Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("note/1"), Value: []byte("Hello")})
		},
	})
}

// ExampleRun offers the commands over a program's own schema.
func ExampleRun() {
	dir, err := os.MkdirTemp("", "notes-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}}
	code := cli.Run(context.Background(), cfg, []string{"--store", dir, "up"}, os.Stdout, os.Stderr)
	fmt.Println("exit code", code)
	// Output:
	// notes schema is at v1 (1 applied)
	// exit code 0
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, cli.ExitDone},
		{errors.New("boom"), cli.ExitFailed},
		{&migrate.MigrationError{Err: errors.New("boom")}, cli.ExitFailed},
		{store.ErrLocked, cli.ExitFailed},
		{&migrate.UnknownTargetError{}, cli.ExitUsage},
		{&migrate.DowngradeError{}, cli.ExitRefused},
		{fmt.Errorf("start: %w", &migrate.CorruptError{}), cli.ExitRefused},
		{&migrate.RenamedError{}, cli.ExitRefused},
		{&migrate.UnderWayError{}, cli.ExitRefused},
		{&migrate.TooOldError{}, cli.ExitRefused},
		{&migrate.UnreleasedError{}, cli.ExitRefused},
		{migrate.ErrUnversioned, cli.ExitRefused},
		{&migrate.FindingError{}, cli.ExitRefused},
	} {
		if got := cli.ExitCode(tt.err); got != tt.want {
			t.Errorf("ExitCode(%T) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestOpenIsTheProgramsOwn: --store means what Config.Open says.
func TestOpenIsTheProgramsOwn(t *testing.T) {
	dir := t.TempDir()
	cfg := cli.Config{
		Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes(), Program: "notes 1.0"},
		Open: func(ctx context.Context, name string, o cli.OpenOptions) (store.Store, error) {
			return badgerstore.Open(ctx, filepath.Join(dir, name), badgerstore.Options{MustExist: o.MustExist, Wait: o.Wait, Logger: o.Logger})
		},
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := cli.Run(t.Context(), cfg, append([]string{"--store", "work"}, args...), &stdout, &stderr); got != want {
			t.Fatalf("%v: exit code %d, want %d\n%s", args, got, want, stderr.String())
		}
		return stdout.String()
	}
	run(cli.ExitFailed, "status")
	run(cli.ExitDone, "up")
	if diff := cmp.Diff("\"note/1\" hex:48656c6c6f\n", run(cli.ExitDone, "dump", "--prefix", "note/")); diff != "" {
		t.Errorf("dump (-want +got):\n%s", diff)
	}
	if got := run(cli.ExitDone, "history"); !strings.Contains(got, "first_note") || !strings.Contains(got, "notes 1.0") {
		t.Errorf("history lacks the migration or the program:\n%s", got)
	}
}

// TestVerifyIsTheProgramsToo: what Config.Verify finds is printed with the rest, alike
// findings once, and those beyond the bound as a number.
func TestVerifyIsTheProgramsToo(t *testing.T) {
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}}
	dir := t.TempDir()
	run := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := cli.Run(t.Context(), cfg, append([]string{"--store", dir}, args...), &stdout, &stderr); got != want {
			t.Fatalf("%v: exit code %d, want %d\n%s", args, got, want, stderr.String())
		}
		return stdout.String()
	}
	run(cli.ExitDone, "up")
	if diff := cmp.Diff("notes schema is as it should be at v1: checked 1 history record\n", run(cli.ExitDone, "verify")); diff != "" {
		t.Errorf("without a part of the program (-want +got):\n%s", diff)
	}
	cfg.Verify = func(_ context.Context, v *migrate.Verifier) error {
		for _, err := range v.Entries([]byte("note/")) {
			if err != nil {
				return err
			}
			for range 103 {
				v.Report(migrate.FindingError{Code: "note", Partition: "note", Text: "it is in English"})
			}
		}
		v.Skip("the drafts")
		return v.Undeclared(nil)
	}
	want := `note        it is in English (note) (100 times)
undeclared  a partition belongs to nothing that the program declares (note)
note        3 more
not checked: the drafts
`
	if diff := cmp.Diff(want, run(cli.ExitRefused, "verify", "--sample", "7")); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	cfg.Verify = func(context.Context, *migrate.Verifier) error { return errors.New("boom") }
	run(cli.ExitFailed, "verify")
	if got := run(cli.ExitFailed, "verify", "--json"); !strings.Contains(got, `"error": "verify notes schema: boom"`) {
		t.Errorf("JSON of what failed:\n%s", got)
	}
}
