package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// TestUnknownForEver: a run gives up on a store that confirms nothing, and its error
// does not say what it cannot know. The next run goes on.
func TestUnknownForEver(t *testing.T) {
	for _, fate := range storetest.Fates {
		t.Run(fate.String(), func(t *testing.T) {
			st := openStore(t)
			ladder := stepped(nil)
			mustUp(t, st, ladder[:1])
			unsure := storetest.Unconfirm(st, fate, func(int) bool { return true })
			_, err := up(t, unsure, ladder)
			if !errors.Is(err, store.ErrUnknown) || strings.Contains(err.Error(), "unchanged") || !strings.Contains(err.Error(), "may be committed or not; run again") {
				t.Errorf("error = %v, want one that says that the outcome is unknown and what to do", err)
			}
			unsure.Settle()
			mustUp(t, st, ladder)
			undisturbed := openStore(t)
			mustUp(t, undisturbed, ladder)
			if diff := cmp.Diff(rowsOf(t, undisturbed), rowsOf(t, st)); diff != "" {
				t.Errorf("rows after a second run (-undisturbed +got):\n%s", diff)
			}
		})
	}
}

func rowsOf(t *testing.T, st store.Store) []store.Entry {
	t.Helper()
	return entriesOf(t, st, "app/")
}

// TestUnknownAdoption: a store whose adoption was not confirmed is taken as it is
// found the next time.
func TestUnknownAdoption(t *testing.T) {
	for _, fate := range storetest.Fates {
		t.Run(fate.String(), func(t *testing.T) {
			st := openStore(t)
			load(t, st, many("app/", 3)...)
			o := options(migrate.NewRegistry(stepped(nil)[0]))
			o.Adopt = func(context.Context, store.Reader) (uint32, error) { return 1, nil }
			unsure := storetest.Unconfirm(st, fate, func(commit int) bool { return commit == 1 })
			if _, err := migrate.Up(t.Context(), unsure, o); !errors.Is(err, store.ErrUnknown) {
				t.Errorf("error = %v, want ErrUnknown", err)
			}
			report := mustRun(t, unsure, o)
			unsure.Settle()
			if report.To != 1 || len(report.Applied) != 0 {
				t.Errorf("second run = %+v, want an adopted store at v1", report)
			}
			if got := statusOf(t, st, stepped(nil)[:1]); got.Version != 1 {
				t.Errorf("status = %+v, want v1", got)
			}
		})
	}
}
