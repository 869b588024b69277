package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// unknownLadder is crashLadder and a migration whose batches do not touch the rows
// that they read, and undo a part of what the ones before them did: a batch that is
// committed again shows.
func unknownLadder() []migrate.Migration {
	mark := func(row int) []byte { return fmt.Appendf(nil, "mark/%d", row) }
	return append(crashLadder(), migrate.Migration{
		Version: 6, Name: "marks", Up: migrate.Each([]byte("moved/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			row, err := strconv.Atoi(strings.TrimPrefix(string(e.Key), "moved/app/"))
			if err != nil {
				return err
			}
			return errors.Join(tx.Delete(mark(row-6)), tx.Set(store.Entry{Key: mark(row)}))
		}),
	})
}

func unknownOptions(batches int) migrate.Options {
	o := crashOptions(batches)
	o.Registry = migrate.NewRegistry(unknownLadder()...)
	return o
}

// TestUnknownCommits leaves the outcome of every single commit of a run unknown in
// turn, whatever became of it. The run finds out and goes on, and its store and its
// report are those of an undisturbed run: nothing is applied twice, also not by a
// commit that takes effect later.
func TestUnknownCommits(t *testing.T) {
	for _, batches := range []int{1, 3} {
		undisturbed, closeStore := inMemory(t)
		load(t, undisturbed, many("app/", crashRows)...)
		counted := storetest.Unconfirm(narrow{undisturbed, 24}, storetest.Done, func(int) bool { return false })
		report := mustRun(t, counted, unknownOptions(batches))
		want := contents(t, undisturbed)
		closeStore()
		if counted.Commits() < 25 {
			t.Fatalf("%d commits: too few to be all of them", counted.Commits())
		}
		for _, fate := range storetest.Fates {
			t.Run(fmt.Sprintf("%d batches/%v", batches, fate), func(t *testing.T) {
				for at := 1; at <= counted.Commits(); at++ {
					st, closeStore := inMemory(t)
					load(t, st, many("app/", crashRows)...)
					unsure := storetest.Unconfirm(narrow{st, 24}, fate, func(commit int) bool { return commit == at })
					got := mustRun(t, unsure, unknownOptions(batches))
					unsure.Settle()
					if diff := cmp.Diff(report, got); diff != "" {
						t.Errorf("report with commit %d unknown (-undisturbed +got):\n%s", at, diff)
					}
					if got := contents(t, st); got != want {
						t.Errorf("store with commit %d unknown (-undisturbed +got):\n%s", at, cmp.Diff(want, got))
					}
					closeStore()
				}
			})
		}
	}
}

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
