package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// TestShutdownTellsRuns asserts the cause of the context of a run that a shutdown ends.
func TestShutdownTellsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{}))
		var cause error
		jobs.Register(m, "wait", jobs.Policy{}, func(ctx context.Context, _ *jobs.Run, _ none) (any, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, cause
		})
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		submit(t, m, jobs.Request{Type: "wait"})
		synctest.Wait()
		if err := m.Shutdown(ended()); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(cause, jobs.ErrShutdown) {
			t.Errorf("the cause is %v, want ErrShutdown", cause)
		}
	})
}

// TestPanicIsLogged asserts that a panic is a *PanicError in the log, with its stack.
func TestPanicIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lastError{Handler: slog.DiscardHandler}
		o := quiet(jobs.Options{})
		o.Logger = slog.New(log)
		m := jobs.New(newMemory(t), o)
		jobs.Register(m, "panic", jobs.Policy{Attempts: 1}, func(context.Context, *jobs.Run, none) (any, error) { panic("at the disco") })
		start(t, m)
		wait(t, m, submit(t, m, jobs.Request{Type: "panic"}))
		synctest.Wait()
		if p, ok := errors.AsType[*jobs.PanicError](log.err); !ok || p.Value != "at the disco" || len(p.Stack) == 0 {
			t.Errorf("the log has %v, want a *PanicError with a stack", log.err)
		}
	})
}

// lastError keeps the last error of a log.
type lastError struct {
	slog.Handler
	err error
}

func (*lastError) Enabled(context.Context, slog.Level) bool { return true }
func (h *lastError) WithAttrs([]slog.Attr) slog.Handler     { return h }

func (h *lastError) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			h.err = err
		}
		return true
	})
	return nil
}
