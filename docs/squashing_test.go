package docs_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// TestSquashing does what squashing.md says, from top to bottom.
func TestSquashing(t *testing.T) {
	page, err := os.ReadFile("squashing.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "FINGERPRINT", fingerprint(t))
	dir := t.TempDir()
	useThisModule(t, dir)
	tested := false
	for _, b := range pageBlocks.FindAllStringSubmatch(text, -1) {
		path, kind, body := b[1], b[2], b[3]
		if kind != "sh" {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, path), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", body)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", body, err, out)
		}
		tested = tested || strings.Contains(string(out), "ok  \texample.com/notes/migrations")
	}
	if !tested {
		t.Error("the page did not come to its test")
	}
}

// fingerprint is that of the page's migrations up to v2, which has nothing but their
// names.
func fingerprint(t *testing.T) string {
	t.Helper()
	nothing := func(context.Context, *migrate.Tx) error { return nil }
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	report, err := migrate.Up(t.Context(), st, migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(
		migrate.Migration{Version: 1, Name: "first_note", Up: nothing}, migrate.Migration{Version: 2, Name: "shout", Up: nothing},
	)})
	if err != nil {
		t.Fatal(err)
	}
	return report.Applied[1].Fingerprint.String()
}
