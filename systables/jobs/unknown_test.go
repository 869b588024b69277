package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// openDisk returns a store on the disk with system tables of the newest version.
func openDisk(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: badgerstore.Small, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = migrate.Up(t.Context(), st, migrate.Options{Schema: migrations.Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// stepKey is what a step of a job leaves behind.
func stepKey(id systables.JobID, step int) []byte { return fmt.Appendf(nil, "test:%s:%d", id, step) }

// countStep counts that a step was done, beside how often.
func countStep(tx store.Txn, key []byte) error {
	switch _, err := tx.Get(key); {
	case err == nil:
		return tx.Set(store.Entry{Key: key, Value: []byte("again")})
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return tx.Set(store.Entry{Key: key, Value: []byte("once")})
}

// valueOf returns what is stored under key, "" if nothing is.
func valueOf(t *testing.T, st store.Store, key []byte) (v string) {
	t.Helper()
	err := st.View(t.Context(), func(s store.Reader) error {
		e, err := s.Get(key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		v = string(e.Value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestUnknown: whichever commit the store does not confirm, and whatever became of it,
// each job is there once, is run once, and ends as if nothing had been.
func TestUnknown(t *testing.T) {
	for _, fate := range storetest.Fates {
		t.Run(fate.String(), func(t *testing.T) {
			for at := 1; ; at++ {
				st := openDisk(t)
				unsure := storetest.Unconfirm(st, fate, func(commit int) bool { return commit == at })
				unconfirmed(t, st, unsure, fmt.Sprint("commit ", at))
				if unsure.Commits() < at {
					return
				}
			}
		})
	}
}

func unconfirmed(t *testing.T, st store.Store, unsure *storetest.Unconfirmed, name string) {
	t.Helper()
	const steps = 2
	m := jobs.New(unsure, quiet(jobs.Options{NodeID: "node-1", Concurrency: 1}))
	// An attempt more, or an interruption, would make the job fail.
	jobs.Register(m, "work", jobs.Policy{Attempts: 1, FailInterrupted: true}, func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
		for step := range steps {
			key := stepKey(run.Job.ID, step)
			err := run.Update(ctx, func(tx store.Txn) error { return countStep(tx, key) })
			if errors.Is(err, store.ErrUnknown) && valueOf(t, st, key) == "" {
				err = run.Update(ctx, func(tx store.Txn) error { return countStep(tx, key) })
			}
			if err != nil && !errors.Is(err, store.ErrUnknown) {
				return nil, err
			}
		}
		return steps, nil
	})
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	keyless := submit(t, m, jobs.Request{Type: "work"})
	req := jobs.Request{Type: "work", IdempotencyKey: "key"}
	keyed := submit(t, m, req)
	if again := submit(t, m, req); again != keyed {
		t.Errorf("%s: a key was submitted twice and has two jobs", name)
	}
	late := submit(t, m, jobs.Request{Type: "work", NotBefore: time.Now().Add(time.Hour)})
	if err := m.Cancel(t.Context(), late); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	for _, id := range []systables.JobID{keyless, keyed} {
		wait(t, m, id)
	}
	if err := m.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	unsure.Settle()

	got := map[systables.JobID]outcome{}
	err := st.View(t.Context(), func(s store.Reader) error {
		for job, err := range systables.Jobs.All(s, "") {
			if err != nil {
				return err
			}
			got[job.ID] = outcomeOf(job)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	done := outcome{Status: jobs.Completed, Attempts: 1, Result: fmt.Sprint(steps)}
	want := map[systables.JobID]outcome{keyless: done, keyed: done, late: {Status: jobs.Cancelled}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: jobs (-want +got):\n%s", name, diff)
	}
	for _, id := range []systables.JobID{keyless, keyed} {
		for step := range steps {
			if v := valueOf(t, st, stepKey(id, step)); v != "once" {
				t.Errorf("%s: step %d was done %q, want once", name, step, v)
			}
		}
	}
}

// TestUnknownUpdate: when Update says that a commit is unknown it is decided, also if the
// run writes on.
func TestUnknownUpdate(t *testing.T) {
	for _, fate := range storetest.Fates {
		t.Run(fate.String(), func(t *testing.T) {
			st := openDisk(t)
			var next atomic.Bool // whether the next commit is not confirmed
			unsure := storetest.Unconfirm(st, fate, func(int) bool { return next.Swap(false) })
			m := jobs.New(unsure, quiet(jobs.Options{}))
			found := ""
			jobs.Register(m, "work", jobs.Policy{Attempts: 1}, func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
				set := func(key string) error {
					return run.Update(ctx, func(tx store.Txn) error {
						return tx.Set(store.Entry{Key: []byte(key), Value: []byte("x")})
					})
				}
				next.Store(true)
				if err := set("test:first"); !errors.Is(err, store.ErrUnknown) || errors.Is(err, jobs.ErrLost) {
					t.Errorf("Update: %v, want %v alone", err, store.ErrUnknown)
				}
				found = valueOf(t, st, []byte("test:first"))
				return nil, errors.Join(set("test:second"), set("test:third"))
			})
			start(t, m)
			wantOutcome(t, wait(t, m, submit(t, m, jobs.Request{Type: "work"})), outcome{Status: jobs.Completed, Attempts: 1})
			unsure.Settle()
			if v := valueOf(t, st, []byte("test:first")); v != found {
				t.Errorf("what was written is %q and was %q when Update returned", v, found)
			}
		})
	}
}

// TestNothingConfirmed: if the store confirms nothing for a while, no more is claimed
// than is known, and no job is lost.
func TestNothingConfirmed(t *testing.T) {
	for _, fate := range storetest.Fates {
		t.Run(fate.String(), func(t *testing.T) {
			t.Parallel() // each pauses for a second
			st := openDisk(t)
			var left atomic.Int64 // commits that are not confirmed, beginning with the next
			unsure := storetest.Unconfirm(st, fate, func(int) bool { return left.Add(-1) >= 0 })
			m := jobs.New(unsure, quiet(jobs.Options{NodeID: "node-1"}))
			jobs.Register(m, "work", jobs.Policy{Attempts: 2, Backoff: time.Millisecond, FailInterrupted: true}, func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
				if run.Job.Attempts > 1 {
					return "again", nil
				}
				left.Store(1 << 40)
				err := run.Update(ctx, func(tx store.Txn) error { return countStep(tx, stepKey(run.Job.ID, 0)) })
				if !errors.Is(err, jobs.ErrLost) || !errors.Is(err, store.ErrUnknown) {
					t.Errorf("Update while nothing is confirmed: %v, want %v and %v", err, jobs.ErrLost, store.ErrUnknown)
				}
				if cause := context.Cause(ctx); !errors.Is(cause, jobs.ErrLost) {
					t.Errorf("the context's cause is %v, want %v", cause, jobs.ErrLost)
				}
				left.Store(0)
				return nil, err
			})

			left.Store(5)
			req := jobs.Request{Type: "work", IdempotencyKey: "key"}
			job, err := m.Submit(t.Context(), req)
			if fate == storetest.Done { // it found it
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.Is(err, store.ErrUnknown) || job.ID == "" || !strings.Contains(err.Error(), string(job.ID)) {
				t.Fatalf("Submit while nothing is confirmed: job %q, %v; want its ID and %v", job.ID, err, store.ErrUnknown)
			}
			left.Store(0)
			again := submit(t, m, req)
			if fate == storetest.Done && again != job.ID {
				t.Errorf("the job is stored as %s, want %s", again, job.ID)
			}
			left.Store(6) // one more than are tried at once
			start(t, m)
			wantOutcome(t, wait(t, m, again), outcome{Status: jobs.Completed, Attempts: 2, Result: `"again"`})
			unsure.Settle()
			n := 0
			err = st.View(t.Context(), func(s store.Reader) error {
				for job, err := range systables.Jobs.All(s, "") {
					if err != nil {
						return err
					}
					n++
					wantOutcome(t, job, outcome{Status: jobs.Completed, Attempts: 2, Result: `"again"`})
				}
				return nil
			})
			if err != nil || n != 1 {
				t.Errorf("%d jobs, %v; want one", n, err)
			}
		})
	}
}
