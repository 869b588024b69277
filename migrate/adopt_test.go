package migrate_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// byRows tells the version of a store from what it holds.
func byRows(_ context.Context, r store.Reader) (uint32, error) {
	for version, key := range []string{"app/4", "app/2"} {
		_, err := r.Get([]byte(key))
		switch {
		case err == nil:
			return uint32(4 - 2*version), nil
		case !errors.Is(err, store.ErrNotFound):
			return 0, err
		}
	}
	return 0, migrate.ErrUnversioned
}

func adopting(ms []migrate.Migration) migrate.Options {
	o := options(migrate.NewRegistry(ms...))
	o.Adopt = byRows
	return o
}

func TestAdopt(t *testing.T) {
	st := openStore(t)
	put(t, st, "app/1", []byte("one"))
	put(t, st, "app/2", []byte("two"))
	log := &lines{}
	o := adopting(long)
	o.Logger = slog.New(log)

	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	status, err := r.Status(t.Context())
	if err != nil || status.Stored || status.Version != 2 || len(status.Pending) != 3 {
		t.Errorf("Status = %+v, %v; want v2, not stored, and three pending", status, err)
	}
	if got := contents(t, st); got != "\"app/1\" hex:6f6e65\n\"app/2\" hex:74776f\n" {
		t.Errorf("Status changed the store to\n%s", got)
	}

	report, err := r.Up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !report.Adopted || report.From != 2 || report.To != 5 || len(report.Applied) != 3 {
		t.Errorf("Report = %+v; want v3 to v5 applied to a store adopted at v2", report)
	}
	if want := "WARN system schema version not found in a store with data - adopted it at v2 (two)"; !slices.Contains(log.got, want) {
		t.Errorf("log %q; want %q", log.got, want)
	}
	var got []string
	for _, a := range historyOf(t, st, long) {
		got = append(got, string(a.Origin)+" "+a.Name)
	}
	if diff := cmp.Diff([]string{"adopted two", " three", " four", " five"}, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}

	o.Adopt = func(context.Context, store.Reader) (uint32, error) {
		t.Error("Adopt was asked about a store with a version")
		return 0, errBoom
	}
	if report := mustRun(t, st, o); report.Adopted {
		t.Error("a second Up adopted the store again")
	}
}

func TestAdoptOnly(t *testing.T) {
	st := openStore(t)
	put(t, st, "app/4", []byte("four"))
	o := adopting(long)
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpTo(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if history := historyOf(t, st, long); len(history) != 1 || history[0].Version != 4 {
		t.Errorf("history %v; want the adoption at v4 alone", history)
	}
	mustUp(t, st, long)
}

func TestAdoptRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		adopt func(context.Context, store.Reader) (uint32, error)
		ms    []migrate.Migration
		want  func(error) bool
	}{
		{"what it does not know", byRows, long, func(err error) bool { return errors.Is(err, migrate.ErrUnversioned) }},
		{"with an error of its own", func(context.Context, store.Reader) (uint32, error) { return 3, errBoom }, long,
			func(err error) bool { return errors.Is(err, errBoom) }},
		{"when it panics", func(context.Context, store.Reader) (uint32, error) { panic("boom") }, long, isType[*migrate.PanicError]},
		{"a version beyond the program's", func(context.Context, store.Reader) (uint32, error) { return 6, nil }, long,
			func(err error) bool {
				return strings.Contains(err.Error(), "found to be at v6, and this program goes only to v5")
			}},
		{"a version that may still change", func(context.Context, store.Reader) (uint32, error) { return 1, nil },
			[]migrate.Migration{{Version: 1, Name: "one", Up: nop, Unreleased: true}}, isType[*migrate.UnreleasedError]},
		{"a version before the baseline", func(context.Context, store.Reader) (uint32, error) { return 2, nil }, squashed(t), isType[*migrate.TooOldError]},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := openStore(t)
			put(t, st, "stray", []byte("secret"))
			before := contents(t, st)
			o := options(migrate.NewRegistry(test.ms...))
			o.Adopt = test.adopt
			_, err := migrate.Up(t.Context(), st, o)
			if !errors.Is(err, migrate.ErrRefused) || !test.want(err) {
				t.Errorf("Up = %v; want a refusal for that reason", err)
			}
			if diff := cmp.Diff(before, contents(t, st)); diff != "" {
				t.Errorf("store after a refusal (-want +got):\n%s", diff)
			}
		})
	}
}

// 0 means that the data want all migrations; a fresh store is not asked about.
func TestAdoptAtV0(t *testing.T) {
	st, fresh := openStore(t), openStore(t)
	put(t, st, "stray", nil)
	o := options(migrate.NewRegistry(long...))
	o.Adopt = func(context.Context, store.Reader) (uint32, error) { return 0, nil }
	if report := mustRun(t, st, o); report.Adopted || len(report.Applied) != 5 {
		t.Errorf("Report = %+v; want all five applied", report)
	}
	o.Adopt = func(context.Context, store.Reader) (uint32, error) {
		t.Error("Adopt was asked about an empty store")
		return 0, nil
	}
	mustRun(t, fresh, o)
}
