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

var errBoom = errors.New("boom")

// allEnd returns a Check that every value under prefix ends with suffix.
func allEnd(prefix, suffix string) func(context.Context, store.Reader) error {
	return func(_ context.Context, r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: []byte(prefix)}) {
			if err != nil {
				return err
			}
			if !strings.HasSuffix(string(e.Value), suffix) {
				return errors.New("a row was left out")
			}
		}
		return nil
	}
}

func TestCheckOfOneTransaction(t *testing.T) {
	for _, test := range []struct {
		name  string
		check func(context.Context, store.Reader) error
		want  []error
	}{
		{"sees what Up wrote", allEnd("app/", "one"), nil},
		{"fails", allEnd("app/", "two"), []error{migrate.ErrCheck}},
		{"fails with an error of its own", func(context.Context, store.Reader) error { return errBoom }, []error{migrate.ErrCheck, errBoom}},
		{"panics", func(context.Context, store.Reader) error { panic(errBoom) }, []error{migrate.ErrCheck, errBoom}},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := openStore(t)
			before := contents(t, st)
			_, err := up(t, st, []migrate.Migration{{Version: 1, Name: "checked", Up: set("app/1", "one"), Check: test.check}})
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("Up = %v; want an error that matches %v", err, want)
				}
			}
			if len(test.want) == 0 && err != nil {
				t.Error(err)
			}
			if err != nil {
				if diff := cmp.Diff(before, contents(t, st)); diff != "" {
					t.Errorf("store after a failed check (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// The check of a migration of many batches sees all of them, also those whose
// transactions overlapped with the last one's, and once they are done.
func TestCheckOfManyTransactions(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 3*batchOfRows)...)
	visited := 0
	changed := migrate.Migration{Version: 1, Name: "only", Up: migrate.Serial(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		visited++
		e.Value = append(e.Value, "!"...)
		return tx.Set(e)
	}))}
	run := func(check func(context.Context, store.Reader) error) (migrate.Report, error) {
		m := changed
		m.Check = check
		o := options(migrate.NewRegistry(m))
		o.AllowUnversioned = true
		return migrate.Up(t.Context(), st, o)
	}

	_, err := run(allEnd("app/", "?"))
	failed, ok := errors.AsType[*migrate.MigrationError](err)
	if !ok || !errors.Is(err, migrate.ErrCheck) || failed.Progress == nil {
		t.Fatalf("Up with a check that fails = %v; want a MigrationError with the progress that matches ErrCheck", err)
	}
	if want := uint64(3); failed.Progress.Transactions != want {
		t.Errorf("progress after a failed check: %v; want the %d batches that are done", failed.Progress, want)
	}
	if !strings.Contains(err.Error(), "its check is due") {
		t.Errorf("error %q; want it to say that only the check is left", err)
	}

	report, err := run(allEnd("app/", "!"))
	if err != nil {
		t.Fatal(err)
	}
	if visited != 3*batchOfRows {
		t.Errorf("%d rows visited in both runs; want each of %d once", visited, 3*batchOfRows)
	}
	if got := report.Applied[0]; got.Transactions != 4 || got.KeysWritten != 3*batchOfRows {
		t.Errorf("applied %+v; want three batches and the check", got)
	}
	if left := entriesOf(t, st, "system:schema_progress"); len(left) > 0 {
		t.Error("the progress record is left over")
	}
}

func TestCheckOfOverlappingBatches(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 5*batchOfRows)...)
	o := one(migrate.Rewrite([]byte("app/"), suffix("!")))
	m := o.Registry.Migrations()[0]
	m.Check = allEnd("app/", "!")
	o.Registry, o.Batches = migrate.NewRegistry(m), 4
	mustRun(t, st, o)
}

// What a check is given is a reader and nothing that writes.
func TestCheckCannotWrite(t *testing.T) {
	writes := false
	mustUp(t, openStore(t), []migrate.Migration{{Version: 1, Name: "checked", Up: set("app/1", "one"), Check: func(_ context.Context, r store.Reader) error {
		_, writes = r.(store.Txn)
		return nil
	}}})
	if writes {
		t.Error("Check was given a store.Txn")
	}
}
