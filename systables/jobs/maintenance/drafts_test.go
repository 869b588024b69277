package maintenance_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
	"github.com/kvmigrate/kvmigrate/systables/jobs/maintenance"
)

// exporterDir names the directory, of a store and of its exports, in which the test binary
// is to be the process that TestKilledExport kills.
const exporterDir = "KVMIGRATE_TEST_EXPORTER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(exporterDir); dir != "" {
		if err := exportForever(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// An endless store stands still in the middle of a scan of the users, and says so.
type endless struct{ store.Store }

func (s endless) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.Store.View(ctx, func(r store.Reader) error { return fn(endlessReader{r}) })
}

type endlessReader struct{ store.Reader }

func (r endlessReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	if !bytes.HasPrefix(s.Prefix, []byte("system.users/")) {
		return r.Reader.Scan(s)
	}
	return func(yield func(store.Entry, error) bool) {
		for e, err := range r.Reader.Scan(s) {
			if !yield(e, err) {
				return
			}
		}
		fmt.Println("exporting")
		select {}
	}
}

// openDir opens, in dir, the store of a process and of the one that comes after it.
func openDir(ctx context.Context, dir string) (store.Store, error) {
	st, err := badgerstore.Open(ctx, filepath.Join(dir, "store"), badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		return nil, err
	}
	_, err = systables.Initialize(ctx, st)
	return st, err
}

// exportForever runs a job that writes a file until it is killed.
func exportForever(ctx context.Context, dir string) error {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	st, err := openDir(ctx, dir)
	if err != nil {
		return err
	}
	m := jobs.New(endless{st}, jobs.Options{NodeID: "node-1"})
	maintenance.Register(m, maintenance.Options{ExportDir: filepath.Join(dir, "exports")})
	if err := m.Start(ctx); err != nil {
		return err
	}
	job, err := m.Submit(ctx, jobs.Request{Type: maintenance.TypeFlush, Parameters: maintenance.Flush{Table: "users", File: "users.parquet"}})
	if err != nil {
		return err
	}
	fmt.Println(job.ID)
	_, err = m.Wait(ctx, job.ID)
	return err
}

// TestKilledExport: what an export left unfinished when its process was killed goes with
// the next flush, also if the job is cancelled meanwhile and so never tried again.
func TestKilledExport(t *testing.T) {
	dir := t.TempDir()
	exports := filepath.Join(dir, "exports")
	if err := os.Mkdir(exports, 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), self)
	process.Env = append(os.Environ(), exporterDir+"="+dir)
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var id systables.JobID
	lines := bufio.NewScanner(out)
	for exporting := false; id == "" || !exporting; {
		if !lines.Scan() {
			t.Fatalf("the process ended before it exported: %v", lines.Err())
		}
		if lines.Text() == "exporting" {
			exporting = true
		} else {
			id = systables.JobID(lines.Text())
		}
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // it was killed
	wantFiles(t, exports, fmt.Sprintf(".users.parquet.%s.1", id))

	st, err := openDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := jobs.New(st, jobs.Options{}).Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	m := start(t, st, maintenance.Options{ExportDir: exports})
	if job := run(t, m, maintenance.TypeFlush, nil); job.Status != jobs.Completed {
		t.Errorf("flush is %s, want it completed", job.Status)
	}
	wantFiles(t, exports)
}

// TestDrafts: a flush removes what nobody works on, and nothing else.
func TestDrafts(t *testing.T) {
	st := open(t)
	dir := t.TempDir()
	id := func() string { return uuid.Must(uuid.NewV7()).String() }
	job := func(status, jobType string, attempts int32) string {
		j := systables.Job{ID: systables.JobID(id()), Type: jobType, Status: status, Attempts: attempts, NodeID: "another"}
		if status == jobs.Running {
			token, lease := "token", day(2*now)
			j.RunToken, j.LeaseUntil = &token, &lease
		}
		if err := store.Update(t.Context(), st, func(tx store.Txn) error { return systables.Jobs.Insert(tx, j) }); err != nil {
			t.Fatal(err)
		}
		return string(j.ID)
	}
	running, other := job(jobs.Running, "flush", 2), job(jobs.Cancelled, "other", 1)
	tests := []struct {
		name  string
		old   bool
		stays bool
	}{
		{name: ".a.parquet." + running + ".2", old: true, stays: true},
		{name: ".a.parquet." + running + ".1"},
		{name: ".a.parquet." + job(jobs.Pending, "flush", 1) + ".1"},
		{name: ".a.parquet." + job(jobs.Cancelled, "flush", 1) + ".1"},
		{name: ".a.b.parquet." + job(jobs.Failed, "flush", 11) + ".11"},
		{name: ".a.parquet." + other + ".1", old: true, stays: true},
		{name: ".a.parquet." + id() + ".1", stays: true}, // of another store, perhaps
		{name: ".a.parquet." + id() + ".1", old: true},
		{name: ".a.parquet.nobody.1", old: true, stays: true},
		{name: ".a.parquet." + id(), old: true, stays: true},
		{name: ".a.parquet." + id() + ".x", old: true, stays: true},
		{name: ".a." + id() + ".1", old: true, stays: true},
		{name: "a.parquet." + id() + ".1", old: true, stays: true},
	}
	directory := ".a.parquet." + job(jobs.Cancelled, "flush", 1) + ".1"
	if err := os.Mkdir(filepath.Join(dir, directory), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		path := filepath.Join(dir, tt.name)
		if err := os.WriteFile(path, []byte("PAR1"), 0o600); err != nil {
			t.Fatal(err)
		}
		if tt.old {
			before := time.Now().Add(-25 * time.Hour)
			if err := os.Chtimes(path, before, before); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := start(t, st, maintenance.Options{ExportDir: dir})
	if job := run(t, m, maintenance.TypeFlush, nil); job.Status != jobs.Completed {
		t.Errorf("flush is %s, want it completed", job.Status)
	}
	if _, err := os.Stat(filepath.Join(dir, directory)); err != nil {
		t.Errorf("a directory: %v", err)
	}
	for _, tt := range tests {
		_, err := os.Stat(filepath.Join(dir, tt.name))
		if gone := os.IsNotExist(err); gone == tt.stays {
			t.Errorf("%s (old %t, running %t): gone is %t", tt.name, tt.old, strings.Contains(tt.name, running), gone)
		}
	}
}
