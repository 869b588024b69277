package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store/value"
)

var update = flag.Bool("update", false, "write into docs/moving.md what its commands print")

var (
	consoles = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

	// masks are what differs between two runs of one command.
	masks = []struct{ pattern, by string }{
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"},
		{`\b[0-9a-f]{16}\b`, "HASH"},
		{`[0-9.]+ (?:B|KiB|MiB|GiB)\b`, "SIZE"},
		{` \d+ +HASH`, " N HASH"},
		{` +`, " "},
	}
)

// TestMovingPage does what docs/moving.md says, from top to bottom, and holds what the
// commands print against the page.
func TestMovingPage(t *testing.T) {
	const path, stated = "../../../../docs/moving.md", "127.0.0.1:2379"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	address, dir := server(t, nil), t.TempDir()
	write := func(name, rows string) {
		t.Helper()
		file := filepath.Join(dir, "rows.txt")
		if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := load(t.Context(), filepath.Join(dir, name), file); err != nil {
			t.Fatal(err)
		}
	}
	kvmigrate(t, "--store", filepath.Join(dir, "data"), "up")
	write("data", `"system.namespaces/n1" {"namespace_id": "n1", "name": "sales", "created_at": 1742821619540, "table_count": 0}
"system.namespaces/n2" {"namespace_id": "n2", "name": "stock", "created_at": 1742821619540, "table_count": 0}
`)
	write("sessions", "\"sessions/1\" hex:00 expires=4000000000\n\"sessions/2\" hex:00 expires=4000000000\n")
	record, err := value.Marshal(map[string]any{"total": 24, "entries": 17, "started": 1795521600000})
	if err != nil {
		t.Fatal(err)
	}
	write("half", fmt.Sprintf("\":copy\" hex:%x\n", record))
	blocks := 0
	out := consoles.ReplaceAllFunc(page, func(block []byte) []byte {
		blocks++
		text := string(consoles.FindSubmatch(block)[1])
		var got strings.Builder
		for line := range strings.Lines(text) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				got.WriteString(line)
				got.WriteString(strings.ReplaceAll(shell(t, dir, strings.ReplaceAll(command, stated, address)), address, stated))
			}
		}
		if diff := cmp.Diff(mask(text), mask(got.String())); diff != "" && !*update {
			t.Errorf("(-page +printed):\n%s", diff)
		}
		return []byte("```console\n" + got.String() + "```")
	})
	if blocks < 5 {
		t.Errorf("%d blocks of commands, want those of each section", blocks)
	}
	if *update {
		if err := os.WriteFile(path, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// shell runs a command in dir and returns all that it prints.
func shell(t *testing.T, dir, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func mask(text string) string {
	for _, m := range masks {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.by)
	}
	return text
}
