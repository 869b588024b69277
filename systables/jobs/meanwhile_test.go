package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// A hooked store has around make each of its updates.
type hooked struct {
	*memory
	around func(ctx context.Context, update func() error) error
}

func (h *hooked) Update(ctx context.Context, fn func(store.Txn) error) error {
	return h.around(ctx, func() error { return h.memory.Update(ctx, fn) })
}

// status returns the status of the only job, "" if there is none.
func (h *hooked) status(t *testing.T) (status string) {
	t.Helper()
	err := h.View(context.WithoutCancel(t.Context()), func(s store.Reader) error {
		for job, err := range systables.Jobs.All(s, "") {
			if err != nil {
				return err
			}
			status = job.Status
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return status
}

// TestCancelClaimed: a run is told at once, also if its job is cancelled before the manager
// knows that it has it.
func TestCancelClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &hooked{memory: newMemory(t)}
		m := jobs.New(st, quiet(jobs.Options{Lease: time.Hour}))
		var id systables.JobID
		st.around = func(_ context.Context, update func() error) error {
			err := update()
			if id != "" && st.status(t) == jobs.Running {
				if err := m.Cancel(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
			return err
		}
		begun := time.Now()
		told := make(chan time.Duration, 1)
		jobs.Register(m, "block", jobs.Policy{}, func(ctx context.Context, _ *jobs.Run, _ none) (any, error) {
			<-ctx.Done()
			told <- time.Since(begun)
			return nil, context.Cause(ctx)
		})
		id = submit(t, m, jobs.Request{Type: "block"})
		start(t, m)
		wantOutcome(t, wait(t, m, id), outcome{Status: jobs.Cancelled, Attempts: 1})
		if after := <-told; after != 0 {
			t.Errorf("the run was told after %v, want at once", after)
		}
	})
}

// TestShutdownWhileClaiming: a job that the manager has claimed, or not, when it is shut down
// is put back, and that it was claimed does not count.
func TestShutdownWhileClaiming(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		t.Run(fmt.Sprint("claimed=", claimed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &hooked{memory: newMemory(t)}
				m := jobs.New(st, quiet(jobs.Options{}))
				jobs.Register(m, "block", jobs.Policy{FailInterrupted: true}, block)
				st.around = func(_ context.Context, update func() error) error { return update() }
				id := submit(t, m, jobs.Request{Type: "block"})
				begun, first := make(chan struct{}), true
				st.around = func(ctx context.Context, update func() error) error {
					if !first {
						return update()
					}
					first = false
					if claimed {
						if err := update(); err != nil {
							return err
						}
					}
					close(begun)
					<-ctx.Done()
					return store.ErrUnknown
				}
				if err := m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				<-begun
				if err := m.Shutdown(ended()); err != nil {
					t.Error(err)
				}
				wantOutcome(t, get(t, st, id), outcome{Status: jobs.Pending})
			})
		})
	}
}

// TestShutdownAfterFailure: a run that failed before it was told to stop has failed.
func TestShutdownAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var next atomic.Bool // whether the next update is the renewal that takes long
		renewing, release := make(chan struct{}), make(chan struct{})
		st := &hooked{memory: newMemory(t), around: func(_ context.Context, update func() error) error {
			if next.Swap(false) {
				close(renewing)
				<-release
			}
			return update()
		}}
		m := jobs.New(st, quiet(jobs.Options{}))
		jobs.Register(m, "fail", jobs.Policy{}, func(context.Context, *jobs.Run, none) (any, error) {
			<-renewing
			return nil, fmt.Errorf("%w: boom", jobs.ErrPermanent)
		})
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := submit(t, m, jobs.Request{Type: "fail"})
		synctest.Wait()
		next.Store(true)
		<-renewing
		synctest.Wait()
		shut := make(chan error)
		go func() { shut <- m.Shutdown(ended()) }()
		synctest.Wait()
		close(release)
		if err := <-shut; err != nil {
			t.Error(err)
		}
		wantOutcome(t, get(t, st, id), outcome{Status: jobs.Failed, Attempts: 1, Error: "permanent failure: boom"})
	})
}

// TestShutdownTwice: who has no time does not wait for a Shutdown that has.
func TestShutdownTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{}))
		jobs.Register(m, "block", jobs.Policy{}, block)
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := submit(t, m, jobs.Request{Type: "block"})
		synctest.Wait()
		begun := time.Now()
		hour, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		patient := make(chan error)
		go func() { patient <- m.Shutdown(hour) }()
		synctest.Wait()
		if err := errors.Join(m.Shutdown(ended()), <-patient); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v, want no time", took)
		}
		if _, err := m.Wait(ended(), id); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait: %v, want %v", err, context.Canceled)
		}
	})
}

// TestStartTogether: what is wrong with a manager can be asked for by several goroutines.
func TestStartTogether(t *testing.T) {
	m := jobs.New(newMemory(t), quiet(jobs.Options{Concurrency: -1, Lease: 1}))
	const want = "start job manager: concurrency is negative; a lease of 1ns is too short: want 10ms at least"
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 100 {
				if err := m.Start(t.Context()); err == nil || err.Error() != want {
					t.Errorf("Start: %v, want %s", err, want)
				}
			}
		})
	}
	wg.Wait()
}
