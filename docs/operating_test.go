package docs_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

var update = flag.Bool("update", false, "write into operating.md what its commands print")

// TestMain makes the test's binary the releases of a program, by their names.
func TestMain(m *testing.M) {
	switch release := filepath.Base(os.Args[0]); release {
	case "notes-1.0", "notes-2.0", "notes-2.1":
		ctx, stop := cli.Interruptible(context.Background(), os.Stderr)
		code := cli.Run(ctx, cli.Config{
			Name: release, Options: migrate.Options{Schema: "notes", Program: release, Registry: notes(release)},
			Badger: badgerstore.Options{Configure: badgerstore.Small},
		}, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// notes returns the migrations that a release knows. The notes of 1.0 have one among
// them that 2.0 cannot read; 2.1 can.
func notes(release string) *migrate.Registry {
	ladder := []migrate.Migration{
		{Version: 1, Name: "first_notes", Description: "writing the first notes", Up: func(_ context.Context, tx *migrate.Tx) error {
			for i := range 6000 {
				note := fmt.Appendf(nil, "note %d", i)
				if i == 5432 {
					note = nil
				}
				if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "notes/%06d", i), Value: note}); err != nil {
					return err
				}
			}
			return nil
		}},
		{Version: 2, Name: "add_owner", Description: "adding an owner", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("notes.owner/"), Value: []byte("ada")})
		}},
		{Version: 3, Name: "count_words", Description: "counting the words of each note", Up: migrate.Each([]byte("notes/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			if len(e.Value) == 0 && release == "notes-2.0" {
				return errors.New("the note has no text")
			}
			e.Value = fmt.Appendf(e.Value, " (%d words)", len(bytes.Fields(e.Value)))
			return tx.Set(e)
		})},
	}
	if release == "notes-1.0" {
		ladder = ladder[:2]
	}
	return migrate.NewRegistry(ladder...)
}

var (
	sections = regexp.MustCompile(`(?m)^## (.*)$`)
	consoles = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

	// masks are what differs between two runs of one command.
	masks = []struct{ pattern, by string }{
		{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?`, "TIME"},
		{`\d{8}T\d{6}Z?`, "TIME"},
		{`\b[0-9a-f]{16}\b`, "HASH"},
		{`[0-9.]+ (?:B|KiB|MiB|GiB)\b`, "SIZE"},
		{`size=\d+`, "size=N"},
		{` in [0-9.]+m?s`, " in TIME"},
		{` +`, " "},
	}
)

// TestOperating does what operating.md says, each section on a store of its own, and
// holds what the commands print against the page.
func TestOperating(t *testing.T) {
	page, err := os.ReadFile("operating.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range []string{"notes-1.0", "notes-2.0", "notes-2.1"} {
		if err := os.Symlink(self, filepath.Join(programs, release)); err != nil {
			t.Fatal(err)
		}
	}
	starts := sections.FindAllSubmatchIndex(page, -1)
	if len(starts) < 5 {
		t.Fatalf("%d sections; want the five that an operator needs", len(starts))
	}
	out := bytes.Clone(page[:starts[0][0]])
	for i, s := range starts {
		end := len(page)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		section := page[s[0]:end]
		t.Run(string(page[s[2]:s[3]]), func(t *testing.T) {
			dir := t.TempDir()
			smallDisk(t, dir, section)
			shell(t, dir, programs, "notes-1.0 --store data up")
			section = consoles.ReplaceAllFunc(section, func(block []byte) []byte {
				text := string(consoles.FindSubmatch(block)[1])
				got := console(t, dir, programs, text)
				if diff := cmp.Diff(mask(text), mask(got)); diff != "" && !*update {
					t.Errorf("(-page +printed):\n%s", diff)
				}
				return []byte("```console\n" + got + "```")
			})
		})
		out = append(out, section...)
	}
	if *update {
		if err := os.WriteFile("operating.md", out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// console runs the commands of a block and returns the block as it is then.
func console(t *testing.T, dir, programs, text string) string {
	t.Helper()
	var got strings.Builder
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			got.WriteString(line)
			got.WriteString(shell(t, dir, programs, command))
		}
	}
	return got.String()
}

// shell runs a command in dir and returns all that it prints.
func shell(t *testing.T, dir, programs, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.ReplaceAll(string(out), dir+string(os.PathSeparator), "")
}

func mask(text string) string {
	for _, m := range masks {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.by)
	}
	return text
}
