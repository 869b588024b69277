package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// volatile is a store that says that its commits are lost without a Sync.
type volatile struct{ store.Store }

func (v volatile) Limits() store.Limits {
	l := v.Store.Limits()
	l.Volatile = true
	return l
}

const trailPrefix = "system:schema_trail:"

// TestLostSteps takes steps out of the middle of an interrupted migration, as a
// power loss does: their rows are as before and their marks are gone. The next
// run makes them again, and the store is that of an undisturbed run.
func TestLostSteps(t *testing.T) {
	const n, rowsOfBatch = 100, 5
	rows := many("app/", n)
	boom := errors.New("boom")
	migration := func(fail bool) migrate.Options {
		return one(migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
			if fail && string(v) == "row 62" { // of step 13
				return nil, boom
			}
			return append(v, '!'), nil
		}))
	}
	undisturbed := volatile{narrow{openStore(t), 4 * rowsOfBatch}}
	load(t, undisturbed, rows...)
	mustRun(t, undisturbed, migration(false))
	want := contents(t, undisturbed)

	for name, lost := range map[string][]int{
		"none": nil, "one": {5}, "the second": {2}, "two at once": {6, 7}, "here and there": {3, 8, 9, 11},
		"one, and synced from now on": {5}, "none, and synced from now on": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synced := narrow{openStore(t), 4 * rowsOfBatch}
			st := volatile{synced}
			load(t, st, rows...)
			if _, err := migrate.Up(t.Context(), st, migration(true)); !errors.Is(err, boom) {
				t.Fatalf("error = %v, want that of the row", err)
			}
			if got := len(entriesOf(t, st, trailPrefix)); got != 12 {
				t.Fatalf("%d marks after 12 steps", got)
			}
			for _, step := range lost {
				remove(t, st, fmt.Sprintf("%s%010d", trailPrefix, step))
				load(t, st, rows[(step-1)*rowsOfBatch:step*rowsOfBatch]...)
			}
			var again store.Store = st
			if strings.Contains(name, "synced") {
				again = synced
			}
			mustRun(t, again, migration(false))
			if diff := cmp.Diff(want, contents(t, st)); diff != "" {
				t.Errorf("store (-undisturbed +got):\n%s", diff)
			}
		})
	}
}

// fragile is a volatile store that can lose the first transaction since the last Sync.
type fragile struct {
	store.Store
	unsynced [][]store.Entry // what each transaction wrote over, a nil Value where nothing was
}

func (f *fragile) Sync(ctx context.Context) error {
	f.unsynced = nil
	return f.Store.Sync(ctx)
}

func (f *fragile) Update(ctx context.Context, fn func(store.Txn) error) error {
	w := &overwriting{}
	err := f.Store.Update(ctx, func(txn store.Txn) error {
		w.Txn = txn
		return fn(w)
	})
	if err == nil && len(w.old) > 0 {
		f.unsynced = append(f.unsynced, w.old)
	}
	return err
}

// losePower takes back the first transaction since the last Sync, if there is one, but
// for what later ones wrote over.
func (f *fragile) losePower(t *testing.T) {
	t.Helper()
	if len(f.unsynced) == 0 {
		return
	}
	later := map[string]bool{}
	for _, old := range f.unsynced[1:] {
		for _, e := range old {
			later[string(e.Key)] = true
		}
	}
	for _, e := range f.unsynced[0] {
		switch {
		case later[string(e.Key)]:
		case e.Value == nil:
			remove(t, f.Store, string(e.Key))
		default:
			load(t, f.Store, e)
		}
	}
}

// overwriting keeps what its writes replace.
type overwriting struct {
	store.Txn
	old []store.Entry
}

func (w *overwriting) Set(e store.Entry) error {
	if err := w.keep(e.Key); err != nil {
		return err
	}
	return w.Txn.Set(e)
}

func (w *overwriting) Delete(key []byte) error {
	if err := w.keep(key); err != nil {
		return err
	}
	return w.Txn.Delete(key)
}

func (w *overwriting) keep(key []byte) error {
	e, err := w.Get(key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	e.Key = bytes.Clone(key)
	w.old = append(w.old, e)
	return nil
}

// TestLostMend: a power loss while lost steps are made again, which takes one of them,
// loses no more than that: it is made once more.
func TestLostMend(t *testing.T) {
	const n, rowsOfBatch = 100, 5
	rows := many("app/", n)
	boom := errors.New("boom")
	migration := func(failing string) migrate.Options {
		return one(migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
			if string(v) == failing {
				return nil, boom
			}
			return append(v, '!'), nil
		}))
	}
	st := volatile{narrow{openStore(t), 4 * rowsOfBatch}}
	load(t, st, rows...)
	if _, err := migrate.Up(t.Context(), st, migration("row 62")); !errors.Is(err, boom) { // of step 13
		t.Fatalf("error = %v, want that of the row", err)
	}
	for step := 6; step <= 8; step++ {
		remove(t, st, fmt.Sprintf("%s%010d", trailPrefix, step))
		load(t, st, rows[(step-1)*rowsOfBatch:step*rowsOfBatch]...)
	}
	// It reads what it writes over, and would make batches that overlap conflict.
	mending := &fragile{Store: st}
	if _, err := migrate.Up(t.Context(), mending, migration("row 37")); !errors.Is(err, boom) { // of step 8
		t.Fatalf("error = %v, want that of the row", err)
	}
	mending.losePower(t)
	mustRun(t, st, migration(""))
	for i, e := range entriesOf(t, st, "app/") {
		if want := fmt.Sprintf("row %d!", i); string(e.Value) != want {
			t.Errorf("row %d = %q, want %q", i, e.Value, want)
		}
	}
}

// TestTrailStaysShort: marks of steps that are durable go, and all of them with
// the migration.
func TestTrailStaysShort(t *testing.T) {
	st := volatile{narrow{openStore(t), 4}} // batches of one
	load(t, st, many("app/", 700)...)
	longest := 0
	o := one(migrate.Rewrite([]byte("app/"), suffix("!")))
	o.Observer = func(e migrate.Event) {
		if e.Steps%50 == 0 || e.Steps%256 < 3 {
			longest = max(longest, len(entriesOf(t, st, trailPrefix)))
		}
	}
	mustRun(t, st, o)
	if longest < 200 || longest > 258 {
		t.Errorf("the trail had %d marks, want it to grow to 256 and some", longest)
	}
	if left := entriesOf(t, st, "system:schema_trail"); len(left) > 0 {
		t.Errorf("%d marks are left", len(left))
	}
}
