package migrate_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// liveRun runs a migration of thirty rows that waits in its last row until the file
// of the run says that some of them are done, and returns what that said.
func liveRun(t *testing.T, dir string, st store.Store) migrate.Live {
	t.Helper()
	load(t, st, many("app/", 30)...)
	var live migrate.Live
	o := one(migrate.Serial(migrate.Each([]byte("app/"), func(ctx context.Context, _ *migrate.Tx, e store.Entry) error {
		if string(e.Key) != "app/000029" {
			return nil
		}
		for looks := time.Tick(time.Millisecond); ; <-looks { // the file is written once a second
			var err error
			live, err = migrate.ReadLive(dir, "system")
			if err == nil && live.Done > 0 || err != nil && !errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
				return err
			}
		}
	})))
	mustRun(t, located{narrow{st, 40}, dir}, o)
	return live
}

// located is a store in a directory.
type located struct {
	store.Store
	dir string
}

func (l located) Dir() string { return l.dir }

func TestLive(t *testing.T) {
	dir := t.TempDir()
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if st.Dir() != dir {
		t.Errorf("the store is in %s; want %s", st.Dir(), dir)
	}
	before := time.Now().Add(-time.Millisecond)
	live := liveRun(t, dir, st)
	if live.PID != os.Getpid() || live.Program != "test v1" || live.From != 0 || live.To != 1 || live.Version != 1 || live.Name != "only" {
		t.Errorf("live %+v; want this process, and v0 -> v1", live)
	}
	if live.Done == 0 || live.Started.Before(before) || live.Updated.Before(live.Started) || live.Text == "" {
		t.Errorf("live %+v; want some batches done, since the run began", live)
	}
	if _, err := migrate.ReadLive(dir, "system"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadLive after the run = %v; want no file", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kvmigrate.system.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := migrate.ReadLive(dir, "system"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadLive of a torn file = %v; want an error", err)
	}
}

// TestLiveBackup: the backup before the migrations is there to see, and leaves no file.
func TestLiveBackup(t *testing.T) {
	dir := t.TempDir()
	st := openStore(t)
	load(t, st, many("app/", 30)...)
	seen := map[backup.Stage]migrate.Live{}
	o := saving(t.TempDir(), migrate.Migration{Version: 1, Name: "only", Up: func(context.Context, *migrate.Tx) error {
		if _, err := migrate.ReadLive(dir, "system"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the backup: %v; want no file of it", err)
		}
		return nil
	}})
	o.AllowUnversioned = true
	o.Backup.Observer = func(p backup.Progress) {
		live, err := migrate.ReadLive(dir, "system")
		if err != nil {
			t.Errorf("%s: %v", p.Stage, err)
		}
		seen[p.Stage] = live
	}
	mustRun(t, located{st, dir}, o)
	for _, stage := range []backup.Stage{backup.Writing, backup.Verifying} {
		live := seen[stage]
		if !live.BackingUp || live.PID != os.Getpid() || live.To != 1 || live.Version != 1 || live.Name != "only" ||
			!strings.HasPrefix(live.Text, "backup of v0, phase 1 of 2: ") {
			t.Errorf("%s: live %+v; want the backup", stage, live)
		}
	}
}

// TestLiveTogether: several runs in one process have one file, and do not get in each
// other's way.
func TestLiveTogether(t *testing.T) {
	dir, st := t.TempDir(), openStore(t)
	load(t, st, many("app/", 30)...)
	boom := errors.New("boom")
	var l lines
	o := saving(t.TempDir(), migrate.Migration{Version: 1, Name: "only", Up: func(context.Context, *migrate.Tx) error { return boom }})
	o.AllowUnversioned, o.Logger = true, slog.New(&l)
	o.Backup.Observer = func(backup.Progress) {
		if _, err := migrate.ReadLive(dir, "system"); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := migrate.Up(t.Context(), located{st, dir}, o); !errors.Is(err, boom) {
					t.Errorf("Up = %v, want %v", err, boom)
				}
			}
		})
	}
	wg.Wait()
	for _, line := range l.got {
		if strings.Contains(line, "WARN") {
			t.Error(line)
		}
	}
}
