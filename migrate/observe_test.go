package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// steady compares events without what depends on a clock or on how fast the
// entries are counted.
var steady = cmp.Options{
	cmpopts.IgnoreFields(migrate.Event{}, "Migration", "Total", "Rate", "Elapsed", "ETA", "Began", "Applied"),
	cmpopts.EquateErrors(),
}

// TestObserver: an observer sees a migration start, each committed step with what
// is done so far, the end, and a failure.
func TestObserver(t *testing.T) {
	st := narrow{openStore(t), 40} // batches of ten
	load(t, st, many("app/", 25)...)
	boom := errors.New("boom")
	fail := true
	var got []migrate.Event
	o := one(migrate.Phases(
		migrate.Rewrite([]byte("app/"), suffix("!!")),
		func(context.Context, *migrate.Tx) error {
			if fail {
				return boom
			}
			return nil
		},
	))
	o.Observer = func(e migrate.Event) { got = append(got, e) }
	_, err := migrate.Up(t.Context(), st, o)
	if !errors.Is(err, boom) {
		t.Fatalf("error = %v, want that of the second phase", err)
	}
	event := func(kind migrate.EventKind, phase int, steps, done, bytes uint64) migrate.Event {
		return migrate.Event{Kind: kind, Schema: "system", Phase: phase, Phases: 2, Steps: steps, Done: done, Bytes: bytes}
	}
	started := event(migrate.Started, 1, 0, 0, 0)
	started.Phases = 1 // not known yet
	failed := event(migrate.Failed, 1, 3, 25, 25*10+10*5+15*6)
	failed.Err = boom
	want := []migrate.Event{
		started,
		event(migrate.Batch, 1, 1, 10, 10*15),
		event(migrate.Batch, 1, 2, 20, 10*15+10*16),
		event(migrate.Batch, 1, 3, 25, 10*15+15*16),
		failed,
	}
	if diff := cmp.Diff(want, got, steady); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	got, fail = nil, false
	mustRun(t, st, o)
	want = []migrate.Event{event(migrate.Started, 2, 0, 0, 0), event(migrate.Batch, 2, 1, 0, 0), event(migrate.Finished, 2, 1, 0, 0)}
	if diff := cmp.Diff(want, got, steady); diff != "" {
		t.Errorf("events of the second run (-want +got):\n%s", diff)
	}
	for i, e := range got {
		if e.Version != 1 || e.Name != "only" {
			t.Errorf("event %d is of v%d (%s), want v1 (only)", i, e.Version, e.Name)
		}
	}
}

func TestEventString(t *testing.T) {
	event := func(kind migrate.EventKind, done, total uint64) migrate.Event {
		return migrate.Event{
			Kind: kind, Migration: migrate.Migration{Version: 2, Name: "plus"}, Phase: 1, Phases: 1,
			Steps: 3, Done: done, Total: total, Elapsed: 4 * time.Second,
		}
	}
	batch := event(migrate.Batch, 10, 40)
	batch.Phase, batch.Phases, batch.Rate, batch.ETA = 1, 2, 2.5, 12*time.Second
	failed := event(migrate.Failed, 10, 40)
	failed.Err = errors.New("boom")
	for _, tt := range []struct {
		event migrate.Event
		want  string
	}{
		{event(migrate.Started, 0, 0), "v1 -> v2 (plus) started"},
		{event(migrate.Started, 7, 0), "v1 -> v2 (plus) started: goes on after 7 entries"},
		{batch, "v1 -> v2 (plus), phase 1 of 2: 10 of 40 entries (25 %) in 4s, 2/s, about 12s left"},
		{event(migrate.Finished, 0, 0), "v1 -> v2 (plus) finished: 3 steps in 4s"},
		{event(migrate.Finished, 40, 0), "v1 -> v2 (plus) finished: 40 entries in 4s"},
		{failed, "v1 -> v2 (plus) failed: 10 of 40 entries (25 %) in 4s: boom"},
	} {
		if got := tt.event.String(); got != tt.want {
			t.Errorf("%v: String() = %q, want %q", tt.event.Kind, got, tt.want)
		}
	}
}

// TestObserverBegan: an event says when what it reports began, whether steps overlap
// or not, and the last one what history says of it.
func TestObserverBegan(t *testing.T) {
	for _, batches := range []int{1, 3} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			st := narrow{openStore(t), 40}
			load(t, st, many("app/", 95)...)
			before := time.Now()
			var migration, step time.Time
			var applied *migrate.Applied
			o := one(migrate.Rewrite([]byte("app/"), suffix("!")))
			o.Batches = batches
			o.Observer = func(e migrate.Event) {
				switch e.Kind {
				case migrate.Started:
					migration, step = e.Began, e.Began
				case migrate.Batch:
					if e.Began.Before(step) {
						t.Errorf("step %d began at %v, before the one before it", e.Steps, e.Began)
					}
					step = e.Began
				default:
					if e.Kind != migrate.Finished || !e.Began.Equal(migration) {
						t.Errorf("%v says that the migration began at %v, Started at %v", e.Kind, e.Began, migration)
					}
				}
				if e.Began.Before(before) || e.Began.After(time.Now()) {
					t.Errorf("%v began at %v, outside of the run", e.Kind, e.Began)
				}
				if (e.Applied != nil) != (e.Kind == migrate.Finished) {
					t.Errorf("%v has record %v", e.Kind, e.Applied)
				}
				applied = e.Applied
			}
			report := mustRun(t, st, o)
			if diff := cmp.Diff(&report.Applied[0], applied); diff != "" {
				t.Errorf("record of the last event (-report +event):\n%s", diff)
			}
		})
	}
}

// TestObserverOfUnsynced: a migration that fails before its first step is reported
// like any other.
func TestObserverOfUnsynced(t *testing.T) {
	boom := errors.New("boom")
	var got []migrate.EventKind
	o := one(set("app/1", "one"))
	o.Observer = func(e migrate.Event) { got = append(got, e.Kind) }
	_, err := migrate.Up(t.Context(), unsynced{openStore(t), boom}, o)
	if !errors.Is(err, boom) {
		t.Errorf("error = %v, want that of the sync", err)
	}
	if diff := cmp.Diff([]migrate.EventKind{migrate.Started, migrate.Failed}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// unsynced is a store that cannot sync.
type unsynced struct {
	store.Store
	err error
}

func (u unsynced) Sync(context.Context) error { return u.err }

// viewed tells when a View ends.
type viewed struct {
	store.Store
	ends chan struct{}
}

func (v viewed) View(ctx context.Context, fn func(store.Reader) error) error {
	defer func() { v.ends <- struct{}{} }()
	return v.Store.View(ctx, fn)
}

// TestTotal: the entries are counted while the migration goes on, also those that
// an interrupted run has done, and the end says how many there were.
func TestTotal(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 95)...)
	load(t, st, many("apq/", 5)...) // beyond the prefix
	boom := errors.New("boom")
	run := func(failAt string, batches int) (last migrate.Event, err error) {
		ends := make(chan struct{}, 10)
		var counted sync.Once
		o := one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			switch string(e.Key) {
			case failAt:
				return boom
			case "app/000085":
				counted.Do(func() {
					<-ends // of the check at start-up
					<-ends // of the count
				})
			}
			return tx.Set(e)
		}))
		o.Observer = func(e migrate.Event) { last = e }
		o.Batches = batches
		_, err = migrate.Up(t.Context(), viewed{narrow{st, 40}, ends}, o)
		return last, err
	}
	if _, err := run("app/000055", 3); !errors.Is(err, boom) {
		t.Fatalf("error = %v, want that of the row", err)
	}
	last, err := run("", 1)
	if err != nil {
		t.Fatal(err)
	}
	if last.Kind != migrate.Finished || last.Done != 95 || last.Total != 95 || last.Steps != 5 {
		t.Errorf("last event = %v %+v, want Finished with 95 of 95 after 5 steps", last.Kind, last)
	}
	if text := last.String(); !strings.Contains(text, "v0 -> v1 (only) finished: 95 of 95 entries (100 %)") {
		t.Errorf("event says %q", text)
	}
}

// waiting is a log handler that tells of each heartbeat.
type waiting struct {
	slog.Handler
	beats chan string
}

func (w waiting) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "still migrating ") {
		select {
		case w.beats <- r.Message:
		default: // nobody waits any more
		}
	}
	return nil
}

// TestHeartbeat: the log says how far a migration is while it works and while it
// does not get on.
func TestHeartbeat(t *testing.T) {
	for name, up := range map[string]func(beat func()) migrate.UpFunc{
		"one long step": func(beat func()) migrate.UpFunc {
			return func(context.Context, *migrate.Tx) error { beat(); return nil }
		},
		"a slow row": func(beat func()) migrate.UpFunc {
			return migrate.Each([]byte("app/"), func(_ context.Context, _ *migrate.Tx, e store.Entry) error {
				if string(e.Key) == "app/000015" {
					beat()
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := narrow{openStore(t), 40}
			load(t, st, many("app/", 20)...)
			beats := make(chan string)
			var text string
			o := one(up(func() { text = <-beats }))
			o.Heartbeat = time.Microsecond
			o.Logger = slog.New(waiting{slog.NewTextHandler(t.Output(), nil), beats})
			mustRun(t, st, o)
			if !strings.HasPrefix(text, "still migrating v0 -> v1 (only): ") {
				t.Errorf("heartbeat says %q", text)
			}
		})
	}
}

// TestCancelWithinABatch: a cancelled run visits no more rows, says how far it
// came, and the next goes on there.
func TestCancelWithinABatch(t *testing.T) {
	const n = 200
	for _, batches := range []int{1, 4} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			st := narrow{openStore(t), 40}
			load(t, st, many("app/", n)...)
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			after := 0 // rows visited once the context had ended
			o := one(migrate.Each([]byte("app/"), func(ctx context.Context, tx *migrate.Tx, e store.Entry) error {
				mu.Lock()
				defer mu.Unlock()
				if ctx.Err() != nil {
					after++
				}
				if string(e.Key) == "app/000105" {
					cancel()
				}
				return tx.Set(store.Entry{Key: e.Key, Value: append(e.Value, '!')})
			}))
			o.Batches = batches
			_, err := migrate.Up(ctx, st, o)
			failed, ok := errors.AsType[*migrate.MigrationError](err)
			if !ok || !errors.Is(err, context.Canceled) || failed.Progress == nil {
				t.Fatalf("error = %v, want a MigrationError with progress and context.Canceled", err)
			}
			// Each of the other batches may have passed its check just before.
			if after >= batches {
				t.Errorf("%d rows visited after the end of the context", after)
			}
			p := failed.Progress
			if p.Visited > 100 || p.Visited%10 != 0 || p.Visited != p.KeysWritten || !strings.Contains(err.Error(), fmt.Sprintf("%d entries visited", p.Visited)) {
				t.Errorf("progress = %+v in %v, want at most the ten batches before", p, err)
			}
			report := mustRun(t, st, o)
			if a := report.Applied[0]; a.KeysWritten != n {
				t.Errorf("%d keys written in both runs, want %d", a.KeysWritten, n)
			}
			for _, e := range entriesOf(t, st, "app/") {
				if strings.Count(string(e.Value), "!") != 1 {
					t.Errorf("%q = %q, want it changed once", e.Key, e.Value)
				}
			}
		})
	}
}

// TestNothingPendingIsNotObserved: there is nothing to tell.
func TestNothingPendingIsNotObserved(t *testing.T) {
	st := openStore(t)
	o := one(set("app/1", "one"))
	mustRun(t, st, o)
	o.Observer = func(e migrate.Event) { t.Errorf("event %v with nothing to do", e.Kind) }
	mustRun(t, st, o)
}

// TestObserverPanics: the program's mistake is logged and the migration goes on.
func TestObserverPanics(t *testing.T) {
	st := narrow{openStore(t), 40}
	load(t, st, many("app/", 45)...)
	l := new(lines)
	o := one(migrate.Rewrite([]byte("app/"), suffix("!")))
	o.Logger = slog.New(l)
	o.Observer = func(migrate.Event) { panic("boom") }
	mustRun(t, st, o)
	if !strings.Contains(fmt.Sprint(l.got), "ERROR the observer of migrations failed: panic: boom") {
		t.Errorf("log = %q", l.got)
	}
}

// TestExitLeavesNothing: an Up that ends the goroutine, as t.FailNow does, leaves
// nothing that runs.
func TestExitLeavesNothing(t *testing.T) {
	exit := func() error { runtime.Goexit(); return nil }
	for name, up := range map[string]migrate.UpFunc{
		"plain":         func(context.Context, *migrate.Tx) error { return exit() },
		"row":           migrate.Each([]byte("app/"), func(context.Context, *migrate.Tx, store.Entry) error { return exit() }),
		"second of two": migrate.Phases(migrate.Rewrite([]byte("app/"), suffix("!")), func(context.Context, *migrate.Tx) error { return exit() }),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, st shared) {
				load(t, st, many("app/", 100)...)
				ctx := context.WithoutCancel(t.Context())
				returned, done := false, make(chan struct{})
				go func() {
					defer close(done)
					_, _ = migrate.Up(ctx, st.Store, one(up))
					returned = true
				}()
				<-done // and whatever still runs now fails the bubble
				if returned {
					t.Error("the migration did not end the goroutine")
				}
			})
		})
	}
}

// TestObserverOfSeveralRuns: an observer needs no lock, also if the runs of a Runner
// overlap. The race detector sees whether it does.
func TestObserverOfSeveralRuns(t *testing.T) {
	const runs = 100
	boom := errors.New("boom")
	o := one(func(context.Context, *migrate.Tx) error { return boom })
	events := 0
	o.Observer = func(migrate.Event) { events++ }
	r, err := migrate.New(openStore(t), o)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range runs {
				if _, err := r.Up(t.Context()); !errors.Is(err, boom) {
					t.Errorf("Up = %v, want %v", err, boom)
				}
			}
		})
	}
	wg.Wait()
	if want := 2 * runs * 2; events != want { // it starts and fails
		t.Errorf("%d events, want %d", events, want)
	}
}
