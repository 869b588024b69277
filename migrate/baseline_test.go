package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// long is a ladder of five versions, and squashed the same from v3 on.
var long = []migrate.Migration{
	{Version: 1, Name: "one", Up: set("app/1", "one")},
	{Version: 2, Name: "two", Up: set("app/2", "two")},
	{Version: 3, Name: "three", Up: set("app/1", "three")},
	{Version: 4, Name: "four", Up: set("app/4", "four")},
	{Version: 5, Name: "five", Up: set("app/5", "five")},
}

func squashed(t *testing.T) []migrate.Migration {
	t.Helper()
	return append([]migrate.Migration{{
		Version: 3, Name: "baseline", Up: baselineUp,
		Baseline: &migrate.Baseline{Fingerprint: fingerprintAt(t, 3), Release: "notes 2.3"},
	}}, long[3:]...)
}

func baselineUp(ctx context.Context, tx *migrate.Tx) error {
	return errors.Join(set("app/1", "three")(ctx, tx), set("app/2", "two")(ctx, tx))
}

// fingerprintAt returns what the history of a store that went through long has.
func fingerprintAt(t *testing.T, version uint32) string {
	t.Helper()
	st := openStore(t)
	mustUp(t, st, long[:version])
	return historyOf(t, st, long)[version-1].Fingerprint.String()
}

func historyOf(t *testing.T, st store.Store, ms []migrate.Migration) []migrate.Applied {
	t.Helper()
	r, err := migrate.New(st, options(migrate.NewRegistry(ms...)))
	if err != nil {
		t.Fatal(err)
	}
	history, err := r.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return history
}

func TestBaselineOfAFreshStore(t *testing.T) {
	replayed, st := openStore(t), openStore(t)
	mustUp(t, replayed, long)
	report, err := up(t, st, squashed(t))
	if err != nil {
		t.Fatal(err)
	}
	if report.From != 0 || report.To != 5 || len(report.Applied) != 3 {
		t.Errorf("Report = %+v; want v0 to v5 in three migrations", report)
	}
	wantEntries(t, entriesOf(t, replayed, "app/"), entriesOf(t, st, "app/"))
	var got []string
	for _, a := range historyOf(t, st, squashed(t)) {
		got = append(got, string(a.Origin)+" "+a.Name)
	}
	if diff := cmp.Diff([]string{"baseline baseline", " four", " five"}, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	// A release from before the squash knows the store by its fingerprint.
	if _, err := up(t, st, long); err != nil {
		t.Errorf("Up of the release before the squash: %v", err)
	}
	if _, err := up(t, st, append(long, migrate.Migration{Version: 6, Name: "six", Up: nop})); err != nil {
		t.Errorf("Up of another release before the squash: %v", err)
	}
}

func TestBaselineOfAnOldStore(t *testing.T) {
	for version := uint32(1); version <= 5; version++ {
		st := openStore(t)
		mustUp(t, st, long[:version])
		before := contents(t, st)
		_, err := up(t, st, squashed(t))
		if version >= 3 {
			if err != nil {
				t.Errorf("Up of a store at v%d: %v", version, err)
			}
			continue
		}
		want := &migrate.TooOldError{Schema: "system", Stored: version, Earliest: 3, Release: "notes 2.3"}
		got, _ := errors.AsType[*migrate.TooOldError](err)
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, migrate.ErrRefused) {
			t.Errorf("Up of a store at v%d = %v (-want +got):\n%s", version, err, diff)
		}
		if !strings.Contains(err.Error(), "notes 2.3") {
			t.Errorf("error %q; want it to name the release to go through", err)
		}
		if diff := cmp.Diff(before, contents(t, st)); diff != "" {
			t.Errorf("store at v%d after a refusal (-want +got):\n%s", version, diff)
		}
	}
}

func TestBaselineRefusesDataWithoutAVersion(t *testing.T) {
	st := openStore(t)
	put(t, st, "stray", nil)
	o := options(migrate.NewRegistry(squashed(t)...))
	o.AllowUnversioned = true
	if _, err := migrate.Up(t.Context(), st, o); !isType[*migrate.TooOldError](err) {
		t.Errorf("Up = %v; want a TooOldError: a baseline is for empty stores", err)
	}
}

func TestBaselineOfAnotherHistory(t *testing.T) {
	st := openStore(t)
	other := append([]migrate.Migration{{Version: 1, Name: "other", Up: nop}}, long[1:4]...)
	mustUp(t, st, other)
	if _, err := up(t, st, squashed(t)); !errors.Is(err, migrate.ErrRefused) {
		t.Errorf("Up = %v; want a refusal", err)
	}
	mustUp(t, openStore(t), squashed(t)) // whose own history is right
}

// A baseline may take several transactions. One that was interrupted goes on, and a
// program with the whole ladder does not take it for its own.
func TestBaselineInterrupted(t *testing.T) {
	ms := squashed(t)
	fail := true
	ms[0].Up = migrate.UpFunc(func(ctx context.Context, tx *migrate.Tx) error {
		if tx.Cursor() == nil {
			tx.Continue([]byte("on"))
			return baselineUp(ctx, tx)
		}
		if fail {
			return errBoom
		}
		return nil
	})
	st := openStore(t)
	if _, err := up(t, st, ms); !errors.Is(err, errBoom) {
		t.Fatalf("Up = %v; want the migration's error", err)
	}
	if _, err := up(t, st, long); !isType[*migrate.UnderWayError](err) {
		t.Errorf("Up of the whole ladder = %v; want an UnderWayError", err)
	}
	same := append([]migrate.Migration{}, long...)
	same[2].Name = "baseline"
	if _, err := up(t, st, same); !isType[*migrate.UnderWayError](err) {
		t.Errorf("Up of a ladder with a migration of that name = %v; want an UnderWayError", err)
	}
	fail = false
	mustUp(t, st, ms)
	if got := historyOf(t, st, ms); got[0].Origin != migrate.Created || got[0].Transactions != 2 {
		t.Errorf("history begins with %+v; want the baseline, of two transactions", got[0])
	}
}

func TestBaselineTargets(t *testing.T) {
	r, err := migrate.New(openStore(t), options(migrate.NewRegistry(squashed(t)...)))
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[uint32]uint32{0: 0, 3: 1, 4: 2, 5: 3} {
		plan, err := r.Plan(t.Context(), target)
		if err != nil || uint32(len(plan.Pending)) != want {
			t.Errorf("Plan to v%d = %d pending, %v; want %d", target, len(plan.Pending), err, want)
		}
	}
	for _, target := range []uint32{1, 2, 6} {
		if _, err := r.UpTo(t.Context(), target); !isType[*migrate.UnknownTargetError](err) {
			t.Errorf("UpTo(%d) = %v; want an UnknownTargetError", target, err)
		}
	}
}

// A history may begin beyond v1 only where a record says why.
func TestHistoryThatBeginsLate(t *testing.T) {
	st := openStore(t)
	mustUp(t, st, long)
	remove(t, st, "system:schema_history:0000000001")
	remove(t, st, "system:schema_history:0000000002")
	r, err := migrate.New(st, options(migrate.NewRegistry(long...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.History(t.Context()); !isType[*migrate.CorruptError](err) {
		t.Errorf("History = %v; want a CorruptError", err)
	}
}
