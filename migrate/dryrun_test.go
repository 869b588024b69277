package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// openScratch opens a scratch store for dry runs over st.
func openScratch(t *testing.T, st store.Store) store.Store {
	t.Helper()
	scratch, err := badgerstore.OpenTemp(t.Context(), t.TempDir(), st.Limits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := scratch.Close(); err != nil {
			t.Error(err)
		}
	})
	return scratch
}

// tried fails the test when it is written to.
type tried struct {
	store.Store
	t *testing.T
}

func (s tried) Update(context.Context, func(store.Txn) error) error {
	s.t.Error("a dry run wrote to the store")
	return store.ErrReadOnly
}

// dryRun tries the migrations of o on st, which must stay as it is.
func dryRun(t *testing.T, st store.Store, o migrate.Options, samples int) (migrate.DryRun, error) {
	t.Helper()
	before := contents(t, st)
	r, err := migrate.New(tried{st, t}, o)
	if err != nil {
		t.Fatal(err)
	}
	dry, err := r.DryRun(t.Context(), o.Registry.Latest(), migrate.DryRunOptions{Scratch: openScratch(t, st), Samples: samples})
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("a dry run changed the store (-before +after):\n%s", diff)
	}
	return dry, err
}

// texts are the entries of a dump by their keys.
func texts(t *testing.T, dumped string) map[string]string {
	t.Helper()
	entries, err := dump.Read(strings.NewReader(dumped))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, e := range entries {
		m[string(e.Key)] = dump.Text(e)
	}
	return m
}

// applyDiffs makes the changes of dry, of which all must be samples.
func applyDiffs(t *testing.T, to map[string]string, dry migrate.DryRun) {
	t.Helper()
	for _, diff := range dry.Diffs {
		for _, p := range diff.Partitions {
			for _, tally := range []migrate.Tally{p.Added, p.Changed, p.Deleted} {
				if uint64(len(tally.Samples)) != tally.Keys {
					t.Errorf("v%d, %q: %d samples of %d keys", diff.Version, p.Partition, len(tally.Samples), tally.Keys)
				}
				for _, s := range tally.Samples {
					if to[string(s.Key)] != s.Before {
						t.Errorf("v%d: %q is %q before it, the diff says %q", diff.Version, s.Key, to[string(s.Key)], s.Before)
					}
					to[string(s.Key)] = s.After
					if s.After == "" {
						delete(to, string(s.Key))
					}
				}
			}
		}
	}
}

// TestDryRunIsWhatARunDoes tries migrations of every kind, in many batches, and
// compares the store that the diffs make of what was there with that of a run.
func TestDryRunIsWhatARunDoes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		batches int
		limit   func(store.Store) store.Store
		done    int // operations after which an earlier run failed, 0 if there was none
	}{
		{"one batch", 1, func(st store.Store) store.Store { return narrow{st, 24} }, 0},
		{"three batches", 3, func(st store.Store) store.Store { return narrow{st, 24} }, 0},
		{"volatile", 3, func(st store.Store) store.Store { return volatile{narrow{st, 24}} }, 0},
		{"usual batches", 0, func(st store.Store) store.Store { return st }, 0},
		{"interrupted", 3, func(st store.Store) store.Store { return narrow{st, 24} }, 60},
		{"interrupted, volatile", 3, func(st store.Store) store.Store { return volatile{narrow{st, 24}} }, 250},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opened := openStore(t)
			st, o := tt.limit(opened), crashOptions(tt.batches)
			load(t, st, many("app/", 20)...)
			load(t, st, store.Entry{Key: []byte("app/expiring"), Value: []byte("x"), Meta: 7, ExpiresAt: uint64(time.Now().Add(time.Hour).Unix())})
			if tt.done > 0 {
				if _, err := migrate.Up(t.Context(), storetest.Fail(st, tt.done, storetest.Stop), o); err == nil {
					t.Fatal("the run that should be interrupted was not")
				}
			}
			dry, err := dryRun(t, st, o, 1000)
			if err != nil {
				t.Fatal(err)
			}
			want := texts(t, contents(t, st))
			applyDiffs(t, want, dry)
			report := mustRun(t, st, o)
			if diff := cmp.Diff(want, texts(t, contents(t, st))); diff != "" {
				t.Errorf("store (-dry run +run):\n%s", diff)
			}
			if diff := cmp.Diff(dry.Report, report); diff != "" {
				t.Errorf("report (-dry run +run):\n%s", diff)
			}
		})
	}
}

// TestDryRunReads: a directory that is open read-only is enough, and no byte of it
// changes.
func TestDryRunReads(t *testing.T) {
	dir := t.TempDir()
	open := func(readOnly bool) *badgerstore.Store {
		t.Helper()
		st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small, ReadOnly: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open(false)
	load(t, st, many("app/", 100)...)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	files := func() map[string]string {
		t.Helper()
		found := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found[e.Name()] = string(data)
		}
		return found
	}
	before := files()
	st = open(true)
	dry, err := dryRun(t, st, crashOptions(3), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if len(dry.Diffs) != 6 {
		t.Errorf("%d versions, want 6", len(dry.Diffs))
	}
	if !cmp.Equal(before, files()) {
		t.Error("a dry run changed the files of the store")
	}
}

// TestDryRunCounts: what a version changes, by partition, without what it undoes.
func TestDryRunCounts(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 3)...)
	put(t, st, "other", []byte("1"))
	put(t, st, "long/1", make([]byte, 5000))
	o := one(func(_ context.Context, tx *migrate.Tx) error {
		return errors.Join(
			tx.Update([]byte("app/000000"), suffix("!")),
			tx.Update([]byte("app/000001"), suffix("")),
			tx.Delete([]byte("app/000002")),
			tx.Set(store.Entry{Key: []byte("app/short-lived")}),
			tx.Delete([]byte("app/short-lived")),
			tx.Set(store.Entry{Key: []byte("app/new"), Value: []byte("new")}),
			tx.Set(store.Entry{Key: []byte("Not a partition/1"), Value: []byte("1")}),
			tx.Delete([]byte("other")),
			tx.Delete([]byte("long/1")),
			tx.Set(store.Entry{Key: []byte("notes:setting"), Value: []byte("1"), Meta: 3}))
	})
	dry, err := dryRun(t, st, o, 1)
	if err != nil {
		t.Fatal(err)
	}
	sample := func(key, before, after string) []migrate.Sample {
		return []migrate.Sample{{Key: []byte(key), Before: before, After: after}}
	}
	got := dry.Diffs
	last := len(got[0].Partitions) - 1
	records := got[0].Partitions[last]
	got[0].Partitions = got[0].Partitions[:last]
	want := []migrate.Diff{{Version: 1, Name: "only", Partitions: []migrate.PartitionDiff{
		{
			Partition: "",
			Added:     migrate.Tally{Keys: 1, BytesAfter: 18, Samples: sample("Not a partition/1", "", "-18")},
			Deleted:   migrate.Tally{Keys: 1, BytesBefore: 6, Samples: sample("other", "-18", "")},
		},
		{
			Partition: "app",
			Added:     migrate.Tally{Keys: 1, BytesAfter: 10, Samples: sample("app/new", "", "hex:6e6577")},
			Changed:   migrate.Tally{Keys: 1, BytesBefore: 15, BytesAfter: 16, Samples: sample("app/000000", "hex:726f772030", "hex:726f77203021")},
			Deleted:   migrate.Tally{Keys: 1, BytesBefore: 15, Samples: sample("app/000002", "hex:726f772032", "")},
		},
		{
			Partition: "long",
			Deleted:   migrate.Tally{Keys: 1, BytesBefore: 5006, Samples: sample("long/1", "hex:"+strings.Repeat("00", 32)+"… (5000 bytes)", "")},
		},
		{
			Partition: "notes:",
			Added:     migrate.Tally{Keys: 1, BytesAfter: 14, Samples: sample("notes:setting", "", "-18 meta=0x03")},
		},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("diffs (-want +got):\n%s", diff)
	}
	if records.Partition != "system:" || records.Added.Keys != 2 || records.Changed.Keys+records.Deleted.Keys != 0 {
		t.Errorf("records of the schema: %+v, want the version and the history of v1 added", records)
	}
}

// TestDryRunBounds: the size of the result does not depend on the data.
func TestDryRunBounds(t *testing.T) {
	st := openStore(t)
	o := one(func(_ context.Context, tx *migrate.Tx) error {
		for i := range 1500 {
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "p%04d/1", i), Value: make([]byte, 500)}); err != nil {
				return err
			}
		}
		return nil
	})
	dry, err := dryRun(t, st, o, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var keys, bytes, others uint64
	for _, p := range dry.Diffs[0].Partitions {
		keys += p.Added.Keys
		for _, s := range p.Added.Samples {
			bytes += uint64(len(s.Key) + len(s.After))
		}
		if p.Partition == "*" {
			others = p.Added.Keys
		}
	}
	if n := len(dry.Diffs[0].Partitions); n != 1001 || others == 0 || keys != 1502 || bytes > 1<<20 {
		t.Errorf("%d partitions, %d keys, of them %d in others, %d bytes of samples; want 1001, 1502, more than 0, at most 1 MiB", n, keys, others, bytes)
	}
}

// TestDryRunFails: the versions before the one that failed are told of, and the
// error does not say that there is anything to go on from.
func TestDryRunFails(t *testing.T) {
	boom := errors.New("boom")
	for name, up := range map[string]migrate.UpFunc{
		"error": func(context.Context, *migrate.Tx) error { return boom },
		"panic": func(context.Context, *migrate.Tx) error { panic(boom) },
		"second step": func(_ context.Context, tx *migrate.Tx) error {
			if tx.Cursor() != nil {
				return boom
			}
			tx.Continue([]byte("half"))
			return tx.Set(store.Entry{Key: []byte("app/3")})
		},
		"row": migrate.Each([]byte("app/"), func(context.Context, *migrate.Tx, store.Entry) error { return boom }),
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			mustUp(t, st, scenario[:1])
			o := options(migrate.NewRegistry(append(slices.Clone(scenario), migrate.Migration{Version: 3, Name: "bad", Up: up})...))
			dry, err := dryRun(t, st, o, 0)
			failed, ok := errors.AsType[*migrate.MigrationError](err)
			if !ok || failed.Version != 3 || !failed.DryRun || !errors.Is(err, boom) {
				t.Errorf("error = %v, want a MigrationError of v3 in a dry run that matches boom", err)
			}
			if text := err.Error(); !strings.HasSuffix(text, "; it was a dry run, so the store is unchanged") || strings.Contains(text, "run again") {
				t.Errorf("error says %q, want that the store is unchanged and nothing else", text)
			}
			if len(dry.Diffs) != 1 || dry.Diffs[0].Version != 2 || dry.From != 1 || dry.To != 2 {
				t.Errorf("dry run from v%d to v%d with %d diffs, want v1, v2 and the diff of v2", dry.From, dry.To, len(dry.Diffs))
			}
		})
	}
}

// TestDryRunRefuses: a dry run refuses what a run refuses, in the same words.
func TestDryRunRefuses(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, st store.Store){
		"newer":       func(t *testing.T, st store.Store) { put(t, st, "system:schema_version", []byte{0, 0, 0, 9}) },
		"corrupt":     func(t *testing.T, st store.Store) { put(t, st, "system:schema_version", []byte{1}) },
		"unversioned": func(t *testing.T, st store.Store) { put(t, st, "app/1", []byte("1")) },
		"renamed": func(t *testing.T, st store.Store) {
			mustUp(t, st, []migrate.Migration{{Version: 1, Name: "other", Up: nop}})
		},
		"orphaned progress": func(t *testing.T, st store.Store) { put(t, st, "system:schema_progress", []byte("1")) },
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			spoil(t, st)
			dry, err := dryRun(t, st, options(migrate.NewRegistry(scenario...)), 1)
			_, want := up(t, st, scenario)
			if !errors.Is(err, migrate.ErrRefused) || want == nil || err.Error() != want.Error() {
				t.Errorf("dry run: %v\nrun: %v\nwant the same refusal", err, want)
			}
			if len(dry.Diffs) != 0 || dry.DiskBytes != 0 {
				t.Errorf("dry run of a refused store = %+v, want nothing", dry)
			}
		})
	}
	st := openStore(t)
	r, err := migrate.New(st, options(migrate.NewRegistry(scenario...)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.DryRun(t.Context(), 3, migrate.DryRunOptions{Scratch: openScratch(t, st)})
	if _, ok := errors.AsType[*migrate.UnknownTargetError](err); !ok {
		t.Errorf("unknown target: %v, want an UnknownTargetError", err)
	}
	if _, err := r.DryRun(t.Context(), 2, migrate.DryRunOptions{}); err == nil || !strings.Contains(err.Error(), "no scratch store") {
		t.Errorf("without a scratch store: %v, want an error that says so", err)
	}
	_, err = r.DryRun(t.Context(), 2, migrate.DryRunOptions{Scratch: openStore(t)})
	if !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("with a scratch store that is too small: %v, want ErrUnsupported", err)
	}
}

// TestDryRunAdopts: what adopting a store writes is part of the first diff, also if
// there is nothing else to do.
func TestDryRunAdopts(t *testing.T) {
	for adopted, keys := range map[uint32]uint64{1: 3, 2: 2} {
		st := openStore(t)
		put(t, st, "app/1", []byte("1"))
		o := options(migrate.NewRegistry(scenario...))
		o.Adopt = func(context.Context, store.Reader) (uint32, error) { return adopted, nil }
		dry, err := dryRun(t, st, o, 10)
		if err != nil {
			t.Fatal(err)
		}
		if !dry.Adopted || dry.From != adopted || dry.To != 2 || len(dry.Diffs) != 1 || dry.Diffs[0].Version != 2 {
			t.Fatalf("dry run of a store that is adopted at v%d = %+v, want one diff, of v2", adopted, dry)
		}
		partitions := dry.Diffs[0].Partitions
		if got := partitions[len(partitions)-1].Added.Keys; got != keys {
			t.Errorf("adopted at v%d: %d records of the schema are added, want %d", adopted, got, keys)
		}
		want := texts(t, contents(t, st))
		applyDiffs(t, want, dry)
		mustRun(t, st, o)
		if diff := cmp.Diff(want, texts(t, contents(t, st))); diff != "" {
			t.Errorf("store (-dry run +run):\n%s", diff)
		}
	}
}

// TestDryRunOfNothing: a store that is up to date would change in nothing.
func TestDryRunOfNothing(t *testing.T) {
	st := openStore(t)
	mustUp(t, st, scenario)
	dry, err := dryRun(t, st, options(migrate.NewRegistry(scenario...)), 1)
	want := migrate.DryRun{Report: migrate.Report{Schema: "system", From: 2, To: 2}}
	if diff := cmp.Diff(want, dry); diff != "" || err != nil {
		t.Errorf("dry run, error %v (-want +got):\n%s", err, diff)
	}
}

// TestDryRunCancelled: it ends with its context, and lets go of both stores.
func TestDryRunCancelled(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 3*batchOfRows)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		if string(e.Key) > "app/004000" {
			cancel()
		}
		return tx.Set(e)
	}))
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	scratch := openScratch(t, st)
	_, err = r.DryRun(ctx, 1, migrate.DryRunOptions{Scratch: scratch})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "dry run") {
		t.Errorf("error = %v, want the context's, and that it was a dry run", err)
	}
	for name, st := range map[string]store.Store{"store": st, "scratch store": scratch} {
		if err := st.Close(); err != nil { // which would hang over an open View
			t.Errorf("close the %s: %v", name, err)
		}
	}
}

// TestDryRunBesideAWriter: what others write meanwhile neither shows nor suffers.
func TestDryRunBesideAWriter(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 10)...)
	o := one(migrate.Serial(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		err := store.Update(t.Context(), st, func(rival store.Txn) error {
			return errors.Join(rival.Set(store.Entry{Key: []byte("app/000009"), Value: []byte("rival")}), rival.Delete([]byte("app/000008")))
		})
		e.Value = append(e.Value, '!')
		return errors.Join(err, tx.Set(e))
	})))
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	dry, err := r.DryRun(t.Context(), 1, migrate.DryRunOptions{Scratch: openScratch(t, st), Samples: 10})
	if err != nil {
		t.Fatal(err)
	}
	app := dry.Diffs[0].Partitions[0]
	if app.Changed.Keys != 10 || app.Changed.Samples[9].After != dump.Value([]byte("row 9!")) {
		t.Errorf("changed = %+v, want the ten rows of the snapshot", app.Changed)
	}
	want := many("app/", 10)
	want = append(want[:8], store.Entry{Key: []byte("app/000009"), Value: []byte("rival")})
	wantEntries(t, want, entriesOf(t, st, "app/"))
}

// TestDryRunTakesNoBackup: what belongs to changing a store is left out.
func TestDryRunTakesNoBackup(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	load(t, st, many("app/", 5000)...)
	o := one(migrate.Rewrite([]byte("app/"), suffix("!")))
	o.Backup, o.Reclaim = &backup.Options{Dir: dir}, true
	dry, err := dryRun(t, st, o, 0)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 || dry.Backup != nil || dry.Applied[0].SizeBefore != 0 {
		t.Errorf("a dry run left %v, error %v, and reports %+v; want no backup and no sizes", left, err, dry.Report)
	}
}

// full is a store on a disk that has no room left.
type full struct{ store.Store }

func (full) Free(context.Context) (free, needed uint64, err error) { return 1, 1, nil }

// TestDryRunWithoutRoom: it stops before the scratch store fills the disk.
func TestDryRunWithoutRoom(t *testing.T) {
	st := openStore(t)
	r, err := migrate.New(st, options(migrate.NewRegistry(scenario...)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.DryRun(t.Context(), 2, migrate.DryRunOptions{Scratch: full{openScratch(t, st)}})
	if !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "scratch store: ") || !strings.Contains(err.Error(), "it was a dry run") {
		t.Errorf("error = %v, want ErrNoSpace of the scratch store", err)
	}
}

// TestDryRunLog: each line says that it is of a dry run.
func TestDryRunLog(t *testing.T) {
	st := openStore(t)
	var log strings.Builder
	o := options(migrate.NewRegistry(scenario...))
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := dryRun(t, st, o, 0); err != nil {
		t.Fatal(err)
	}
	n := strings.Count(log.String(), "\n")
	if n != 5 || strings.Count(log.String(), " dry_run=true\n") != n {
		t.Errorf("log = %s, want 5 lines with dry_run=true", log.String())
	}
}

// frugal is a store of small transactions.
type frugal struct{ store.Store }

func (f frugal) Limits() store.Limits {
	l := f.Store.Limits()
	l.TxnEntries, l.TxnBytes = 1000, 200_000
	return l
}

// TestDryRunMemory rewrites 20 MB in each of five versions, which write 100 MB, and
// what is settled 80 MB. Some 60 MB are Badger's own whatever is written: it is told
// that the store's transactions are small.
func TestDryRunMemory(t *testing.T) {
	const rows, size, budget = 2_000, 10_000, 100 << 20
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: badgerstore.Uncompacted})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	random := rand.NewChaCha8([32]byte{})
	for i := 0; i < rows; i += 50 {
		var some []store.Entry
		for j := i; j < i+50; j++ {
			value := make([]byte, size)
			_, _ = random.Read(value)
			some = append(some, store.Entry{Key: fmt.Appendf(nil, "app/%06d", j), Value: value})
		}
		load(t, st, some...)
	}
	up := migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) { v[0]++; return v, nil })
	ladder := ladder("one", "two", "three", "four", "five")
	for i := range ladder {
		ladder[i].Up = up
	}
	o := options(migrate.NewRegistry(ladder...))
	o.AllowUnversioned = true
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, peak := heap(), uint64(0)
	o.Observer = func(e migrate.Event) {
		if e.Steps%20 == 0 {
			peak = max(peak, heap())
		}
	}
	small := frugal{st}
	r, err := migrate.New(small, o)
	if err != nil {
		t.Fatal(err)
	}
	dry, err := r.DryRun(t.Context(), 5, migrate.DryRunOptions{Scratch: openScratch(t, small), Samples: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, diff := range dry.Diffs {
		if got := diff.Partitions[0].Changed.Keys; got != rows {
			t.Errorf("v%d changes %d rows, want %d", diff.Version, got, rows)
		}
	}
	t.Logf("the live heap grew by %d MiB", (peak-before)>>20)
	if peak > before+budget {
		t.Errorf("the live heap grew by %d bytes, the budget is %d", peak-before, budget)
	}
}
