package cli_test

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
)

// long returns the commands of a program with names as long as they may be, and the
// first n of its migrations. The last breaks half-way.
func long(n int) cli.Config {
	set := func(key string) func(context.Context, *migrate.Tx) error {
		return func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte(key), Value: []byte("x")})
		}
	}
	name := func(rest string) string { return rest + strings.Repeat("x", 64-len(rest)) }
	return cli.Config{Name: "notes", Options: migrate.Options{
		Schema: "notes", Program: "github.com/somebody/with/a/long/path/to/the/program/called/notes v1.2.3-0.20261124090000-0123456789ab",
		Now: func() time.Time { return time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC) },
		Registry: migrate.NewRegistry([]migrate.Migration{
			{Version: 1, Name: name("first_"), Description: "doing what takes a long sentence to say, because it is much and nothing of it goes without saying", Up: set(strings.Repeat("p", 100) + "/k")},
			{Version: 2, Name: name("second_"), Description: strings.Repeat("unbreakable", 5), Up: set("other/k")},
			{Version: 3, Name: "third", Up: func(_ context.Context, tx *migrate.Tx) error {
				if tx.Cursor() != nil {
					return errors.New("the disk is on fire")
				}
				tx.Continue([]byte("half"))
				return nil
			}},
		}[:n]...)},
		Verify: func(_ context.Context, v *migrate.Verifier) error {
			v.Report(migrate.FindingError{Code: "a_code_that_is_longer_than_others", Partition: "notes", Text: "what was found is said in a sentence that is too long for one line of a terminal"})
			return nil
		},
	}
}

var sizes = regexp.MustCompile(`\d+(\.\d+)? [KM]iB`)

// TestTablesFit: whatever the names are, tables fit 80 columns.
func TestTablesFit(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "store")
	run := func(want int, n int, args ...string) string {
		t.Helper()
		code, stdout, stderr := runIn(t.Context(), t, long(n), dir, args...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d\n%s", args, code, want, stderr)
		}
		for line := range strings.Lines(stdout) {
			if strings.HasPrefix(line, base) || strings.HasPrefix(line, "  + ") || strings.HasPrefix(line, "it would need ") {
				continue // a path, an entry and a sentence are shown whole
			}
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
		}
		return stdout
	}
	want := func(what, got, want string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	run(cli.ExitDone, 1, "up", "--to", "0")
	want("plan", run(cli.ExitDone, 2, "plan"), `notes schema: v0 -> v2
  v1  first_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  doing what takes a long
                                                        sentence to say, because
                                                        it is much and nothing
                                                        of it goes without
                                                        saying
  v2  second_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  unbreakableunbreakableu…
`)
	run(cli.ExitDone, 2, "up", "--dry-run")
	run(cli.ExitDone, 2, "up", "--quiet", "--to", "1")
	run(cli.ExitDone, 2, "up", "--quiet", "--reclaim")
	history := run(cli.ExitDone, 2, "history")
	want("history", sizes.ReplaceAllString(history, "SIZE"), `VERSION  NAME                             FINISHED              WRITTEN  DELETED
by github.com/somebody/with/a/long/path/to/the/program/called/notes v1.2.3-0.20…
v1       first_xxxxxxxxxxxxxxxxxxxxxxxx…  2026-11-24T09:00:00Z  1        0
v2       second_xxxxxxxxxxxxxxxxxxxxxxx…  2026-11-24T09:00:00Z  1        0
  the store took SIZE before the run and SIZE after it
`)
	run(cli.ExitRefused, 2, "verify")
	run(cli.ExitDone, 2, "backup", "--dir", filepath.Join(base, "backups"))
	run(cli.ExitDone, 2, "backup", "--dir", filepath.Join(base, "backups"), "--list")
	run(cli.ExitFailed, 3, "up", "--quiet")
	want("status", run(cli.ExitDone, 3, "status"), `schema          notes
stored version  v2
latest known    v3
pending         1
under way       1 transaction of v3 (third), 0 keys written and 0 deleted
  v3  third
`)
}
