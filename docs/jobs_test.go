package docs_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
	"github.com/kvmigrate/kvmigrate/systables/jobs/maintenance"
	"github.com/kvmigrate/kvmigrate/systables/sysdb"
)

// TestJobsProgram builds the program of jobs.md word for word, runs it, and holds what it
// prints against the page.
func TestJobsProgram(t *testing.T) {
	page, err := os.ReadFile("jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blocks := fileBlocks.FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("found %d files in the page, want 2", len(blocks))
	}
	for _, b := range blocks {
		if err := os.WriteFile(filepath.Join(dir, string(b[1])), b[2], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	useThisModule(t, dir)
	_, want, _ := strings.Cut(string(page), "```text\n")
	want, _, _ = strings.Cut(want, "```")
	if diff := cmp.Diff(want, run(t, dir, nil, "go", "run", ".")); diff != "" {
		t.Errorf("what it prints (-page +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "exports", "storages.parquet")); err != nil {
		t.Error(err)
	}
}

// TestJobParameters submits the jobs of the page's table, and wants every parameter that
// there is in it.
func TestJobParameters(t *testing.T) {
	page, err := os.ReadFile("jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sysdb.Open(t.Context(), sysdb.Config{
		Dir: t.TempDir(), Badger: badgerstore.Options{Configure: badgerstore.Small},
		Maintenance: maintenance.Options{ExportDir: t.TempDir()}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	shown := map[string]map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `(\\{.*\\})` \\|").FindAllStringSubmatch(string(page), -1) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(row[2]), &fields); err != nil {
			t.Fatalf("%s: %v", row[2], err)
		}
		if shown[row[1]] == nil {
			shown[row[1]] = map[string]bool{}
		}
		for name := range fields {
			shown[row[1]][name] = true
		}
		job, err := db.Jobs().Submit(t.Context(), jobs.Request{Type: row[1], Parameters: json.RawMessage(row[2])})
		if err != nil {
			t.Error(err)
			continue
		}
		if job, err = db.Jobs().Wait(t.Context(), job.ID); err != nil || job.Status != jobs.Completed {
			t.Errorf("%s %s: %s, %v; want it completed", row[1], row[2], job.Status, err)
		}
	}
	want := map[string]map[string]bool{}
	for jobType, params := range map[string]reflect.Type{
		maintenance.TypeFlush:     reflect.TypeFor[maintenance.Flush](),
		maintenance.TypeRetention: reflect.TypeFor[maintenance.Retention](),
		maintenance.TypeCleanup:   reflect.TypeFor[maintenance.Cleanup](),
	} {
		want[jobType] = map[string]bool{}
		for field := range params.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			want[jobType][name] = true
		}
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("parameters in the table (-code +page):\n%s", diff)
	}
}
