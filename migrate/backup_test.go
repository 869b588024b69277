package migrate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// saving are options with backups in dir.
func saving(dir string, ms ...migrate.Migration) migrate.Options {
	o := options(migrate.NewRegistry(ms...))
	o.Backup = &backup.Options{Dir: dir}
	return o
}

// saved returns the versions of the backups in dir, all of which must be good.
func saved(t *testing.T, dir string) []uint32 {
	t.Helper()
	list, err := backup.List(t.Context(), dir, "system", nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := []uint32{}
	for _, l := range list {
		if l.Err != nil {
			t.Error(l.Err)
		}
		versions = append(versions, l.Version)
	}
	return versions
}

// halfway is a migration that fails in its second step until it is mended.
func halfway(version uint32, broken *bool) migrate.Migration {
	return migrate.Migration{Version: version, Name: "halfway", Up: func(_ context.Context, tx *migrate.Tx) error {
		if tx.Cursor() == nil {
			tx.Continue([]byte("half"))
			return tx.Set(store.Entry{Key: []byte("app/half"), Value: []byte("new")})
		}
		if *broken {
			return errors.New("boom")
		}
		return nil
	}}
}

func TestBackupBeforeUp(t *testing.T) {
	st, dir := openStore(t), filepath.Join(t.TempDir(), "backups")

	report, err := migrate.Up(t.Context(), st, saving(dir, scenario[:1]...))
	if err != nil || report.Backup != nil {
		t.Errorf("Up of an empty store: backup %v, %v; want none", report.Backup, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory of backups of an empty store: %v, want none", err)
	}
	before := contents(t, st)

	l := new(lines)
	var events []string
	o := saving(dir, scenario...)
	o.Logger = slog.New(l)
	o.Observer = func(e migrate.Event) {
		events = append(events, fmt.Sprint(e.Kind, " v", e.Version, " ", e.Phase, " ", e.Done))
	}
	report, err = migrate.Up(t.Context(), st, o)
	if err != nil || report.Backup == nil || report.Backup.Version != 1 || report.Backup.Reused {
		t.Fatalf("Up of v1: backup %+v, %v; want one of v1", report.Backup, err)
	}
	if diff := cmp.Diff([]string{
		"INFO backing up the store at system schema v1, before it goes to v2",
		"INFO backed up the store",
		"INFO system schema upgrade detected: v1 -> v2",
		"INFO migrating v1 -> v2: adding system.metrics table",
		"INFO system schema version updated to v2",
	}, l.got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"backing up v2 1 3", "backing up v2 2 3", "started v2 1 0", "batch v2 1 0", "finished v2 1 0"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	old := openStore(t)
	if _, err := backup.Restore(t.Context(), report.Backup.Path, old, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, contents(t, old)); diff != "" {
		t.Errorf("restored store (-v1 +restored):\n%s", diff)
	}

	report, err = migrate.Up(t.Context(), st, saving(dir, scenario...))
	if err != nil || report.Backup != nil {
		t.Errorf("Up with nothing pending: backup %v, %v; want none", report.Backup, err)
	}
	if diff := cmp.Diff([]uint32{1}, saved(t, dir)); diff != "" {
		t.Errorf("backups (-want +got):\n%s", diff)
	}
}

// TestBackupOfUnversioned: data from before there were versions are saved too.
func TestBackupOfUnversioned(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, "session/1", []byte("x"))
	o := saving(dir, scenario...)
	o.AllowUnversioned = true
	if report, err := migrate.Up(t.Context(), st, o); err != nil || report.Backup == nil || report.Backup.Version != 0 || report.Backup.Entries != 1 {
		t.Errorf("Up: backup %+v, %v; want one of v0 with one entry", report.Backup, err)
	}
}

// TestBackupOfAdopted: a store is saved before it is adopted.
func TestBackupOfAdopted(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, "app/1", []byte("one"))
	before := contents(t, st)
	o := saving(dir, scenario...)
	o.Adopt = func(context.Context, store.Reader) (uint32, error) { return 1, nil }
	o.Backup.Headroom = 1 << 60
	if _, err := migrate.Up(t.Context(), st, o); !isType[*migrate.BackupError](err) {
		t.Errorf("Up without room for the backup = %v, want a BackupError", err)
	}
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("a store that could not be saved changed (-before +after):\n%s", diff)
	}
	o.Backup.Headroom = 0
	report, err := migrate.Up(t.Context(), st, o)
	if err != nil || !report.Adopted || report.Backup == nil || report.Backup.Version != 1 || report.Backup.Entries != 1 {
		t.Errorf("Up = %+v, %v; want it adopted, and one entry saved", report, err)
	}
}

// TestBackupFails: without its backup a migration does not begin.
func TestBackupFails(t *testing.T) {
	st, file := openStore(t), filepath.Join(t.TempDir(), "file")
	mustUp(t, st, scenario[:1])
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, st)
	for name, tt := range map[string]struct {
		o    backup.Options
		text string
	}{
		"no space":           {backup.Options{Dir: t.TempDir(), Headroom: 1 << 60}, "not enough space"},
		"no directory there": {backup.Options{Dir: filepath.Join(file, "below")}, "not a directory"},
		"no directory named": {backup.Options{}, "no directory"},
	} {
		o := options(migrate.NewRegistry(scenario...))
		o.Backup = &tt.o
		report, err := migrate.Up(t.Context(), st, o)
		e, ok := errors.AsType[*migrate.BackupError](err)
		if !ok || e.Schema != "system" || e.Version != 1 || e.Dir != tt.o.Dir || report.To != 1 {
			t.Errorf("%s: Up = v%d, %v; want v1 and a BackupError", name, report.To, err)
		}
		for _, want := range []string{tt.text, "nothing was changed", "v1", tt.o.Dir} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
		if diff := cmp.Diff(before, contents(t, st)); diff != "" {
			t.Errorf("%s changed the store (-before +after):\n%s", name, diff)
		}
	}
}

// TestBackupOfRetry: what fails and is run again, however often, has one backup, which is
// of the data from before.
func TestBackupOfRetry(t *testing.T) {
	boom := migrate.Migration{Version: 2, Name: "boom", Up: func(context.Context, *migrate.Tx) error { return errors.New("boom") }}
	broken := true
	for name, second := range map[string]migrate.Migration{"plain": boom, "in steps": halfway(2, &broken)} {
		t.Run(name, func(t *testing.T) {
			st, dir := openStore(t), t.TempDir()
			mustUp(t, st, scenario[:1])
			before := contents(t, st)
			var first string
			for n := range 3 {
				report, err := migrate.Up(t.Context(), st, saving(dir, scenario[0], second))
				if err == nil || report.Backup == nil || report.Backup.Reused != (n > 0) {
					t.Fatalf("run %d: backup %+v, %v", n, report.Backup, err)
				}
				if n == 0 {
					first = report.Backup.Path
				}
				if report.Backup.Path != first {
					t.Errorf("run %d has backup %s, want %s", n, report.Backup.Path, first)
				}
			}
			if diff := cmp.Diff([]uint32{1}, saved(t, dir)); diff != "" {
				t.Errorf("backups (-want +got):\n%s", diff)
			}
			old := openStore(t)
			if _, err := backup.Restore(t.Context(), first, old, backup.RestoreOptions{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, contents(t, old)); diff != "" {
				t.Errorf("restored store (-before +restored):\n%s", diff)
			}
		})
	}
}

// TestBackupOfInterrupted: half-migrated data are never saved, and a migration whose
// backup is gone goes on with a warning.
func TestBackupOfInterrupted(t *testing.T) {
	broken := true
	st, dir := openStore(t), t.TempDir()
	mustUp(t, st, scenario[:1])
	ms := []migrate.Migration{scenario[0], halfway(2, &broken)}
	if _, err := up(t, st, ms); err == nil {
		t.Fatal("the migration did not fail")
	}
	r, err := migrate.New(st, options(migrate.NewRegistry(ms...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Backup(t.Context(), backup.Options{Dir: dir}); !errors.Is(err, migrate.ErrHalfMigrated) || !isType[*migrate.BackupError](err) {
		t.Errorf("Backup = %v, want ErrHalfMigrated", err)
	}
	broken = false
	l := new(lines)
	o := saving(dir, ms...)
	o.Logger = slog.New(l)
	report, err := migrate.Up(t.Context(), st, o)
	if err != nil || report.Backup != nil || report.To != 2 {
		t.Errorf("Up = v%d, backup %v, %v; want v2 without a backup", report.To, report.Backup, err)
	}
	if log := strings.Join(l.got, "\n"); !strings.Contains(log, "WARN found no backup from before the interrupted migration") {
		t.Errorf("log lacks a warning:\n%s", log)
	}
	if got := saved(t, dir); len(got) != 0 {
		t.Errorf("backups of %v, want none", got)
	}
}

// TestBackupTogether: many programs start on one store.
func TestBackupTogether(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	ms := ladder("a", "b", "c", "d")
	mustUp(t, st, ms[:1])
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = migrate.Up(context.Background(), st, saving(dir, ms...)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if versions := saved(t, dir); !slices.Contains(versions, 1) {
		t.Errorf("backups of %v, want one of v1 at least", versions)
	}
}

// TestOlderProgramRestores: v3 broke half-way, and the program before it, which knows
// nothing of v3, puts things right.
func TestOlderProgramRestores(t *testing.T) {
	for _, finished := range []bool{false, true} {
		t.Run(fmt.Sprintf("finished %t", finished), func(t *testing.T) {
			base := t.TempDir()
			dir, backups := filepath.Join(base, "store"), filepath.Join(base, "backups")
			with := func(do func(st *badgerstore.Store) error) {
				t.Helper()
				st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(do(st), st.Close()); err != nil {
					t.Fatal(err)
				}
			}
			var before string
			broken := !finished
			with(func(st *badgerstore.Store) error {
				mustUp(t, st, scenario)
				put(t, st, "app/half", []byte("old"))
				before = contents(t, st)
				_, err := migrate.Up(t.Context(), st, saving(backups, append(scenario[:2:2], halfway(3, &broken))...))
				if (err == nil) != finished {
					t.Errorf("the newer program: %v", err)
				}
				return nil
			})

			old := options(migrate.NewRegistry(scenario...))
			with(func(st *badgerstore.Store) error {
				if _, err := migrate.Up(t.Context(), st, old); !errors.Is(err, migrate.ErrRefused) {
					t.Errorf("the older program: %v, want a refusal", err)
				}
				return nil
			})
			info, ok, err := backup.Find(t.Context(), backups, "system", 2, nil)
			if err != nil || !ok {
				t.Fatalf("Find = %t, %v", ok, err)
			}
			aside, err := badgerstore.Replace(t.Context(), dir, badgerstore.Options{Configure: small},
				func(ctx context.Context, st *badgerstore.Store) error {
					_, err := backup.Restore(ctx, info.Path, st, backup.RestoreOptions{Schema: "system"})
					return err
				},
				func(ctx context.Context, st *badgerstore.Store) error {
					return backup.Compare(ctx, info.Path, st, backup.RestoreOptions{})
				})
			if err != nil {
				t.Fatal(err)
			}
			with(func(st *badgerstore.Store) error {
				if diff := cmp.Diff(before, contents(t, st)); diff != "" {
					t.Errorf("restored store (-before +restored):\n%s", diff)
				}
				report, err := migrate.Up(t.Context(), st, old)
				if report.To != 2 {
					t.Errorf("the older program is at v%d, want v2", report.To)
				}
				return err
			})
			dir = aside
			with(func(st *badgerstore.Store) error {
				if got := contents(t, st); !strings.Contains(got, `"app/half" hex:6e6577`) {
					t.Errorf("the old files do not hold what was replaced:\n%s", got)
				}
				return nil
			})
		})
	}
}

// TestBackupOfNewer: any store with a version can be saved.
func TestBackupOfNewer(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	mustUp(t, st, scenario)
	put(t, st, "system:schema_version", binary.BigEndian.AppendUint32(nil, 999))
	r, err := migrate.New(st, options(migrate.NewRegistry(scenario...)))
	if err != nil {
		t.Fatal(err)
	}
	taken, err := r.Backup(t.Context(), backup.Options{Dir: dir})
	want := backup.Header{Schema: "system", Version: 999, Program: "test v1", Created: noon}
	if diff := cmp.Diff(want, taken.Header); diff != "" || err != nil {
		t.Errorf("Backup: %v; header (-want +got):\n%s", err, diff)
	}
}

// TestBackupKept: however often an upgrade is run again, whoever does, the backup of the
// version at which it began stays.
func TestBackupKept(t *testing.T) {
	boom := errors.New("boom")
	broken := migrate.Migration{Version: 4, Name: "d", Up: func(context.Context, *migrate.Tx) error { return nil },
		Check: func(context.Context, store.Reader) error { return boom }}
	for _, tt := range []struct {
		keep     int
		programs [3]string // of the attempts
		want     []uint32  // newest first
	}{
		{1, [3]string{"new", "new", "new"}, []uint32{3, 2}},
		{3, [3]string{"new", "new", "new"}, []uint32{3, 3, 2}},
		{1, [3]string{"new", "mended", "mended"}, []uint32{3, 2}},
		{1, [3]string{"old", "old", "old"}, []uint32{3, 1}},
	} {
		t.Run(fmt.Sprint(tt.keep, tt.programs), func(t *testing.T) {
			st, dir := openStore(t), t.TempDir()
			ms := append(ladder("a", "b", "c"), broken)
			now := noon
			run := func(program string, ms []migrate.Migration) (migrate.Report, error) {
				now = now.Add(time.Hour)
				put(t, st, "app/data", []byte(now.String()))
				o := saving(dir, ms...)
				o.Backup.Keep, o.Program, o.Now = tt.keep, program, func() time.Time { return now }
				return migrate.Up(t.Context(), st, o)
			}
			o := options(migrate.NewRegistry(ms[:1]...))
			o.Program = "older"
			if _, err := migrate.Up(t.Context(), st, o); err != nil {
				t.Fatal(err)
			}
			if _, err := run("old", ms[:2]); err != nil {
				t.Fatal(err)
			}
			for n, program := range tt.programs {
				report, err := run(program, ms)
				if !errors.Is(err, boom) || report.To != 3 {
					t.Fatalf("attempt %d = v%d, %v; want v3 and %v", n, report.To, err, boom)
				}
			}
			if diff := cmp.Diff(tt.want, saved(t, dir)); diff != "" {
				t.Errorf("backups (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBackupOfInterruptedDamaged: a backup that is there and damaged is not called none.
func TestBackupOfInterruptedDamaged(t *testing.T) {
	broken := true
	st, dir := openStore(t), t.TempDir()
	mustUp(t, st, scenario[:1])
	ms := []migrate.Migration{scenario[0], halfway(2, &broken)}
	report, err := migrate.Up(t.Context(), st, saving(dir, ms...))
	if err == nil || report.Backup == nil {
		t.Fatalf("Up = backup %v, %v; want one, and a failure", report.Backup, err)
	}
	flip(t, report.Backup.Path)
	broken = false
	l := new(lines)
	o := saving(dir, ms...)
	o.Logger = slog.New(l)
	if report, err := migrate.Up(t.Context(), st, o); err != nil || report.Backup != nil {
		t.Errorf("Up = backup %v, %v; want none", report.Backup, err)
	}
	log := strings.Join(l.got, "\n")
	for _, want := range []string{"found no good backup", report.Backup.Path, "it is damaged", "going on without a good one"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}

// flip changes a byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBackupOfUnreadable: a version that cannot be read is not called v0.
func TestBackupOfUnreadable(t *testing.T) {
	st := openStore(t)
	mustUp(t, st, scenario)
	put(t, st, "system:schema_version", []byte("bad"))
	r, err := migrate.New(st, options(migrate.NewRegistry(scenario...)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Backup(t.Context(), backup.Options{Dir: t.TempDir(), Keep: 1})
	text := fmt.Sprint(err)
	if !isType[*migrate.BackupError](err) || strings.Contains(text, "v0") || strings.Count(text, "nothing was changed") != 1 {
		t.Errorf("Backup = %v, want a BackupError of no version that says once that nothing was changed", err)
	}
}

// TestBackupWithoutHistory: where history cannot say which backup is the way back, all
// stay.
func TestBackupWithoutHistory(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	mustUp(t, st, scenario)
	r, err := migrate.New(st, options(migrate.NewRegistry(scenario...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Backup(t.Context(), backup.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	put(t, st, "system:schema_version", binary.BigEndian.AppendUint32(nil, 999))
	taken, err := r.Backup(t.Context(), backup.Options{Dir: dir, Keep: 1})
	if err != nil || len(taken.Removed) != 0 || !isType[*migrate.CorruptError](taken.Warning) {
		t.Errorf("Backup = %+v, %v; want none removed and a warning", taken, err)
	}
}
