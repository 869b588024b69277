package badgerstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// newDir returns a directory with a closed store that holds pairs.
func newDir(t *testing.T, configure func(badger.Options) badger.Options, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	st := open(t, dir, configure)
	update(t, st, set(pairs...))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyDir returns a copy of dir.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// nextFile returns the name of the log file that Badger creates next in dir: ext
// is "mem" or "vlog".
func nextFile(t *testing.T, dir, ext string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*."+ext))
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, f := range files {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(f), "%d."+ext, &n); err != nil {
			t.Fatal(err)
		}
		last = max(last, n)
	}
	width := map[string]int{"mem": 5, "vlog": 6}[ext]
	return filepath.Join(dir, fmt.Sprintf("%0*d.%s", width, last+1, ext))
}

// A kill between the creation of a log file and its first resize leaves it
// empty. Badger then fails to open once.
func TestOpenAfterKillThatLeftEmptyFiles(t *testing.T) {
	for _, config := range []struct {
		name      string
		configure func(badger.Options) badger.Options
	}{{"plain", allPointers}, {"encrypted", encrypted}} {
		for _, exts := range [][]string{{"mem"}, {"vlog"}, {"mem", "vlog"}} {
			t.Run(config.name+" "+strings.Join(exts, " and "), func(t *testing.T) {
				dir := newDir(t, config.configure, "k", "v")
				for _, ext := range exts {
					if err := os.WriteFile(nextFile(t, dir, ext), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				// The failed open repairs the directory, so it has one to itself.
				db, err := badger.Open(config.configure(badger.DefaultOptions(copyDir(t, dir))).WithLogger(nil))
				if err == nil {
					_ = db.Close()
					t.Fatal("Badger itself opened the directory; want the failure that Open is there to retry")
				}

				var log bytes.Buffer
				st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{
					Configure: config.configure,
					Logger:    slog.New(slog.NewTextHandler(&log, nil)),
				})
				if err != nil {
					t.Fatalf("Open: %v; want it to try again, because Badger alone says %v", err, err)
				}
				if got := strings.Count(log.String(), "level=WARN"); got != len(exts) {
					t.Errorf("%d warnings for %d empty files; want one for each retry:\n%s", got, len(exts), &log)
				}
				wantContents(t, st, "k=v")
				update(t, st, set("k2", "v2"))
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
				wantContents(t, open(t, dir, config.configure), "k=v", "k2=v2")
			})
		}
	}
}

// Only the leftovers of a kill are retried.
func TestOpenDoesNotRetryOtherErrors(t *testing.T) {
	dir := newDir(t, small, "k", "v")
	if err := os.WriteFile(filepath.Join(dir, badger.ManifestFilename), []byte("not a manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil {
		_ = st.Close()
		t.Fatal("Open of a broken manifest: no error")
	}
	if strings.Contains(log.String(), "opening again") {
		t.Errorf("Open retried a broken manifest:\n%s", &log)
	}
}

func TestOpenLocked(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, small)
	_, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
	wantError(t, "Open of a store that is open", err, store.ErrLocked)
	if e, ok := errors.AsType[*store.LockedError](err); !ok || e.PID != os.Getpid() || e.Gone || time.Since(e.Since) > time.Minute {
		t.Errorf("error %+v; want a LockedError with this process, which has had the store for a moment", e)
	}
	if !strings.Contains(err.Error(), "store is in use by this process, which has had it open since 2") {
		t.Errorf("error %q; want it to say that it is this process", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	wantContents(t, open(t, dir, small))
}

// The PID in a lock file may be that of a process which is gone: another one has
// the lock then.
func TestOpenLockedByNobody(t *testing.T) {
	for name, test := range map[string]struct {
		lock string // the contents of the file, none if empty
		want store.LockedError
		text string
	}{
		"a process that is gone": {fmt.Sprintf("%d\n", endedPID(t)), store.LockedError{PID: endedPID(t), Gone: true}, "is gone"},
		"no file":                {"", store.LockedError{}, "did not leave its PID"},
		"a file of nonsense":     {"nonsense", store.LockedError{}, "did not leave its PID"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, small)
			lock := filepath.Join(dir, "LOCK")
			if err := os.Remove(lock); err != nil {
				t.Fatal(err)
			}
			if test.lock != "" {
				if err := os.WriteFile(lock, []byte(test.lock), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
			got, ok := errors.AsType[*store.LockedError](err)
			if !ok || got.Gone != test.want.Gone || (got.PID == 0) != (test.want.PID == 0) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("Open = %v; want a LockedError like %+v", err, test.want)
			}
			// Badger wants to remove it.
			if err := os.WriteFile(lock, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// endedPID is the PID of a process that has ended.
func endedPID(t *testing.T) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^$")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

func TestOpenWaits(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, small)
	waiting := make(chan struct{})
	log := slog.New(onRecord{slog.DiscardHandler, sync.OnceFunc(func() { close(waiting) })})
	go func() {
		<-waiting
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	second, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small, Wait: time.Hour, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()

	_, err = badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small, Wait: 2 * time.Nanosecond})
	wantError(t, "Open after the time to wait", err, store.ErrLocked)

	ctx, cancel := context.WithCancel(t.Context())
	log = slog.New(onRecord{slog.DiscardHandler, cancel})
	_, err = badgerstore.Open(ctx, dir, badgerstore.Options{Configure: small, Wait: time.Hour, Logger: log})
	wantError(t, "Open that is cancelled while it waits", err, context.Canceled)
	wantError(t, "Open that is cancelled while it waits", err, store.ErrLocked)
}

// onRecord is a log that calls a function for each record.
type onRecord struct {
	slog.Handler
	do func()
}

func (onRecord) Enabled(context.Context, slog.Level) bool { return true }
func (o onRecord) Handle(context.Context, slog.Record) error {
	o.do()
	return nil
}

func TestOpenMustExist(t *testing.T) {
	empty := t.TempDir()
	missing := filepath.Join(empty, "missing")
	for _, dir := range []string{missing, empty} {
		_, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small, MustExist: true})
		wantError(t, "Open with MustExist of a directory without a store", err, fs.ErrNotExist)
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) != 0 {
		t.Errorf("Open with MustExist left %v, %v; want nothing created", entries, err)
	}
	dir := newDir(t, small, "k", "v")
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small, MustExist: true})
	if err != nil {
		t.Fatalf("Open with MustExist of a store: %v", err)
	}
	defer func() { _ = st.Close() }()
	wantContents(t, st, "k=v")
}

func TestOpenContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "store")
	_, err := badgerstore.Open(ctx, dir, badgerstore.Options{Configure: small})
	wantError(t, "Open with a context that has ended", err, context.Canceled)
	if _, err := os.Stat(dir); err == nil {
		t.Error("Open with a context that has ended created the directory")
	}
}

func TestOpenEncryption(t *testing.T) {
	key := func(k string) func(badger.Options) badger.Options {
		return func(o badger.Options) badger.Options { return encrypted(o).WithEncryptionKey([]byte(k)) }
	}
	dir := newDir(t, encrypted, "k", "v")
	for name, test := range map[string]struct {
		dir       string
		configure func(badger.Options) badger.Options
	}{
		"no key":                  {dir, small},
		"another key":             {dir, key("fedcba9876543210")},
		"a longer key":            {dir, key("0123456789abcdef01234567")},
		"a key for a plain store": {newDir(t, small, "k", "v"), encrypted},
	} {
		st, err := badgerstore.Open(t.Context(), test.dir, badgerstore.Options{Configure: test.configure, Logger: slog.New(slog.DiscardHandler)})
		wantError(t, "Open with "+name, err, badger.ErrEncryptionKeyMismatch)
		if st != nil {
			t.Errorf("Open with %s returned a Store; want nil", name)
		}
	}
	wantContents(t, open(t, dir, encrypted), "k=v")
}

// What makes a store safe is not left to Configure.
func TestOpenForcesSafety(t *testing.T) {
	st := open(t, t.TempDir(), func(o badger.Options) badger.Options {
		return small(o).WithSyncWrites(false).WithDetectConflicts(false)
	})
	if o := st.DB().Opts(); !o.SyncWrites || !o.DetectConflicts || !o.VerifyValueChecksum {
		t.Errorf("SyncWrites %t, DetectConflicts %t, VerifyValueChecksum %t; want all on", o.SyncWrites, o.DetectConflicts, o.VerifyValueChecksum)
	}
	if got := st.Limits().TornValueBytes; got != 0 {
		t.Errorf("TornValueBytes = %d with SyncWrites; want 0", got)
	}
}

func TestOpenClosesItsDatabase(t *testing.T) {
	st := open(t, t.TempDir(), small)
	db := st.DB()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if !db.IsClosed() {
		t.Error("Close left the database open that Open had opened")
	}
}
