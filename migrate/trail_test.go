package migrate_test

import (
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
