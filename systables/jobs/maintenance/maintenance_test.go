package maintenance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"
	"github.com/parquet-go/parquet-go"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
	"github.com/kvmigrate/kvmigrate/systables/jobs/maintenance"
)

// now is the clock of the tests, in days.
const now = 100

func day(n int) systables.Timestamp { return systables.At(time.UnixMilli(0).AddDate(0, 0, n)) }

func days(n int) maintenance.Duration { return maintenance.Duration(time.Duration(n) * 24 * time.Hour) }

func open(t *testing.T) store.Store {
	t.Helper()
	// A transaction holds some 1,400 entries.
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{
		Configure: func(o badger.Options) badger.Options {
			return badgerstore.Small(o).WithMemTableSize(1 << 20).WithValueLogFileSize(1 << 20)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := systables.Initialize(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	return st
}

// start returns a manager that runs the jobs of st.
func start(t *testing.T, st store.Store, o maintenance.Options) *jobs.Manager {
	t.Helper()
	m := jobs.New(st, jobs.Options{
		NodeID: "node-1", Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return day(now).Time() },
	})
	maintenance.Register(m, o)
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// run submits a job and returns its row when it has ended.
func run(t *testing.T, m *jobs.Manager, jobType string, params any) systables.Job {
	t.Helper()
	job, err := m.Submit(t.Context(), jobs.Request{Type: jobType, Parameters: params})
	if err != nil {
		t.Fatal(err)
	}
	if job, err = m.Wait(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	return job
}

// stored is run, but of a job that is not submitted but found in the store.
func stored(t *testing.T, m *jobs.Manager, st store.Store, jobType, params string) systables.Job {
	t.Helper()
	due := systables.Timestamp(0)
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		return systables.Jobs.Insert(tx, systables.Job{ID: "stored", Type: jobType, Status: jobs.Pending, Parameters: &params, NotBefore: &due})
	})
	if err != nil {
		t.Fatal(err)
	}
	job, err := m.Wait(t.Context(), "stored")
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// wantResult wants a completed job with a result that decodes into want.
func wantResult[T any](t *testing.T, job systables.Job, want T) {
	t.Helper()
	if job.Status != jobs.Completed || job.Result == nil {
		message := ""
		if job.ErrorMessage != nil {
			message = *job.ErrorMessage
		}
		t.Fatalf("job is %s with result %v: %s", job.Status, job.Result, message)
	}
	var got T
	if err := json.Unmarshal([]byte(*job.Result), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

// write commits n writes in transactions that such a store holds.
func write(t *testing.T, st store.Store, n int, fn func(tx store.Txn, i int) error) {
	t.Helper()
	for from := 0; from < n; from += 200 {
		err := store.Update(t.Context(), st, func(tx store.Txn) error {
			for i := from; i < min(from+200, n); i++ {
				if err := fn(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// keys returns how many entries st has under prefix.
func keys(t *testing.T, st store.Store, prefix string) (n int) {
	t.Helper()
	err := st.View(t.Context(), func(s store.Reader) error {
		for _, err := range s.Scan(store.Scan{Prefix: []byte(prefix), KeysOnly: true}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRetention deletes more rows than a transaction holds, and those only that are old
// enough.
func TestRetention(t *testing.T) {
	st := open(t)
	const n = 2000
	statuses := []string{jobs.Pending, jobs.Running, jobs.Completed, jobs.Failed, jobs.Cancelled}
	write(t, st, n, func(tx store.Txn, i int) error {
		id, at := fmt.Sprintf("%06d", i), day(i%now)
		job := systables.Job{ID: systables.JobID(id), Type: "other", Status: statuses[i%5], CreatedAt: day(i % 20)}
		if i%5 > 1 {
			job.CompletedAt = &at
		}
		return errors.Join(
			systables.AuditLogs.Insert(tx, systables.AuditLog{ID: systables.AuditID(id), Timestamp: at, Action: "login"}),
			systables.Metrics.Insert(tx, systables.Metric{ID: systables.MetricID(id), RecordedAt: at, Name: "cpu"}),
			systables.Jobs.Insert(tx, job),
		)
	})
	m := start(t, st, maintenance.Options{})

	// Days 0 to 9 are older than 90 days.
	wantResult(t, run(t, m, maintenance.TypeRetention, maintenance.Retention{AuditLogs: days(90)}), maintenance.Deleted{"audit_logs": n / 10})
	wantResult(t, run(t, m, maintenance.TypeRetention, maintenance.Retention{AuditLogs: days(90)}), maintenance.Deleted{"audit_logs": 0})
	wantResult(t, run(t, m, maintenance.TypeRetention, json.RawMessage(`{"audit_logs": "1200h", "metrics": "24h0m1s", "jobs": "1s"}`)),
		maintenance.Deleted{"audit_logs": n/2 - n/10, "metrics": n * 99 / 100, "jobs": n * 3 / 5})
	for prefix, want := range map[string]int{
		"system.audit_logs/": n / 2, "system.metrics/": n / 100,
		// Three retention jobs have ended just now.
		"system.jobs/": n*2/5 + 3, "system.jobs.status/": n*2/5 + 3,
	} {
		if got := keys(t, st, prefix); got != want {
			t.Errorf("%d entries of %s, want %d", got, prefix, want)
		}
	}
	err := st.View(t.Context(), func(s store.Reader) error {
		for job, err := range systables.Jobs.All(s, "") {
			if err != nil {
				return err
			}
			if job.Type == "other" && job.Status != jobs.Pending && job.Status != jobs.Running {
				t.Errorf("job %s stays although it was %s on %v", job.ID, job.Status, job.CompletedAt)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCleanup(t *testing.T) {
	st := open(t)
	const n = 400
	write(t, st, n, func(tx store.Txn, i int) error {
		id, at := fmt.Sprintf("%06d", i), day(i%now)
		user := systables.User{ID: systables.UserID(id), Username: id, Role: "user", AuthType: "password", StorageMode: "table"}
		if i%2 == 0 {
			user.DeletedAt = &at
		}
		query := systables.LiveQuery{ID: systables.LiveID(id), LastUpdate: at, Node: fmt.Sprint("node-", i%4)}
		return errors.Join(systables.Users.Insert(tx, user), systables.LiveQueries.Insert(tx, query))
	})
	m := start(t, st, maintenance.Options{})
	wantResult(t, run(t, m, maintenance.TypeCleanup, maintenance.Cleanup{DeletedUsers: days(50)}), maintenance.Deleted{"users": n / 4})
	wantResult(t, run(t, m, maintenance.TypeCleanup, maintenance.Cleanup{DeletedUsers: days(50), LiveQueries: days(80)}), maintenance.Deleted{"users": 0, "live_queries": n / 20})
	for prefix, want := range map[string]int{
		"system.users/": n * 3 / 4, "system.users.username/": n * 3 / 4, "system.live_queries/": n * 19 / 20,
	} {
		if got := keys(t, st, prefix); got != want {
			t.Errorf("%d entries of %s, want %d", got, prefix, want)
		}
	}
	// Who was deleted may come again.
	err := st.Update(t.Context(), func(tx store.Txn) error {
		return systables.Users.Insert(tx, systables.User{ID: "new", Username: "000000", Role: "user", AuthType: "password", StorageMode: "table"})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFlush(t *testing.T) {
	st := open(t)
	dir := t.TempDir()
	const n = 1000
	write(t, st, n, func(tx store.Txn, i int) error {
		return systables.AuditLogs.Insert(tx, systables.AuditLog{ID: systables.AuditID(fmt.Sprintf("%06d", i)), Timestamp: day(i % 10), Action: "login"})
	})
	m := start(t, st, maintenance.Options{ExportDir: dir})
	wantResult(t, run(t, m, maintenance.TypeFlush, nil), maintenance.Flushed{Reclaimed: true})
	wantResult(t, run(t, m, maintenance.TypeFlush, maintenance.Flush{Table: "users"}), maintenance.Flushed{Reclaimed: true})

	path := filepath.Join(dir, "audit.parquet")
	for _, tt := range []struct {
		params maintenance.Flush
		rows   int64
	}{
		{maintenance.Flush{Table: "audit_logs", File: "audit.parquet"}, n},
		{maintenance.Flush{Table: "audit_logs", File: "audit.parquet", From: day(3).Time(), To: day(5).Time()}, n / 5}, // replaces it
	} {
		job := run(t, m, maintenance.TypeFlush, tt.params)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		wantResult(t, job, maintenance.Flushed{Reclaimed: true, File: "audit.parquet", Rows: tt.rows, Bytes: info.Size()})
		if rows := rowsOf(t, path); rows != tt.rows {
			t.Errorf("the file has %d rows, want %d", rows, tt.rows)
		}
	}
	wantFiles(t, dir, "audit.parquet")
}

// A slow store takes its time to give back room, and refuses meanwhile to do it twice, as
// Badger does.
type slow struct {
	store.Store
	begun, release chan struct{}
	busy           sync.Mutex
}

func (s *slow) Reclaim(context.Context) error {
	if !s.busy.TryLock() {
		return store.ErrBusy
	}
	defer s.busy.Unlock()
	close(s.begun)
	<-s.release
	return nil
}

// TestFlushesTogether: a file does not wait for another job that gives back room for long,
// nor fail because of it.
func TestFlushesTogether(t *testing.T) {
	st := &slow{Store: open(t), begun: make(chan struct{}), release: make(chan struct{})}
	dir := t.TempDir()
	m := start(t, st, maintenance.Options{ExportDir: dir})
	first, err := m.Submit(t.Context(), jobs.Request{Type: maintenance.TypeFlush})
	if err != nil {
		t.Fatal(err)
	}
	<-st.begun
	job, err := m.Submit(t.Context(), jobs.Request{Type: maintenance.TypeFlush, Parameters: maintenance.Flush{Table: "users", File: "users.parquet"}})
	if err == nil {
		soon, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		job, err = m.Wait(soon, job.ID)
	}
	close(st.release)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "users.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, job, maintenance.Flushed{File: "users.parquet", Bytes: info.Size()})
	if first, err = m.Wait(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	wantResult(t, first, maintenance.Flushed{Reclaimed: true})
}

func rowsOf(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is only read
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var rows int64
	for _, group := range p.RowGroups() {
		r := group.Rows()
		for {
			n, err := r.ReadRows(make([]parquet.Row, 100))
			rows += int64(n)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestFlushFails: a job that cannot be done fails at once and leaves no file behind.
func TestFlushFails(t *testing.T) {
	st := open(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "users.parquet"), []byte("of yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := st.Update(t.Context(), func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte("system.storages/bad"), Value: []byte{0xa0}})
	})
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, st, maintenance.Options{ExportDir: dir})
	job := run(t, m, maintenance.TypeFlush, maintenance.Flush{Table: "storages", File: "users.parquet"})
	if job.Status != jobs.Failed || job.Attempts != 1 || !strings.Contains(*job.ErrorMessage, "export system.storages") {
		t.Errorf("a table with a bad row: %+v", job)
	}
	// What Submit would refuse, and another program has stored.
	other := open(t)
	nowhere := start(t, other, maintenance.Options{})
	for _, tt := range []struct {
		m      *jobs.Manager
		st     store.Store
		params string
		want   string
	}{
		{m, st, `{"table": "nonsense", "file": "x.parquet"}`, `permanent failure: there is no table "nonsense": want one of audit_logs, jobs, live_queries, metrics, namespaces, storages, tables, users`},
		{nowhere, other, `{"table": "users", "file": "users.parquet"}`, "permanent failure: this program writes no files: it has no directory for them"},
	} {
		job := stored(t, tt.m, tt.st, maintenance.TypeFlush, tt.params)
		if job.Status != jobs.Failed || job.Attempts != 1 || *job.ErrorMessage != tt.want {
			t.Errorf("%s: %+v; want %s", tt.params, job, tt.want)
		}
	}
	wantFiles(t, dir, "users.parquet")
	if data, err := os.ReadFile(filepath.Join(dir, "users.parquet")); err != nil || string(data) != "of yesterday" {
		t.Errorf("the file of yesterday has %q, %v; want it as it was", data, err)
	}
}

// TestParameters: what is wrong with a job is said before it is stored, all at once.
func TestParameters(t *testing.T) {
	tests := []struct {
		jobType string
		params  string
		faults  []string
	}{
		{"flush", `{"file": "../x", "secrets": 1, "from": "2025-02-01T00:00:00Z", "to": "2025-01-01T00:00:00Z", "format": "csv"}`,
			[]string{`"secrets": want type bool, not a number`, `"format" is unknown`, "wants a table", `file "../x"`, "from is not before to"}},
		{"flush", `{"table": "user", "file": "user.csv", "from": "yesterday"}`,
			[]string{`"from": parsing time`, `no table "user": want one of audit_logs, jobs,`, `file "user.csv"`}},
		{"flush", `{"table": "system.users"}`, []string{`no table "system.users"`}},
		{"flush", `{"table": "users", "file": "a/b.parquet"}`, []string{`file "a/b.parquet"`}},
		{"flush", `{"table": "users", "file": "/a.parquet"}`, []string{`file "/a.parquet"`}},
		{"flush", `{"table": "users", "file": ".parquet"}`, []string{`file ".parquet"`}},
		{"flush", `{"table": "users", "file": "a\u0000.parquet"}`, []string{`file "a\x00.parquet"`}},
		{"flush", `{"table": "users", "file": "` + strings.Repeat("l", 230) + `.parquet"}`, []string{"at most 150 bytes"}},
		{"flush", `{"table": "users", "file": ".."}`, []string{`file ".."`}},
		{"flush", `{"table": "users", "secrets": true}`, []string{"want a file"}},
		{"flush", `{"table": "users", "file": "u.parquet", "from": "2025-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}`, []string{"from is not before to"}},
		{"retention", `{}`, []string{"want an age"}},
		{"retention", `{"audit_logs": "30 days", "metrics": "-1h", "users": "1h"}`,
			[]string{`"audit_logs": want a duration such as "720h" or "1h30m", not "30 days"`, `"metrics": -1h0m0s is not positive`, `"users" is unknown`}},
		{"retention", `{"jobs": 5}`, []string{`"jobs": want text such as "720h", not 5`}},
		{"cleanup", `{}`, []string{"want an age"}},
		{"cleanup", `{"deleted_users": "0s", "live_queries": "1h"}`, []string{"0s is not positive"}},
	}
	st := open(t)
	m := start(t, st, maintenance.Options{ExportDir: t.TempDir()})
	for _, tt := range tests {
		_, err := m.Submit(t.Context(), jobs.Request{Type: tt.jobType, Parameters: json.RawMessage(tt.params)})
		wantFaults(t, tt.jobType+" "+tt.params, err, tt.faults...)
	}
	// Typed parameters are no other.
	_, err := m.Submit(t.Context(), jobs.Request{Type: "retention", Parameters: maintenance.Retention{Jobs: -1, Metrics: -2}})
	wantFaults(t, "negative durations", err, `"metrics": -2ns is not positive`, `"jobs": -1ns is not positive`)
	if n := keys(t, st, "system.jobs/"); n != 0 {
		t.Errorf("%d jobs that were refused are stored", n)
	}
}

func wantFaults(t *testing.T, what string, err error, want ...string) {
	t.Helper()
	faults, ok := errors.AsType[*multierror.Error](err)
	if !ok || len(faults.Errors) != len(want) {
		t.Errorf("%s: %v; want %d faults", what, err, len(want))
		return
	}
	for _, fault := range want {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v\nwant in it: %s", what, err, fault)
		}
	}
	if text := err.Error(); strings.TrimSpace(text) != text || strings.Contains(text, "\n") {
		t.Errorf("%s: the text %q has lines or space at its ends", what, text)
	}
}

// TestExportDir: what is wrong with the directory for files is said before a job is
// stored, and a relative one stays where it was.
func TestExportDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ dir, want string }{
		"none":    {"", "this program writes no files: it has no directory for them"},
		"missing": {filepath.Join(dir, "missing"), "directory for files: stat " + filepath.Join(dir, "missing") + ": "},
		"a file":  {file, "directory for files: " + file + " is none"},
	} {
		st := open(t)
		m := start(t, st, maintenance.Options{ExportDir: tt.dir})
		_, err := m.Submit(t.Context(), jobs.Request{Type: "flush", Parameters: maintenance.Flush{Table: "x", File: "x.parquet"}})
		wantFaults(t, name, err, `no table "x"`, tt.want)
		if job := run(t, m, "flush", maintenance.Flush{Table: "users"}); job.Status != jobs.Completed {
			t.Errorf("%s: a flush without a file is %s, want it completed", name, job.Status)
		}
	}

	t.Chdir(dir)
	m := start(t, open(t), maintenance.Options{ExportDir: "."})
	t.Chdir(t.TempDir())
	if job := run(t, m, "flush", maintenance.Flush{Table: "users", File: "users.parquet"}); job.Status != jobs.Completed {
		t.Errorf("an export is %s, want it completed", job.Status)
	}
	wantFiles(t, dir, "file", "users.parquet")
}

// TestInterrupted: an export that was cut short leaves the old file whole, and the next
// run removes what was written so far.
func TestInterrupted(t *testing.T) {
	st := open(t)
	dir := t.TempDir()
	params, key, node := `{"table":"users","file":"users.parquet"}`, "token", "node-1"
	err := st.Update(t.Context(), func(tx store.Txn) error {
		return systables.Jobs.Insert(tx, systables.Job{
			ID: "job", Type: maintenance.TypeFlush, Status: jobs.Running, Parameters: &params, Attempts: 1, RunToken: &key, NodeID: node,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".users.parquet.job.1", "users.parquet"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("PAR1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := start(t, st, maintenance.Options{ExportDir: dir})
	job, err := m.Wait(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	if job.Status != jobs.Completed || job.Attempts != 2 {
		t.Errorf("job %+v, want it completed in its second run", job)
	}
	if rows := rowsOf(t, filepath.Join(dir, "users.parquet")); rows != 0 {
		t.Errorf("the file has %d rows of a table without any", rows)
	}
	wantFiles(t, dir, "users.parquet")
}
