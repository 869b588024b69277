package migrate_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// rewritten is a ladder of a rewrite of many batches and a small migration after it.
func rewritten() migrate.Options {
	o := options(migrate.NewRegistry(
		migrate.Migration{Version: 1, Name: "rewrite", Up: migrate.Rewrite([]byte("app/"), suffix(strings.Repeat("!", 500)))},
		migrate.Migration{Version: 2, Name: "small", Up: set("app/2", "two")},
	))
	o.AllowUnversioned, o.Reclaim = true, true
	return o
}

func TestReclaim(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 4*batchOfRows)...)
	o := rewritten()
	report := mustRun(t, st, o)
	history := historyOf(t, st, o.Registry.Migrations())
	if diff := cmp.Diff(history, report.Applied); diff != "" {
		t.Errorf("report and history differ (-history +report):\n%s", diff)
	}
	if first, last := history[0], history[1]; first.SizeAfter != 0 || last.SizeBefore == 0 || last.SizeAfter == 0 {
		t.Errorf("history %+v; want the sizes with the last migration of the run", history)
	}
	before := contents(t, st)
	mustRun(t, st, o)
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("a second run changed the store (-want +got):\n%s", diff)
	}
}

// reclaiming is a store that says whether it was told to give room back.
type reclaiming struct {
	store.Store
	told int
	err  error
}

func (r *reclaiming) Reclaim(context.Context) error {
	r.told++
	return r.err
}

// However few entries a run overwrote, they may have been large. Only a new store has
// nothing to give back.
func TestReclaimWhen(t *testing.T) {
	for name, test := range map[string]struct {
		rows    int
		reclaim bool
		want    int
	}{
		"many rows":   {4 * batchOfRows, true, 1},
		"one row":     {1, true, 1},
		"a new store": {0, true, 0},
		"not told to": {4 * batchOfRows, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			st := &reclaiming{Store: openStore(t)}
			load(t, st, many("app/", test.rows)...)
			o := rewritten()
			o.Reclaim = test.reclaim
			mustRun(t, st, o)
			mustRun(t, st, o)
			if st.told != test.want {
				t.Errorf("told to give room back %d times; want %d", st.told, test.want)
			}
		})
	}
}

// TestReclaimAtAVersion: a store that is upgraded from a version has data, whatever
// is pending.
func TestReclaimAtAVersion(t *testing.T) {
	st := &reclaiming{Store: openStore(t)}
	o := rewritten()
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpTo(t.Context(), 1); err != nil || st.told != 0 {
		t.Fatalf("UpTo(1) = %v, told to give room back %d times; want a new store and 0", err, st.told)
	}
	mustRun(t, st, o)
	if st.told != 1 {
		t.Errorf("told to give room back %d times; want once", st.told)
	}
}

func TestReclaimFails(t *testing.T) {
	st := &reclaiming{Store: openStore(t), err: errors.New("the disk is on fire")}
	load(t, st, many("app/", 4*batchOfRows)...)
	log := &lines{}
	o := rewritten()
	o.Logger = slog.New(log)
	if report := mustRun(t, st, o); report.To != 2 {
		t.Errorf("Up left v%d; want v2", report.To)
	}
	if !strings.Contains(strings.Join(log.got, "\n"), "WARN room of what was overwritten was not given back, or not all: the disk is on fire") {
		t.Errorf("log %q; want it to say that no room was given back", log.got)
	}
}
