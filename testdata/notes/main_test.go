package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"

	"example.com/notes/migrations"
)

// binDir has the program, built as a user builds it.
var binDir string

func TestMain(m *testing.M) {
	code, err := withProgram(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withProgram(run func() int) (code int, err error) {
	if binDir, err = os.MkdirTemp("", "notes-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(binDir)) }()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binDir+string(filepath.Separator), ".")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return run(), nil
}

func program(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(binDir, "notes"), args...)
}

// run runs the program, wants that exit code, and returns what it prints.
func run(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := program(t.Context(), args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("notes %v: exit code %d, want %d\n%s%s", args, got, want, &out, &log)
	}
	return out.String(), log.String()
}

// inStore opens the store in dir for do.
func inStore(t *testing.T, dir string, do func(st store.Store) error) {
	t.Helper()
	st, err := open(t.Context(), dir, cli.OpenOptions{})
	if err == nil {
		err = errors.Join(do(st), st.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// up is the start-up of a release that knows those migrations.
func up(ctx context.Context, st store.Store, release string, known ...migrate.Migration) error {
	_, err := migrate.Up(ctx, st, migrate.Options{
		Schema: migrations.Schema, Registry: migrate.NewRegistry(known...), Program: release, Logger: slog.New(slog.DiscardHandler),
	})
	return err
}

// oldNotes is more than a batch of any migration takes.
const oldNotes = 30_000

func oldTag(i int) string { return fmt.Sprintf("tag %d", i%10) }

// makeOld makes a store as the first release left it.
func makeOld(t *testing.T, dir string) {
	t.Helper()
	inStore(t, dir, func(st store.Store) error {
		first := migrate.DefaultRegistry().Migrations()[0]
		if err := up(t.Context(), st, "notes 0.1", first); err != nil {
			return err
		}
		for from := 1; from <= oldNotes; from += 1000 {
			err := store.Update(t.Context(), st, func(tx store.Txn) error {
				for i := from; i < from+1000; i++ {
					text := fmt.Sprintf("Note %d\nбольшой", i)
					note := map[string]string{"text": text, "when": "2025-03-24T14:08:24Z", "tag": oldTag(i)}
					if err := set(tx, fmt.Sprintf("notes.note/%08d", i), note); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		tags := map[string][]int{}
		for i := range oldNotes {
			tags[oldTag(i+1)] = append(tags[oldTag(i+1)], i+1)
		}
		return store.Update(t.Context(), st, func(tx store.Txn) error {
			for tag, ids := range tags {
				if err := set(tx, "notes.tags/"+tag, ids); err != nil {
					return err
				}
			}
			return set(tx, "notes.meta/next", oldNotes+1)
		})
	})
}

func set(tx store.Txn, key string, v any) error {
	data, err := value.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Set(store.Entry{Key: []byte(key), Value: data})
}

// TestKilled kills the program with SIGKILL in the middle of each large migration
// and starts it again.
func TestKilled(t *testing.T) {
	for _, migration := range []string{"split_title", "index_by_tag"} {
		t.Run(migration, func(t *testing.T) {
			dir := killedIn(t, migration)
			added, _ := run(t, cli.ExitDone, "--store", dir, "add", "--tag", oldTag(7), "New")
			if want := fmt.Sprintf("%08d\n", oldNotes+1); added != want {
				t.Errorf("add printed %q, want %q", added, want)
			}

			var all, tagged strings.Builder
			for i := 1; i <= oldNotes; i++ {
				line := fmt.Sprintf("%08d  2025-03-24  %-8s   Note %d\n", i, oldTag(i), i)
				all.WriteString(line)
				if i%10 == 7 {
					tagged.WriteString(line)
				}
			}
			compare(t, "list", all.String(), dir, "list")
			compare(t, "search", tagged.String(), dir, "search", oldTag(7))
			if old, _ := run(t, cli.ExitDone, "schema", "--store", dir, "dump", "--prefix", "notes.tags/"); old != "" {
				t.Errorf("lists of tags are left:\n%.200s", old)
			}
		})
	}
}

// compare wants that a command prints the old notes and then the new one.
func compare(t *testing.T, what, old, dir string, args ...string) {
	t.Helper()
	out, _ := run(t, cli.ExitDone, append([]string{"--store", dir}, args...)...)
	added, ok := strings.CutPrefix(out, old)
	if !ok || strings.Count(added, "\n") != 1 || !strings.HasSuffix(added, " New\n") {
		t.Errorf("%s: %d bytes, want %d and the new note; it ends in %q", what, len(out), len(old), out[max(0, len(out)-200):])
	}
}

// killedIn returns an old store in which the program was killed while that
// migration was under way. A kill that comes too late is tried on another store.
func killedIn(t *testing.T, migration string) (dir string) {
	t.Helper()
	for range 20 {
		dir = filepath.Join(t.TempDir(), "store")
		makeOld(t, dir)
		killAt(t, dir, migration)
		status, _ := run(t, cli.ExitDone, "schema", "--store", dir, "status", "--json")
		if strings.Contains(status, `"progress": {`) && strings.Contains(status, migration) {
			return dir
		}
	}
	t.Fatalf("no kill hit %s in its middle", migration)
	return ""
}

// killAt starts the program on the store and kills it after the first batch of
// that migration.
func killAt(t *testing.T, dir, migration string) {
	t.Helper()
	cmd := program(t.Context(), "--store", dir, "--progress", "list")
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if line := lines.Text(); strings.Contains(line, "("+migration+")") && strings.Contains(line, " entries") {
			break
		}
	}
	if err := errors.Join(lines.Err(), cmd.Process.Kill()); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	// It was killed, which is an error, or was done before.
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
}

// TestNewerStore: a store of the next release is refused as it is.
func TestNewerStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	inStore(t, dir, func(st store.Store) error {
		next := migrate.Migration{Version: 4, Name: "next", Up: func(context.Context, *migrate.Tx) error { return nil }}
		return up(t.Context(), st, "notes 2.0", append(migrate.DefaultRegistry().Migrations(), next)...)
	})
	before, _ := run(t, cli.ExitDone, "schema", "--store", dir, "dump")
	for _, args := range [][]string{{"list"}, {"add", "Title"}, {"schema", "up"}} {
		out, log := run(t, cli.ExitRefused, append([]string{"--store", dir}, args...)...)
		if out != "" || !strings.Contains(log, "the store was written by notes 2.0 at v4; nothing was changed") {
			t.Errorf("%v printed %q and logged\n%s", args, out, log)
		}
	}
	if after, _ := run(t, cli.ExitDone, "schema", "--store", dir, "dump"); after != before {
		t.Errorf("the store has changed from\n%s\nto\n%s", before, after)
	}
}

// session matches the README's console, and day what no two runs have in common.
var (
	session = regexp.MustCompile("(?s)```console\n(.*?)```")
	day     = regexp.MustCompile(`\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?`)
)

// TestReadme types what the README's console shows, and wants to see what it does.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := session.FindSubmatch(readme)
	if shown == nil {
		t.Fatal("the README has no console")
	}
	t.Setenv("PATH", binDir+string(os.PathListSeparator)+os.Getenv("PATH"))
	dir := t.TempDir()
	var typed strings.Builder
	for line := range strings.Lines(string(shown[1])) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		typed.WriteString(line)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir = dir
		cmd.Stdout = &typed
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	if got, want := day.ReplaceAllString(typed.String(), "DAY"), day.ReplaceAllString(string(shown[1]), "DAY"); got != want {
		t.Errorf("the README shows\n%s\nbut it is\n%s", want, got)
	}
}
