package sysdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
	"github.com/kvmigrate/kvmigrate/systables/jobs/maintenance"
	"github.com/kvmigrate/kvmigrate/systables/sysdb"
)

// holderDir names the directory that the test binary is to open and hold, as another
// process.
const holderDir = "KVMIGRATE_TEST_HOLDER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderDir); dir != "" {
		if err := hold(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// hold opens dir, says so, and has it open until its input ends.
func hold(ctx context.Context, dir string) error {
	db, err := sysdb.Open(ctx, config(dir))
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, db.Close(ctx))
}

// noon is the clock of the tests.
var noon = time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC)

func config(dir string) sysdb.Config {
	return sysdb.Config{
		Dir:    dir,
		Badger: badgerstore.Options{Configure: badgerstore.Small},
		Jobs:   jobs.Options{NodeID: "node-1"},
		Logger: slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return noon },
	}
}

// open opens what c says for the time of a test.
func open(t *testing.T, c sysdb.Config) *sysdb.DB {
	t.Helper()
	db, err := sysdb.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDB(t, db) })
	return db
}

func closeDB(t *testing.T, db *sysdb.DB) {
	t.Helper()
	if err := db.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// latest is the version that this program knows.
var latest = migrate.DefaultRegistry().Latest()

var local = systables.Storage{
	ID: "local", Name: "Local Filesystem", Type: "filesystem",
	SharedTablesTemplate: "{namespace}/{tableName}/",
	UserTablesTemplate:   "{namespace}/{tableName}/{userId}/",
	CreatedAt:            systables.At(noon), UpdatedAt: systables.At(noon),
}

func storages(t *testing.T, st store.Store) (rows []systables.Storage) {
	t.Helper()
	err := st.View(t.Context(), func(s store.Reader) error {
		for row, err := range systables.Storages.All(s, "") {
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestSteps: each step says that it was taken, and how long it took, on a new store and
// on one that is there.
func TestSteps(t *testing.T) {
	var log bytes.Buffer
	c := config(filepath.Join(t.TempDir(), "db"))
	c.Migrate.Logger = slog.New(slog.DiscardHandler)
	c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey:
			return slog.Attr{}
		case "dir":
			return slog.String("dir", "DIR")
		case "duration":
			if a.Value.Kind() != slog.KindDuration || a.Value.Duration() < 0 {
				t.Errorf("duration %v: want a duration", a.Value)
			}
			return slog.String("duration", "D")
		}
		return a
	}}))
	want := fmt.Sprintf(`level=INFO msg="store opened" dir=DIR duration=D
level=INFO msg="providers built" tables=8 duration=D
level=INFO msg="system tables initialized" version=%d duration=D
level=INFO msg="job manager started" node=node-1 duration=D
level=INFO msg="default storage is there" storage=local seeded=true duration=D
level=INFO msg="tables loaded" tables=8 duration=D
`, latest)
	for _, start := range []string{"first", "second"} {
		log.Reset()
		db := open(t, c)
		closeDB(t, db)
		want := strings.Replace(want, "seeded=true", fmt.Sprintf("seeded=%t", start == "first"), 1)
		if diff := cmp.Diff(want, log.String()); diff != "" {
			t.Errorf("log of the %s start (-want +got):\n%s", start, diff)
		}
	}
}

func TestOpenAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx := t.Context()
	c := config(filepath.Join(t.TempDir(), "db"))
	db, err := sysdb.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if r := db.Report(); r.From != 0 || r.To != latest {
		t.Errorf("first start: from v%d to v%d, want from v0 to v%d", r.From, r.To, latest)
	}
	if diff := cmp.Diff([]systables.Storage{local}, storages(t, db.Store())); diff != "" {
		t.Errorf("storages (-want +got):\n%s", diff)
	}
	job, err := db.Jobs().Submit(ctx, jobs.Request{Type: maintenance.TypeFlush})
	if err != nil {
		t.Fatal(err)
	}
	if job, err = db.Jobs().Wait(ctx, job.ID); err != nil || job.Status != jobs.Completed {
		t.Errorf("flush: %s, %v; want it completed", job.Status, err)
	}
	// What people change is theirs, and what a program adds is found.
	changed := local
	changed.BaseDirectory = "/data"
	tables := []systables.TableRow{
		{ID: "app:notes", Name: "notes", Namespace: "app", Type: "SHARED", SchemaVersion: 1},
		{ID: "app:tags", Name: "tags", Namespace: "app", Type: "USER", SchemaVersion: 3},
	}
	err = store.Update(ctx, db.Store(), func(tx store.Txn) error {
		return errors.Join(
			systables.Storages.Put(tx, changed),
			systables.Namespaces.Insert(tx, systables.Namespace{ID: "app", Name: "app"}),
			systables.Tables.Put(tx, tables...),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(ctx), db.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Jobs().Submit(ctx, jobs.Request{Type: maintenance.TypeFlush}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Submit after Close: %v, want %v", err, store.ErrClosed)
	}

	if db, err = sysdb.Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	if r := db.Report(); r.From != latest || len(r.Applied) != 0 {
		t.Errorf("second start: from v%d, %d applied; want from v%d, none", r.From, len(r.Applied), latest)
	}
	if diff := cmp.Diff([]systables.Storage{changed}, storages(t, db.Store())); diff != "" {
		t.Errorf("storages of the second start (-want +got):\n%s", diff)
	}
	// The system tables have rows there as well.
	got := slices.DeleteFunc(db.Tables(), func(row systables.TableRow) bool { return row.Type == "SYSTEM" })
	if diff := cmp.Diff(tables, got); diff != "" {
		t.Errorf("Tables (-want +got):\n%s", diff)
	}
	if n := len(db.Tables()) - len(got); n != len(systables.Definitions()) {
		t.Errorf("%d system tables, want %d", n, len(systables.Definitions()))
	}
}

// TestFailedStep: whichever step fails, nothing of those before it is left, and the
// directory can be opened again at once.
func TestFailedStep(t *testing.T) {
	newer := migrate.NewRegistry(append(migrate.DefaultRegistry().Migrations(), migrate.Migration{
		Version: latest + 1, Name: "fail", Up: func(context.Context, *migrate.Tx) error { return errFails },
	})...)
	for _, tc := range []struct {
		step    string
		spoil   func(t *testing.T, c *sysdb.Config)
		want    error
		restore func(t *testing.T, c *sysdb.Config) // what the next Open needs
	}{{
		step: "open store",
		spoil: func(t *testing.T, c *sysdb.Config) {
			c.Badger.MustExist = true
			c.Dir += "-missing"
		},
		want: os.ErrNotExist,
	}, {
		step: "build providers",
		spoil: func(_ *testing.T, c *sysdb.Config) {
			c.Migrate.Registry = migrate.NewRegistry(migrate.Migration{Version: 2, Name: "no_up"})
		},
	}, {
		step:  "initialize system tables",
		spoil: func(_ *testing.T, c *sysdb.Config) { c.Migrate.Registry = newer },
		want:  errFails,
	}, {
		step: "start job manager",
		spoil: func(_ *testing.T, c *sysdb.Config) {
			c.Executors = func(m *jobs.Manager) { maintenance.Register(m, maintenance.Options{}) }
		},
	}, {
		step:  "seed default storage",
		spoil: func(_ *testing.T, c *sysdb.Config) { c.DefaultStorage = systables.Storage{ID: "tape", Type: "tape"} },
		want:  systables.ErrInvalid,
	}, {
		step:    "load tables",
		spoil:   func(t *testing.T, c *sysdb.Config) { set(t, c.Dir, tornTable, []byte{0xff}) },
		want:    store.ErrCorrupt,
		restore: func(t *testing.T, c *sysdb.Config) { set(t, c.Dir, tornTable, nil) },
	}} {
		t.Run(tc.step, func(t *testing.T) {
			good := config(filepath.Join(t.TempDir(), "db"))
			closeDB(t, open(t, good))
			bad := good
			tc.spoil(t, &bad)
			before := goleak.IgnoreCurrent()
			_, err := sysdb.Open(t.Context(), bad)
			switch {
			case err == nil:
				t.Fatal("Open: nil, want an error")
			case !strings.HasPrefix(err.Error(), "open system tables: "+tc.step+": "):
				t.Errorf("Open: %v; want that it says it failed to %s", err, tc.step)
			case strings.Count(err.Error(), tc.step) != 1:
				t.Errorf("Open: %v; want that it says so once", err)
			case tc.want != nil && !errors.Is(err, tc.want):
				t.Errorf("Open: %v, want %v", err, tc.want)
			}
			goleak.VerifyNone(t, before)
			if tc.restore != nil {
				tc.restore(t, &good)
			}
			open(t, good)
		})
	}
}

var errFails = errors.New("migration fails")

var tornTable = store.MustPartition("system.tables").Key([]byte("app:torn"))

// set writes an entry to the store in dir, or removes it if value is nil.
func set(t *testing.T, dir string, key, value []byte) {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Update(t.Context(), st, func(tx store.Txn) error {
		if value == nil {
			return tx.Delete(key)
		}
		return tx.Set(store.Entry{Key: key, Value: value})
	})
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestEveryOperationFails: a start that fails at any operation of the store leaves
// nothing running, and the next one succeeds.
func TestEveryOperationFails(t *testing.T) {
	ctx := t.Context()
	for at := 1; ; at++ {
		st, err := badgerstore.OpenInMemory(ctx)
		if err != nil {
			t.Fatal(err)
		}
		before := goleak.IgnoreCurrent()
		faulty := storetest.Fail(st, at, storetest.Error)
		c := config("")
		c.Store = faulty
		db, err := sysdb.Open(ctx, c)
		if err == nil {
			closeDB(t, db)
		} else {
			if !errors.Is(err, storetest.ErrFault) {
				t.Errorf("operation %d failed: %v, want %v", at, err, storetest.ErrFault)
			}
			c.Store = st
			if db, err := sysdb.Open(ctx, c); err != nil {
				t.Errorf("after operation %d failed: %v", at, err)
			} else {
				closeDB(t, db)
			}
		}
		goleak.VerifyNone(t, before)
		done := faulty.Operations() < at
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
}

// TestFaultsTogether: a Config's faults come together, before anything is opened.
func TestFaultsTogether(t *testing.T) {
	_, err := sysdb.Open(t.Context(), sysdb.Config{Migrate: migrate.Options{Schema: "app"}})
	if err == nil {
		t.Fatal("Open of nothing: nil, want an error")
	}
	if want := `open system tables: want either a Dir or a Store; schema "app" is not that of the system tables, "system"`; err.Error() != want {
		t.Errorf("Open: %q, want %q", err, want)
	}
}

func TestLent(t *testing.T) {
	ctx := t.Context()
	st, err := badgerstore.OpenInMemory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := store.Update(ctx, st, func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte("app:data"), Value: []byte("x")})
	}); err != nil {
		t.Fatal(err)
	}
	c := config("")
	c.Store = st
	if _, err := sysdb.Open(ctx, c); !errors.Is(err, migrate.ErrUnversioned) {
		t.Errorf("Open of a store with other data: %v, want %v", err, migrate.ErrUnversioned)
	}
	c.Migrate.AllowUnversioned = true
	closeDB(t, open(t, c))
	if diff := cmp.Diff([]systables.Storage{local}, storages(t, st)); diff != "" {
		t.Errorf("storages, after Close (-want +got):\n%s", diff)
	}
}

// TestLocked: who has the store is told, be it this process or another, and as soon as
// that one is dead the store can be opened.
func TestLocked(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "db"))
	db := open(t, c)
	wantLocked(t, c, os.Getpid())
	closeDB(t, db)

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderDir+"="+c.Dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("open\n"))); err != nil {
		t.Fatal(err)
	}
	wantLocked(t, c, cmd.Process.Pid)

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	open(t, c)
}

func wantLocked(t *testing.T, c sysdb.Config, pid int) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	_, err := sysdb.Open(t.Context(), c)
	locked, ok := errors.AsType[*store.LockedError](err)
	if !ok {
		t.Fatalf("Open: %v, want a *store.LockedError", err)
	}
	if locked.PID != pid {
		t.Errorf("Open: process %d has the store, want %d", locked.PID, pid)
	}
	goleak.VerifyNone(t, before)
}

// TestStubbornJob: a job that does not stop keeps its store open, and Close can be
// called again.
func TestStubbornJob(t *testing.T) {
	ctx := t.Context()
	begun, release := make(chan struct{}), make(chan struct{})
	c := config(filepath.Join(t.TempDir(), "db"))
	c.Jobs.Grace = time.Millisecond
	c.Executors = func(m *jobs.Manager) {
		jobs.Register(m, "stubborn", jobs.Policy{}, func(context.Context, *jobs.Run, struct{}) (any, error) {
			close(begun)
			<-release
			return nil, nil
		})
	}
	db, err := sysdb.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	job, err := db.Jobs().Submit(ctx, jobs.Request{Type: "stubborn"})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	enough := errors.New("enough")
	ended, cancel := context.WithCancelCause(ctx)
	cancel(enough)
	text := fmt.Sprintf("close system tables: shut down job manager: enough: did not stop within 1ms, and count as interrupted when their lease ends: stubborn (%s)", job.ID)
	if err := db.Close(ended); !errors.Is(err, enough) || err.Error() != text {
		t.Errorf("Close while a job does not stop: %v, want %s", err, text)
	}
	if rows := storages(t, db.Store()); len(rows) != 1 { // it is open
		t.Errorf("%d storages, want 1", len(rows))
	}
	close(release)
	closeDB(t, db)
	db = open(t, c)
	if job, err = db.Jobs().Wait(ctx, job.ID); err != nil || job.Status != jobs.Completed {
		t.Errorf("the job: %s, %v; want it completed", job.Status, err)
	}
}

// TestFailureStopsJobs: a job that runs when a later step fails is put back.
func TestFailureStopsJobs(t *testing.T) {
	ctx := t.Context()
	begun := make(chan struct{})
	c := config(filepath.Join(t.TempDir(), "db"))
	c.Executors = func(m *jobs.Manager) {
		jobs.Register(m, "long", jobs.Policy{}, func(ctx context.Context, _ *jobs.Run, _ struct{}) (any, error) {
			close(begun)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
	}
	db := open(t, c)
	later := noon.Add(time.Hour)
	job, err := db.Jobs().Submit(ctx, jobs.Request{Type: "long", NotBefore: later})
	if err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)

	bad := c
	bad.DefaultStorage = systables.Storage{ID: "tape", Type: "tape"}
	bad.Jobs.Now = func() time.Time { return later }
	bad.Now = func() time.Time { // the clock of the seeding
		<-begun
		return later
	}
	before := goleak.IgnoreCurrent()
	if _, err := sysdb.Open(ctx, bad); !errors.Is(err, systables.ErrInvalid) {
		t.Errorf("Open: %v, want %v", err, systables.ErrInvalid)
	}
	goleak.VerifyNone(t, before)

	db = open(t, config(c.Dir)) // which has no executor for it
	err = db.Store().View(ctx, func(s store.Reader) (err error) {
		job, err = systables.Jobs.Get(s, job.ID)
		return err
	})
	if err != nil || job.Status != jobs.Pending || job.Attempts != 0 {
		t.Errorf("the job: %s after %d runs, %v; want it pending after none", job.Status, job.Attempts, err)
	}
}

// A panic in what the program registers leaves nothing open either.
func TestPanic(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "db"))
	good := c.Executors
	c.Executors = func(*jobs.Manager) { panic("boom") }
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("Open kept the panic")
			}
		}()
		_, _ = sysdb.Open(t.Context(), c)
	}()
	c.Executors = good
	closeDB(t, open(t, c))
}

// Nor does one that ends the goroutine, as t.FailNow does.
func TestGoexit(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "db"))
	good := c.Executors
	c.Executors = func(*jobs.Manager) { runtime.Goexit() }
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := sysdb.Open(t.Context(), c)
		t.Errorf("Open returned: %v", err)
	}()
	<-done
	c.Executors = good
	closeDB(t, open(t, c))
}

// TestUnknown: a start goes on after a commit that the store did not confirm, whichever it
// is and whatever became of it.
func TestUnknown(t *testing.T) {
	ctx := t.Context()
	for _, fate := range storetest.Fates {
		for at, more := 1, true; more; at++ {
			st, err := badgerstore.OpenInMemory(ctx)
			if err != nil {
				t.Fatal(err)
			}
			unsure := storetest.Unconfirm(st, fate, func(commit int) bool { return commit == at })
			c := config("")
			c.Store = unsure
			db, err := sysdb.Open(ctx, c)
			if err != nil {
				t.Errorf("commit %d is unknown (%v): %v", at, fate, err)
			} else {
				closeDB(t, db)
			}
			unsure.Settle()
			if diff := cmp.Diff([]systables.Storage{local}, storages(t, st)); diff != "" {
				t.Errorf("commit %d is unknown (%v): storages (-want +got):\n%s", at, fate, diff)
			}
			more = unsure.Commits() >= at
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
