package migrate_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// compare compares two stores.
func compare(t *testing.T, before, after store.Store, prefix string, samples int) (diffs []migrate.PartitionDiff, err error) {
	t.Helper()
	err = before.View(t.Context(), func(was store.Reader) error {
		return after.View(t.Context(), func(is store.Reader) (err error) {
			diffs, err = migrate.Compare(was, is, []byte(prefix), samples)
			return err
		})
	})
	return diffs, err
}

func TestCompare(t *testing.T) {
	before, after := openStore(t), openStore(t)
	load(t, before, store.Entry{Key: []byte("app/changed"), Value: []byte("x1")}, store.Entry{Key: []byte("app/gone"), Value: []byte("x2")}, store.Entry{Key: []byte("app/same"), Value: []byte("x3")}, store.Entry{Key: []byte("outside"), Value: []byte("x4")}, store.Entry{Key: []byte("z/meta"), Value: []byte("x5")})
	load(t, after, store.Entry{Key: []byte("app/changed"), Value: []byte("one")}, store.Entry{Key: []byte("app/new"), Value: []byte("x6")}, store.Entry{Key: []byte("app/same"), Value: []byte("x3")}, store.Entry{Key: []byte("outside"), Value: []byte("x4")}, store.Entry{Key: []byte("z/meta"), Value: []byte("x5"), Meta: 7})
	app := migrate.PartitionDiff{
		Partition: "app",
		Added:     migrate.Tally{Keys: 1, BytesAfter: 9, Samples: []migrate.Sample{{Key: []byte("app/new"), After: "hex:7836"}}},
		Changed:   migrate.Tally{Keys: 1, BytesBefore: 13, BytesAfter: 14, Samples: []migrate.Sample{{Key: []byte("app/changed"), Before: "hex:7831", After: "hex:6f6e65"}}},
		Deleted:   migrate.Tally{Keys: 1, BytesBefore: 10, Samples: []migrate.Sample{{Key: []byte("app/gone"), Before: "hex:7832"}}},
	}
	meta := migrate.PartitionDiff{
		Partition: "z",
		Changed:   migrate.Tally{Keys: 1, BytesBefore: 8, BytesAfter: 8, Samples: []migrate.Sample{{Key: []byte("z/meta"), Before: "hex:7835", After: "hex:7835 meta=0x07"}}},
	}
	counted := migrate.PartitionDiff{
		Partition: "app",
		Added:     migrate.Tally{Keys: 1, BytesAfter: 9},
		Changed:   migrate.Tally{Keys: 1, BytesBefore: 13, BytesAfter: 14},
		Deleted:   migrate.Tally{Keys: 1, BytesBefore: 10},
	}
	for _, tt := range []struct {
		name          string
		before, after store.Store
		prefix        string
		samples       int
		want          []migrate.PartitionDiff
	}{
		{"all", before, after, "", 3, []migrate.PartitionDiff{app, meta}},
		{"a prefix", before, after, "app/", 3, []migrate.PartitionDiff{app}},
		{"no samples", before, after, "app/", 0, []migrate.PartitionDiff{counted}},
		{"itself", after, after, "", 3, nil},
		{"with nothing", openStore(t), after, "app/n", 0, []migrate.PartitionDiff{{Partition: "app", Added: counted.Added}}},
		{"nothing with it", after, openStore(t), "app/n", 0, []migrate.PartitionDiff{{Partition: "app", Deleted: migrate.Tally{Keys: 1, BytesBefore: 9}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := compare(t, tt.before, tt.after, tt.prefix, tt.samples)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestCompareHistory: when a migration ran, and by what, makes no difference; which it
// was does.
func TestCompareHistory(t *testing.T) {
	made := func(program string, at time.Time, names ...string) store.Store {
		st := openStore(t)
		o := migrate.Options{Registry: migrate.NewRegistry(ladder(names...)...), Program: program, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return at }}
		mustRun(t, st, o)
		return st
	}
	now := time.UnixMilli(1700000000000)
	st := made("one", now, "first", "second")
	if got, err := compare(t, st, made("two", now.Add(time.Hour), "first", "second"), "", 1); err != nil || got != nil {
		t.Errorf("a history of another day: %+v, %v; want no difference", got, err)
	}
	got, err := compare(t, st, made("one", now, "first", "other"), "", 0)
	if err != nil || len(got) != 1 || got[0].Partition != "system:" || got[0].Changed.Keys != 1 {
		t.Errorf("a history of another migration: %+v, %v; want one changed key", got, err)
	}
}

// TestCompareFails: an error of reading either store ends the comparison.
func TestCompareFails(t *testing.T) {
	full, other := openStore(t), openStore(t)
	load(t, full, store.Entry{Key: []byte("app/1"), Value: []byte("1")}, store.Entry{Key: []byte("app/2"), Value: []byte("2")})
	load(t, other, store.Entry{Key: []byte("app/1"), Value: []byte("1")}, store.Entry{Key: []byte("app/3"), Value: []byte("2")})
	for _, broken := range []string{"before", "after"} {
		for at := 1; ; at++ {
			before, after := storetest.Fail(full, 0, storetest.Error), storetest.Fail(other, 0, storetest.Error)
			failing := &before
			if broken == "after" {
				failing = &after
			}
			*failing = storetest.Fail((*failing).Store, at, storetest.Error)
			got, err := compare(t, before, after, "", 1)
			if at > (*failing).Operations() {
				if err != nil || len(got) != 1 {
					t.Errorf("without a fault: %+v, %v", got, err)
				}
				break
			}
			if !errors.Is(err, storetest.ErrFault) {
				t.Errorf("fault at operation %d of %s: error = %v, want the fault", at, broken, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := full.View(ctx, func(r store.Reader) error {
		cancel()
		_, err := migrate.Compare(r, r, nil, 0)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Compare with a context that ended = %v", err)
	}
}
