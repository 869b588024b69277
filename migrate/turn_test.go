package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/storetest"
	"github.com/kvmigrate/kvmigrate/store/value"
)

const ttl = 10 * time.Second // the default

// A shared is what one process has of a store that several share.
type shared struct {
	store.Store
	gate *gate
}

func (shared) Shared() bool             { return true }
func (s shared) Unwrap() store.Store    { return s.Store }
func (s shared) process(g *gate) shared { return shared{s.Store, g} }

func (s shared) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := s.gate.pass(ctx); err != nil {
		return err
	}
	return s.Store.View(ctx, fn)
}

func (s shared) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := s.gate.pass(ctx); err != nil {
		return err
	}
	return s.Store.Update(ctx, fn)
}

// A gate stops a process: its transactions wait, as after SIGSTOP, or fail, as when
// the network is cut. Those that have begun go on. nil is always open.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed to go on; nil if the gate is open
	err  error
}

func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) goOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = nil
}

var errCut = errors.New("the network is cut")

func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = errCut
}

func (g *gate) pass(context.Context) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	open, err := g.open, g.err
	g.mu.Unlock()
	if open != nil {
		<-open
	}
	return err
}

// inBubble runs test with an empty shared store and a clock that goes on when everybody
// waits.
func inBubble(t *testing.T, test func(t *testing.T, st shared)) {
	synctest.Test(t, func(t *testing.T) {
		st, closeStore := inMemory(t)
		defer closeStore()
		test(t, shared{Store: st})
	})
}

// A result is what an Up came to.
type result struct {
	report migrate.Report
	err    error
	log    []string
}

// start calls Up in another goroutine.
func start(t *testing.T, st store.Store, o migrate.Options) <-chan result {
	done := make(chan result, 1)
	l := new(lines)
	o.Logger = slog.New(l)
	ctx := context.WithoutCancel(t.Context())
	go func() {
		report, err := migrate.Up(ctx, st, o)
		done <- result{report, err, l.got}
	}()
	return done
}

// slow are migrations of which the second takes a second a step.
func slow(before func(step int) error) migrate.Options {
	return options(migrate.NewRegistry(stepped(func(step int) error {
		time.Sleep(time.Second)
		if before == nil {
			return nil
		}
		return before(step)
	})...))
}

// occupy starts a run that has the turn, in its second step, until end is closed.
func occupy(t *testing.T, st store.Store) (run <-chan result, end chan<- struct{}) {
	begun, ended := make(chan struct{}), make(chan struct{})
	run = start(t, st, slow(func(step int) error {
		if step == 2 {
			close(begun)
			<-ended
		}
		return nil
	}))
	<-begun
	return run, ended
}

// wantMigrated fails the test unless the store is what one undisturbed run leaves, and
// nobody's turn.
func wantMigrated(t *testing.T, st store.Store) {
	t.Helper()
	undisturbed := openStore(t)
	mustUp(t, undisturbed, stepped(nil))
	if diff := cmp.Diff(contents(t, undisturbed), contents(t, st)); diff != "" {
		t.Errorf("store (-undisturbed +got):\n%s", diff)
	}
}

// TestTurnRecords freezes the bytes that docs/on-disk-format.md promises.
func TestTurnRecords(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		var got []store.Entry
		mustRun(t, st, slow(func(step int) error {
			if step == 4 {
				got = slices.Concat(entriesOf(t, st, "system:schema_lock"), entriesOf(t, st, "system:schema_turn"))
			}
			return nil
		}))
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		want := []map[string]any{
			{"program": "test v1"},
			{"program": "test v1", "host": host, "pid": uint64(os.Getpid()), "since": uint64(1736942400000), "ttl": uint64(10000), "beat": uint64(1)},
		}
		if len(got) != len(want) {
			t.Fatalf("%d records, want a lock and a turn", len(got))
		}
		for i, e := range got {
			var record map[string]any
			if err := value.Unmarshal(e.Value, &record); err != nil {
				t.Fatal(err)
			}
			if data, err := value.Marshal(record); err != nil || !bytes.Equal(data, e.Value) {
				t.Errorf("%s is encoded as %x, want %x (%v)", e.Key, e.Value, data, err)
			}
			if token, ok := record["token"].([]byte); !ok || len(token) != 16 {
				t.Errorf("the token of %s is %v, want 16 bytes", e.Key, record["token"])
			}
			delete(record, "token")
			if diff := cmp.Diff(want[i], record); diff != "" {
				t.Errorf("%s (-want +got):\n%s", e.Key, diff)
			}
		}
		wantMigrated(t, st)
	})
}

// TestSettledTakesNoTurn: a start with nothing to do costs in a shared store what it
// costs in any other, and writes nothing.
func TestSettledTakesNoTurn(t *testing.T) {
	operations := func(st store.Store) (int, int) {
		t.Helper()
		counted := storetest.Fail(st, 0, storetest.Error)
		committed := storetest.Unconfirm(counted, storetest.Done, func(int) bool { return false })
		mustUp(t, committed, scenario)
		return counted.Operations(), committed.Commits()
	}
	st := openStore(t)
	mustUp(t, st, scenario)
	want, _ := operations(st)
	if got, commits := operations(shared{Store: st}); got != want || commits != 0 {
		t.Errorf("%d operations and %d commits in a shared store, want %d and none", got, commits, want)
	}
}

// TestOneWorks: of several processes that start at once one works at a time, and the
// others wait and say so.
func TestOneWorks(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		var working atomic.Int64
		o := slow(func(int) error {
			if working.Add(1) != 1 {
				t.Error("two processes work at once")
			}
			defer working.Add(-1)
			time.Sleep(time.Second)
			return nil
		})
		var all []<-chan result
		for range 6 {
			all = append(all, start(t, st.process(new(gate)), o))
		}
		applied, waited := 0, 0
		for _, one := range all {
			r := <-one
			if r.err != nil || r.report.To != 2 {
				t.Errorf("Up = %+v, %v; want v2", r.report, r.err)
			}
			applied += len(r.report.Applied)
			log := strings.Join(r.log, "\n")
			if strings.Count(log, "INFO waiting for test v1") >= 4 { // at once, and every five seconds
				waited++
			}
		}
		if applied != 2 || waited != 5 {
			t.Errorf("%d migrations were applied and %d processes waited, want 2 and 5", applied, waited)
		}
		wantMigrated(t, st)
	})
}

// TestPausedIsFenced pauses a process in the middle of a step until another has taken
// over, and lets it go on before that has committed anything. It must not commit.
func TestPausedIsFenced(t *testing.T) {
	for _, test := range []struct {
		name string
		at   int // the step of the process that takes over when the other goes on
	}{
		{"before the other's first commit", 4},
		{"after it", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, st shared) {
				g, asleep, woken := new(gate), make(chan struct{}), make(chan struct{})
				var once sync.Once
				paused := start(t, st.process(g), slow(func(step int) error {
					if step == 4 {
						once.Do(func() {
							g.stop()
							close(asleep)
							<-woken
						})
					}
					return nil
				}))
				<-asleep
				began := time.Now()
				mustRun(t, st, slow(func(step int) error {
					if step == test.at {
						if waited := time.Since(began); step == 4 && waited < ttl {
							t.Errorf("took over after %v, the others' time is %v", waited, ttl)
						}
						before := contents(t, st)
						g.goOn()
						close(woken)
						synctest.Wait() // until the paused one has done what it can
						if diff := cmp.Diff(before, contents(t, st)); diff != "" {
							t.Errorf("the paused process wrote (-before +after):\n%s", diff)
						}
					}
					return nil
				}))
				r := <-paused
				if r.err != nil || r.report.From != 0 || r.report.To != 2 || len(r.report.Applied) != 1 {
					t.Errorf("paused process: %+v, %v; want v1 applied and v2 found", r.report, r.err)
				}
				if log := strings.Join(r.log, "\n"); !strings.Contains(log, "WARN stopped migrating system schema, in which nothing is lost: the turn to migrate is lost to test v1") {
					t.Errorf("log of the paused process:\n%s", log)
				}
				wantMigrated(t, st)
			})
		})
	}
}

// TestCutOff: a run that cannot reach the store stops within its time, and another one
// goes on after that time, from where it was.
func TestCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		g, cut := new(gate), make(chan struct{})
		o := options(migrate.NewRegistry(
			migrate.Migration{Version: 1, Name: "rows", Up: stepped(nil)[0].Up},
			migrate.Migration{Version: 2, Name: "rewrite", Up: func(ctx context.Context, tx *migrate.Tx) error {
				if strings.HasPrefix(string(tx.Cursor()), "\x00\x00\x00\x28") {
					g.cut()
					close(cut)
					<-ctx.Done()
					return context.Cause(ctx)
				}
				return rewrite(nil)(ctx, tx)
			}},
		))
		off := start(t, st.process(g), o)
		<-cut
		began := time.Now()
		other := start(t, st, slow(nil))
		switch r := <-off; {
		case !errors.Is(r.err, errCut):
			t.Errorf("error of the process that was cut off = %v, want that", r.err)
		case r.report.From != 0 || r.report.To != 1 || len(r.report.Applied) != 1:
			t.Errorf("report of the process that was cut off = %+v, want v0 to v1", r.report)
		}
		if stopped := time.Since(began); stopped > 2*ttl {
			t.Errorf("the process that was cut off went on for %v, its time is %v", stopped, ttl)
		}
		r := <-other
		if r.err != nil || len(r.report.Applied) != 1 {
			t.Errorf("other process: %+v, %v; want v2 applied", r.report, r.err)
		}
		if log := strings.Join(r.log, "\n"); !strings.Contains(log, "WARN taking over from test v1") || !strings.Contains(log, "resuming an interrupted migration: 4 transactions") {
			t.Errorf("log of the other process:\n%s", log)
		}
		wantMigrated(t, st)
	})
}

// A silent is a store behind a network that is silent for a while: the commit on its way
// gets no answer, and what is asked then gets it later.
type silent struct {
	shared
	network *gap
}

// A gap begins when gone is closed, and ends when back is.
type gap struct{ gone, back chan struct{} }

// lasts reports whether it is the time of the gap.
func (g *gap) lasts() bool {
	select {
	case <-g.back:
		return false
	default:
	}
	select {
	case <-g.gone:
		return true
	default:
		return false
	}
}

// pass waits for the end of the gap.
func (g *gap) pass(ctx context.Context) error {
	if !g.lasts() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.back:
		return nil
	}
}

func (s silent) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := s.network.pass(ctx); err != nil {
		return err
	}
	return s.shared.View(ctx, fn)
}

func (s silent) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := s.network.pass(ctx); err != nil {
		return err
	}
	err := s.shared.Update(ctx, fn)
	if err == nil && s.network.lasts() {
		return store.ErrUnknown
	}
	return err
}

// TestSilence: a run whose store says nothing any more stops within its time, also while
// it asks what became of a commit, and goes on once there is an answer.
func TestSilence(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		network := &gap{make(chan struct{}), make(chan struct{})}
		var once sync.Once
		r := <-start(t, silent{st, network}, slow(func(step int) error {
			if step == 4 {
				once.Do(func() {
					close(network.gone)
					time.AfterFunc(2*ttl, func() { close(network.back) })
				})
			}
			return nil
		}))
		if r.err != nil || r.report.To != 2 {
			t.Errorf("Up = %+v, %v; want v2", r.report, r.err)
		}
		if log := strings.Join(r.log, "\n"); !strings.Contains(log, "no sign of life could be given for 10s") {
			t.Errorf("the run did not stop; log:\n%s", log)
		}
		wantMigrated(t, st)
	})
}

// TestPausedAlone: a process that was paused for longer than its time and found nobody
// in its place goes on.
func TestPausedAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		g := new(gate)
		r := <-start(t, st.process(g), slow(func(step int) error {
			if step == 4 {
				g.stop()
				time.Sleep(3 * ttl)
				g.goOn()
			}
			return nil
		}))
		if r.err != nil || len(r.report.Applied) != 2 {
			t.Errorf("Up = %+v, %v; want two migrations", r.report, r.err)
		}
		wantMigrated(t, st)
	})
}

// TestWait: a run gives up on one that is alive after Options.Wait, and takes over from
// one that is not, however short it is to wait.
func TestWait(t *testing.T) {
	for _, wait := range []time.Duration{-1, 2 * time.Second, 25 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, st shared) {
				first, end := occupy(t, st)
				began := time.Now()
				o := slow(nil)
				o.Wait = wait
				_, err := migrate.Up(t.Context(), st, o)
				busy, ok := errors.AsType[*migrate.BusyError](err)
				if !ok || !errors.Is(err, migrate.ErrBusy) {
					t.Fatalf("error = %v, want a BusyError", err)
				}
				host, _ := os.Hostname()
				want := migrate.BusyError{Schema: "system", Version: 1, Holder: migrate.Holder{Program: "test v1", Host: host, PID: os.Getpid(), Since: noon}}
				got := *busy
				if got.Progress == nil || got.Progress.Transactions != 2 {
					t.Errorf("progress = %v, want that of two transactions", got.Progress)
				}
				got.Progress = nil
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("BusyError (-want +got):\n%s", diff)
				}
				if waited := time.Since(began); waited < wait || waited > max(wait, 0)+ttl/2 {
					t.Errorf("waited %v, want %v or what a sign of life takes", waited, wait)
				}
				close(end)
				if r := <-first; r.err != nil {
					t.Error(r.err)
				}
				wantMigrated(t, st)
			})
			inBubble(t, func(t *testing.T, st shared) {
				leaveTurn(t, st)
				o := slow(nil)
				o.Wait = wait
				if report := mustRun(t, st, o); report.To != 2 {
					t.Errorf("report = %+v, want v2", report)
				}
				wantMigrated(t, st)
			})
		})
	}
}

// leaveTurn leaves the turn of a process that died after it took it.
func leaveTurn(t *testing.T, st shared) {
	t.Helper()
	g := new(gate)
	o := slow(nil)
	o.Program = "dead v1"
	o.Registry = migrate.NewRegistry(migrate.Migration{Version: 1, Name: "rows", Up: func(context.Context, *migrate.Tx) error {
		g.cut()
		return errCut
	}})
	if r := <-start(t, st.process(g), o); !errors.Is(r.err, errCut) {
		t.Fatal(r.err)
	}
}

// TestFreshStore: a turn in a store without a version is no data of another program,
// neither for the same schema nor for another.
func TestFreshStore(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		leaveTurn(t, st)
		o := options(migrate.NewRegistry(scenario...))
		o.Schema = "other"
		if report := mustRun(t, st, o); report.To != 2 {
			t.Errorf("report = %+v, want v2", report)
		}
		remove(t, st, "app/1") // which are no keys of a schema
		remove(t, st, "app/2")
		mustUp(t, st, scenario)
	})
}

// TestCancelledGivesTurnBack: who is told to stop lets the next one begin at once.
func TestCancelledGivesTurnBack(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := migrate.Up(ctx, st, slow(func(step int) error {
			if step == 3 {
				cancel()
			}
			return nil
		}))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
		if text := contents(t, st); strings.Contains(text, "schema_turn") || !strings.Contains(text, "schema_progress") || !strings.Contains(text, "schema_lock") {
			t.Errorf("want progress with a lock and no turn in\n%s", text)
		}
		began := time.Now()
		mustRun(t, st, options(migrate.NewRegistry(stepped(nil)...)))
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the next run waited %v", waited)
		}
		wantMigrated(t, st)
	})
}

// TestWaitCancelled: who waits and is told to stop says so.
func TestWaitCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		leaveTurn(t, st)
		ctx, cancel := context.WithTimeout(t.Context(), ttl/2)
		defer cancel()
		_, err := migrate.Up(ctx, st, slow(nil))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for the turn to migrate") {
			t.Errorf("error = %v, want that it waited until its deadline", err)
		}
	})
}

// TestPausedWaiting: a process that was paused while it waited, and for longer than the
// store may be out of reach, waits on.
func TestPausedWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		first, end := occupy(t, st)
		g := new(gate)
		waiting := start(t, st.process(g), slow(nil))
		time.Sleep(ttl)
		g.stop()
		time.Sleep(4 * ttl)
		g.goOn()
		time.Sleep(ttl)
		close(end)
		for _, one := range []<-chan result{first, waiting} {
			if r := <-one; r.err != nil || r.report.To != 2 {
				t.Errorf("Up = %+v, %v; want v2", r.report, r.err)
			}
		}
	})
}

// TestWaiting: the observer hears for whom a run waits, and Status says whose turn it
// is.
func TestWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		first, end := occupy(t, st)
		if status := statusOf(t, st, stepped(nil)); status.Holder == nil || status.Holder.PID != os.Getpid() {
			t.Errorf("Status.Holder = %v, want this process", status.Holder)
		}
		var events []string
		o := slow(nil)
		o.Observer = func(e migrate.Event) {
			if e.Kind != migrate.Waiting {
				t.Errorf("event %v", e)
				return
			}
			events = append(events, fmt.Sprintf("v%d steps %d, %s", e.Version, e.Steps, e.Holder.Program))
			if len(events) == 3 {
				close(end)
			}
		}
		mustRun(t, st, o)
		if r := <-first; r.err != nil {
			t.Error(r.err)
		}
		want := []string{"v2 steps 2, test v1", "v2 steps 2, test v1", "v2 steps 2, test v1"}
		if len(events) < 3 || cmp.Diff(want, events[:3]) != "" {
			t.Errorf("events = %q, want them to begin with %q", events, want)
		}
		if status := statusOf(t, st, stepped(nil)); status.Holder != nil {
			t.Errorf("Status.Holder = %v at the end, want none", status.Holder)
		}
	})
}

// TestBackupHasNoTurn: what is saved in a turn is what would be saved without one.
func TestBackupHasNoTurn(t *testing.T) {
	st := openStore(t)
	put(t, st, "app/3", []byte("three"))
	o := saving(filepath.Join(t.TempDir(), "backups"), scenario...)
	o.AllowUnversioned = true
	before := contents(t, st)
	report := mustRun(t, shared{Store: st}, o)
	if report.Backup == nil {
		t.Fatal("there is no backup")
	}
	old := openStore(t)
	if _, err := backup.Restore(t.Context(), report.Backup.Path, old, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, contents(t, old)); diff != "" {
		t.Errorf("restored store (-before +restored):\n%s", diff)
	}
}

// TestAdoptInTurn: of several processes that adopt a store one does.
func TestAdoptInTurn(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		put(t, st, "app/1", []byte("one"))
		o := options(migrate.NewRegistry(scenario...))
		o.Adopt = func(context.Context, store.Reader) (uint32, error) { return 1, nil }
		adopted := 0
		for _, one := range []<-chan result{start(t, st, o), start(t, st, o), start(t, st, o)} {
			r := <-one
			if r.err != nil || r.report.To != 2 {
				t.Errorf("Up = %+v, %v; want v2", r.report, r.err)
			}
			if r.report.Adopted {
				adopted++
			}
		}
		if adopted != 1 {
			t.Errorf("the store was adopted %d times", adopted)
		}
	})
}

// TestTurnUnknown: whatever becomes of a commit that the store did not confirm, also of
// one that takes, renews or returns the turn, nothing is applied twice.
func TestTurnUnknown(t *testing.T) {
	ladder, before := migratetest.StoreLadder()
	run := func(fate storetest.Fate, batches, at int) (text string, commits int) {
		t.Helper()
		inBubble(t, func(t *testing.T, st shared) {
			load(t, st, before...)
			unsure := storetest.Unconfirm(narrow{st.Store, 24}, fate, func(commit int) bool { return commit == at })
			o := options(migrate.NewRegistry(ladder...))
			o.AllowUnversioned, o.Batches = true, batches
			report, err := migrate.Up(t.Context(), shared{Store: unsure}, o)
			unsure.Settle()
			if err != nil || len(report.Applied) != len(ladder) {
				t.Errorf("%v, %d batches, commit %d: Up = %+v, %v; want %d migrations", fate, batches, at, report, err, len(ladder))
			}
			text, commits = contents(t, st), unsure.Commits()
		})
		return text, commits
	}
	want, commits := run(storetest.Lost, 1, 0)
	for _, batches := range []int{1, 3} {
		for _, fate := range storetest.Fates {
			for at := 1; at <= commits; at++ {
				if got, _ := run(fate, batches, at); got != want {
					t.Errorf("%v, %d batches, commit %d: store (-undisturbed +got):\n%s", fate, batches, at, cmp.Diff(want, got))
				}
			}
		}
	}
}

// TestTurnsSurvive: with turns, migrations survive the faults that they survive without.
func TestTurnsSurvive(t *testing.T) {
	st, closeStore := inMemory(t)
	defer closeStore()
	migratetest.RunStore(t, migratetest.StoreSuite{Batches: 3, Most: soak(4, 100), Open: func(context.Context) (store.Store, error) {
		return shared{Store: kept{st}}, st.DB().DropAll()
	}})
}
