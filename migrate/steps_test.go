package migrate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

const (
	rows     = 95
	rowsStep = 10
	steps    = rows/rowsStep + 1
)

// rewrite prefixes the value of every row, ten rows a step. before runs at the
// start of each step with its number, from 0.
func rewrite(before func(step int) error) migrate.UpFunc {
	return func(_ context.Context, tx *migrate.Tx) error {
		from := 0
		if c := tx.Cursor(); c != nil {
			from = int(binary.BigEndian.Uint32(c))
		}
		if before != nil {
			if err := before(from / rowsStep); err != nil {
				return err
			}
		}
		to := min(from+rowsStep, rows)
		for i := from; i < to; i++ {
			err := tx.Update(row(i), func(value []byte) ([]byte, error) {
				return append([]byte("new "), value...), nil
			})
			if err != nil {
				return err
			}
		}
		if to < rows {
			tx.Continue(binary.BigEndian.AppendUint32(nil, uint32(to)))
		}
		return nil
	}
}

func row(i int) []byte { return fmt.Appendf(nil, "app/%03d", i) }

// stepped are a first version that writes the rows and a second that rewrites
// them in steps.
func stepped(before func(step int) error) []migrate.Migration {
	return []migrate.Migration{
		{Version: 1, Name: "rows", Up: func(_ context.Context, tx *migrate.Tx) error {
			for i := range rows {
				if err := tx.Set(store.Entry{Key: row(i), Value: fmt.Appendf(nil, "row %d", i), ExpiresAt: 1 << 40, Meta: byte(i)}); err != nil {
					return err
				}
			}
			return nil
		}},
		{Version: 2, Name: "rewrite", Up: rewrite(before)},
	}
}

func TestSteps(t *testing.T) {
	st := openStore(t)
	report, err := up(t, st, stepped(nil))
	if err != nil {
		t.Fatal(err)
	}
	if a := report.Applied[1]; a.Transactions != steps || a.KeysWritten != rows {
		t.Errorf("history has %d transactions and %d keys, want %d and %d", a.Transactions, a.KeysWritten, steps, rows)
	}
	text := contents(t, st)
	if n := strings.Count(text, `hex:6e657720`); n != rows { // "new "
		t.Errorf("%d rows are rewritten, want %d", n, rows)
	}
	if strings.Contains(text, "schema_progress") {
		t.Error("a finished migration left its progress")
	}
}

// TestStepsInterrupted fails before each step in turn and runs again: the store
// is then the one of a run that nothing disturbed, and no row is changed twice.
func TestStepsInterrupted(t *testing.T) {
	undisturbed := openStore(t)
	mustUp(t, undisturbed, stepped(nil))
	want := contents(t, undisturbed)
	boom := errors.New("boom")
	for at := range steps {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			st := openStore(t)
			_, err := up(t, st, stepped(func(step int) error {
				if step == at {
					return boom
				}
				return nil
			}))
			failed, ok := errors.AsType[*migrate.MigrationError](err)
			if !ok || !errors.Is(err, boom) {
				t.Fatalf("error = %v, want a MigrationError with its cause", err)
			}
			status := statusOf(t, st, stepped(nil))
			if status.Version != 1 {
				t.Errorf("interrupted store is at v%d, want v1", status.Version)
			}
			if at == 0 {
				if failed.Progress != nil || status.Progress != nil {
					t.Errorf("progress before the first step: %v, %v", failed.Progress, status.Progress)
				}
			} else if diff := cmp.Diff([]uint64{uint64(at), uint64(at * rowsStep)}, []uint64{status.Progress.Transactions, status.Progress.KeysWritten}); diff != "" {
				t.Errorf("progress in transactions and keys (-want +got):\n%s", diff)
			}
			again := 0
			mustUp(t, st, stepped(func(int) error { again++; return nil }))
			if again != steps-at {
				t.Errorf("the second run made %d steps, want %d", again, steps-at)
			}
			if diff := cmp.Diff(want, contents(t, st)); diff != "" {
				t.Errorf("resumed store (-undisturbed +resumed):\n%s", diff)
			}
		})
	}
}

func statusOf(t *testing.T, st store.Store, ms []migrate.Migration) migrate.Status {
	t.Helper()
	r, err := migrate.New(st, options(migrate.NewRegistry(ms...)))
	if err != nil {
		t.Fatal(err)
	}
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// TestUnderWay: a store in the middle of a migration is refused by programs that
// do not know that migration, untouched.
func TestUnderWay(t *testing.T) {
	st := openStore(t)
	_, err := up(t, st, stepped(func(step int) error {
		if step == 3 {
			return errors.New("boom")
		}
		return nil
	}))
	if err == nil {
		t.Fatal("the migration did not fail")
	}
	before := contents(t, st)
	known := stepped(nil)
	other := known[1]
	other.Name = "another"
	for name, tt := range map[string]struct {
		program []migrate.Migration
		want    error
	}{
		"older":     {known[:1], &migrate.UnderWayError{Schema: "system", Version: 2, Name: "rewrite", Known: 1}},
		"different": {[]migrate.Migration{known[0], other}, &migrate.RenamedError{Schema: "system", Version: 2, Stored: "rewrite", Known: "another"}},
	} {
		_, err := up(t, st, tt.program)
		if diff := cmp.Diff(tt.want, err); diff != "" {
			t.Errorf("%s program: error (-want +got):\n%s", name, diff)
		}
		if !errors.Is(err, migrate.ErrRefused) {
			t.Errorf("%s program: %v does not match ErrRefused", name, err)
		}
	}
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("refused programs changed the store (-before +after):\n%s", diff)
	}
}

// TestStepsOfTheFirstVersion: a store that has no version yet is resumed, too.
func TestStepsOfTheFirstVersion(t *testing.T) {
	first := func(fail bool) []migrate.Migration {
		return []migrate.Migration{{Version: 1, Name: "a", Up: func(_ context.Context, tx *migrate.Tx) error {
			switch {
			case tx.Cursor() == nil:
				tx.Continue([]byte("half"))
				return tx.Set(store.Entry{Key: []byte("app/1")})
			case fail:
				return errors.New("boom")
			}
			return tx.Set(store.Entry{Key: []byte("app/2")})
		}}}
	}
	st := openStore(t)
	if _, err := up(t, st, first(true)); err == nil {
		t.Fatal("the migration did not fail")
	}
	report, err := up(t, st, first(false))
	if err != nil || report.To != 1 || report.Applied[0].Transactions != 2 {
		t.Errorf("Up = %+v, %v; want v1 in 2 transactions", report, err)
	}
}

func TestContinueMustMove(t *testing.T) {
	for name, cursor := range map[string]func(*migrate.Tx) []byte{
		"nil":  func(*migrate.Tx) []byte { return nil },
		"same": func(tx *migrate.Tx) []byte { return append([]byte("x"), tx.Cursor()[min(len(tx.Cursor()), 1):]...) },
	} {
		_, err := up(t, openStore(t), []migrate.Migration{{Version: 1, Name: "a", Up: func(_ context.Context, tx *migrate.Tx) error {
			tx.Continue(cursor(tx))
			return nil
		}}})
		if _, ok := errors.AsType[*migrate.MigrationError](err); !ok || !strings.Contains(err.Error(), "for ever") {
			t.Errorf("%s cursor: error = %v, want one that says it would run for ever", name, err)
		}
	}
}

// TestStepsCancelled: a cancelled run stops between steps and says how far it
// came.
func TestStepsCancelled(t *testing.T) {
	st := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	ms := stepped(func(step int) error {
		if step == 2 {
			cancel()
		}
		return nil
	})
	_, err := migrate.Up(ctx, st, options(migrate.NewRegistry(ms...)))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "has 2 transactions of v2 (rewrite), 20 keys written") {
		t.Errorf("error = %v, want context.Canceled and what is done", err)
	}
	mustUp(t, st, stepped(nil))
}

// TestConcurrentSteps: several programs share the steps, and none is done twice.
func TestConcurrentSteps(t *testing.T) {
	st := openStore(t)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = migrate.Up(context.Background(), st, options(migrate.NewRegistry(stepped(nil)...)))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	alone := openStore(t)
	mustUp(t, alone, stepped(nil))
	if diff := cmp.Diff(contents(t, alone), contents(t, st)); diff != "" {
		t.Errorf("store after four runners (-one +four):\n%s", diff)
	}
}
