package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/storetest"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// ladder is the schema of a program.
func ladder() *migrate.Registry {
	return migrate.NewRegistry(
		migrate.Migration{Version: 1, Name: "first_notes", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("app:table:notes"), Value: []byte("definition")})
		}},
		migrate.Migration{Version: 2, Name: "rewrite", Up: migrate.Rewrite([]byte("notes/"), func(row []byte) ([]byte, error) {
			if bytes.Equal(row, []byte("stop")) {
				return nil, errors.New("stopped")
			}
			return append(row, '!'), nil
		})},
	)
}

func options() migrate.Options {
	return migrate.Options{Schema: "app", Registry: ladder(), AllowUnversioned: true, Heartbeat: -1, Logger: slog.New(slog.DiscardHandler)}
}

func openStore(t testing.TB) store.Store {
	t.Helper()
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func put(t testing.TB, st store.Store, entries ...store.Entry) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		for _, e := range entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func entry(key, value string) store.Entry {
	return store.Entry{Key: []byte(key), Value: []byte(value)}
}

// numbered are n rows of a partition.
func numbered(partition string, n int) (rows []store.Entry) {
	for i := range n {
		rows = append(rows, entry(fmt.Sprintf("%s/%06d", partition, i), fmt.Sprint("row ", i)))
	}
	return rows
}

// fill makes st a store of app at v2, with rows in two partitions.
func fill(t testing.TB, st store.Store, rows int) {
	t.Helper()
	put(t, st, numbered("notes", rows)...)
	put(t, st, numbered("notes.by_time", rows/2)...)
	if _, err := migrate.Up(t.Context(), st, options()); err != nil {
		t.Fatal(err)
	}
}

func dumpOf(t testing.TB, st store.Store) string {
	t.Helper()
	var text strings.Builder
	err := st.View(t.Context(), func(s store.Reader) error { return dump.Write(&text, s, store.Scan{}) })
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// wantRefused fails the test unless the program refuses st as an unfinished copy.
func wantRefused(t testing.TB, st store.Store) {
	t.Helper()
	r, err := migrate.New(st, options())
	if err != nil {
		t.Fatal(err)
	}
	before := dumpOf(t, st)
	_, err = r.Up(t.Context())
	if _, ok := errors.AsType[*transfer.UnfinishedError](err); !ok || !errors.Is(err, migrate.ErrRefused) {
		t.Errorf("Up on an unfinished copy = %v, want an UnfinishedError", err)
	}
	if diff := cmp.Diff(before, dumpOf(t, st)); diff != "" {
		t.Errorf("Up changed an unfinished copy (-before +after):\n%s", diff)
	}
}

func mustCopy(t testing.TB, from, to store.Store) transfer.Report {
	t.Helper()
	report, err := transfer.Copy(t.Context(), from, to, transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dumpOf(t, from), dumpOf(t, to)); diff != "" {
		t.Errorf("the copy (-source +destination):\n%s", diff)
	}
	return report
}

// A narrow store keeps neither expiry nor user meta, and little in a transaction.
type narrow struct {
	store.Store
	entries int
	onSync  func() // may be nil
}

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries, l.TxnBytes, l.KeyBytes, l.ValueBytes, l.ApartBytes = n.entries, 4000, 100, 3500, 0
	l.Reserved = "!mine!"
	return l
}

func (n narrow) Sync(ctx context.Context) error {
	if n.onSync != nil {
		n.onSync()
	}
	return n.Store.Sync(ctx)
}

func (n narrow) Update(ctx context.Context, fn func(store.Txn) error) error {
	return n.Store.Update(ctx, func(tx store.Txn) error {
		t := &narrowTxn{Txn: tx, limits: n.Limits()}
		if err := fn(t); err != nil {
			return err
		}
		return t.failed
	})
}

type narrowTxn struct {
	store.Txn
	limits         store.Limits
	entries, bytes int
	failed         error
}

func (t *narrowTxn) Set(e store.Entry) error {
	t.entries++
	t.bytes += t.limits.Cost(e)
	if e.ExpiresAt != 0 || e.Meta != 0 {
		t.failed = store.ErrUnsupported
	}
	if t.entries > t.limits.TxnEntries || t.bytes > t.limits.TxnBytes {
		t.failed = store.ErrTxnTooBig
	}
	if t.failed != nil {
		return t.failed
	}
	return t.Txn.Set(e)
}

// TestCopy: every entry is copied, and both sides' sums are reported. Again it only
// compares.
func TestCopy(t *testing.T) {
	for _, limit := range []int{0, 4, 7, 60} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			from, to := openStore(t), openStore(t)
			fill(t, from, 100)
			if limit > 0 {
				to = narrow{Store: to, entries: limit}
			}
			var stages []transfer.Stage
			report, err := transfer.Copy(t.Context(), from, to, transfer.Options{Observer: func(p transfer.Progress) {
				if p.Ended {
					stages = append(stages, p.Stage)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(dumpOf(t, from), dumpOf(t, to)); diff != "" {
				t.Errorf("the copy (-source +destination):\n%s", diff)
			}
			if diff := cmp.Diff([]transfer.Stage{transfer.Counting, transfer.Copying, transfer.Comparing}, stages); diff != "" {
				t.Errorf("stages (-want +got):\n%s", diff)
			}
			counts := map[string]uint64{}
			for _, s := range report.Partitions {
				counts[s.Partition] = s.Entries
			}
			if diff := cmp.Diff(map[string]uint64{"": 4, "notes": 100, "notes.by_time": 50}, counts); diff != "" {
				t.Errorf("entries by partition (-want +got):\n%s", diff)
			}
			again := mustCopy(t, from, to)
			if !again.Already {
				t.Error("a second copy wrote")
			}
			again.Already = false
			if diff := cmp.Diff(report, again); diff != "" {
				t.Errorf("report of a second copy (-first +second):\n%s", diff)
			}
			if _, err := migrate.Up(t.Context(), to, options()); err != nil {
				t.Errorf("Up on the copy: %v", err)
			}
		})
	}
}

// TestStores copies what a store can hold: nothing, a schema alone, keys that look like
// its records, values of all sizes, expiries and user metas.
func TestStores(t *testing.T) {
	soon := uint64(time.Now().Add(time.Hour).Unix())
	for name, entries := range map[string][]store.Entry{
		"nothing":      nil,
		"no schema":    numbered("rows", 3),
		"a version":    {entry("app:schema_version", "\x00\x00\x00\x01")},
		"two versions": {entry("app:schema_version", "\x00\x00\x00\x01"), entry("b:schema_version", "\x00\x00\x00\x02"), entry("b/row", "")},
		"near names":   {entry(":copy/1", "1"), entry("A:schema_version", "1"), entry("app:schema_versions", "1"), entry(":schema_version", ""), entry("\x00", ""), entry("\xff\xff", "")},
		"long":         {entry(strings.Repeat("k", 60000), "v"), entry("v", strings.Repeat("v", 2<<20/100))},
		"expiries":     {{Key: []byte("a/1"), Value: []byte("v"), ExpiresAt: soon}, {Key: []byte("a/2"), Meta: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := openStore(t), openStore(t)
			put(t, from, entries...)
			mustCopy(t, from, to)
		})
	}
}

// TestFaults fails each operation of either side, and lets the process die there. The
// destination is refused until it is whole, and the next copy makes it so.
func TestFaults(t *testing.T) {
	from := openStore(t)
	fill(t, from, 7)
	undisturbed := storetest.Fail(openStore(t), 0, storetest.Error)
	mustCopy(t, storetest.Fail(from, 0, storetest.Error), narrow{Store: undisturbed, entries: 4})
	for _, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			to := openStore(t)
			for at := 1; at <= undisturbed.Operations(); at++ {
				wipe(t, to)
				failing := storetest.Fail(to, at, fault)
				_, err := transfer.Copy(t.Context(), from, narrow{Store: failing, entries: 4}, transfer.Options{})
				if err != nil && !errors.Is(err, storetest.ErrFault) || err == nil && fault == storetest.Stop && failing.Failed() != "" {
					t.Fatalf("operation %d (%s): error = %v, want ErrFault", at, failing.Failed(), err)
				}
				begun := strings.Contains(dumpOf(t, to), `":copy"`)
				if begun {
					wantRefused(t, to)
				}
				killed := fault == storetest.StopAfterCommit // nobody is told
				if _, incomplete := errors.AsType[*transfer.IncompleteError](err); err != nil && !incomplete && !killed && (begun || !strings.HasSuffix(err.Error(), "; nothing was written")) {
					t.Errorf("operation %d (%s): error = %v, and the copy was begun: %t", at, failing.Failed(), err, begun)
				}
				report := mustCopy(t, from, to)
				if begun && report.Already {
					t.Errorf("operation %d (%s): a copy that was not finished passes for one that is", at, failing.Failed())
				}
			}
		})
	}
	t.Run("source", func(t *testing.T) {
		all := storetest.Fail(from, 0, storetest.Error)
		to := openStore(t)
		mustCopy(t, all, to)
		for at := 1; at <= all.Operations(); at++ {
			wipe(t, to)
			if _, err := transfer.Copy(t.Context(), storetest.Fail(from, at, storetest.Error), to, transfer.Options{}); err == nil {
				continue // an operation of mustCopy's own
			}
			mustCopy(t, from, to)
		}
	})
}

// wipe empties a store.
func wipe(t testing.TB, st store.Store) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		for e, err := range tx.Scan(store.Scan{KeysOnly: true}) {
			if err == nil {
				err = tx.Delete(bytes.Clone(e.Key))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnconfirmed: a commit whose outcome is not known is seen to, whatever became of it.
func TestUnconfirmed(t *testing.T) {
	from := openStore(t)
	fill(t, from, 12)
	for _, fate := range storetest.Fates {
		t.Run(fate.String(), func(t *testing.T) {
			for at := 1; ; at++ {
				to := openStore(t)
				unsure := storetest.Unconfirm(to, fate, func(commit int) bool { return commit == at })
				_, err := transfer.Copy(t.Context(), from, narrow{Store: unsure, entries: 5}, transfer.Options{})
				unsure.Settle()
				if err != nil {
					t.Fatalf("commit %d: %v", at, err)
				}
				mustCopy(t, from, to)
				if at > unsure.Commits() {
					break
				}
			}
		})
	}
	for _, certain := range []int{0, 2} {
		t.Run(fmt.Sprintf("for ever after %d", certain), func(t *testing.T) {
			to := openStore(t)
			unsure := storetest.Unconfirm(to, storetest.Lost, func(commit int) bool { return commit > certain })
			_, err := transfer.Copy(t.Context(), from, narrow{Store: unsure, entries: 5}, transfer.Options{})
			unsure.Settle()
			if _, incomplete := errors.AsType[*transfer.IncompleteError](err); !incomplete || !errors.Is(err, store.ErrUnknown) {
				t.Errorf("error = %v, want an IncompleteError by ErrUnknown", err)
			}
			if certain > 0 {
				wantRefused(t, to)
			}
			mustCopy(t, from, to)
		})
	}
}

// TestGoesOn: an interrupted copy says how far it is and begins with the next entry.
func TestGoesOn(t *testing.T) {
	from, to := openStore(t), openStore(t)
	fill(t, from, 100)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := transfer.Copy(ctx, from, narrow{Store: counting{to, func() {
		if n++; n == 5 {
			cancel()
		}
	}}, entries: 11}, transfer.Options{})
	incomplete, ok := errors.AsType[*transfer.IncompleteError](err)
	if !ok || !errors.Is(err, context.Canceled) || incomplete.Entries == 0 || incomplete.Total != 153 || !strings.Contains(err.Error(), "Run the same copy again to go on from there") {
		t.Fatalf("error = %v (%+v), want an IncompleteError", err, incomplete)
	}
	wantRefused(t, to)
	wantRecord(t, to, incomplete)
	if got := mustCopy(t, from, to); got.Before != incomplete.Entries {
		t.Errorf("the second copy found %d entries, want %d", got.Before, incomplete.Entries)
	}
}

// wantRecord holds the record of the copy against what docs/on-disk-format.md says.
func wantRecord(t *testing.T, st store.Store, at *transfer.IncompleteError) {
	t.Helper()
	var record map[string]any
	err := st.View(t.Context(), func(s store.Reader) error {
		e, err := s.Get([]byte(":copy"))
		if err != nil {
			return err
		}
		return value.Unmarshal(e.Value, &record)
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, length := range map[string]int{"f": 32, "token": 16} {
		if b, ok := record[key].([]byte); !ok || len(b) != length {
			t.Errorf("%s of the record = %v, want %d bytes", key, record[key], length)
		}
		delete(record, key)
	}
	delete(record, "started")
	delete(record, "bytes")
	want := map[string]any{"total": at.Total, "entries": at.Entries, "last": []byte("notes.by_time/000006")}
	if diff := cmp.Diff(want, record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// counting calls before each Update.
type counting struct {
	store.Store
	before func()
}

func (c counting) Update(ctx context.Context, fn func(store.Txn) error) error {
	c.before()
	return c.Store.Update(ctx, fn)
}

// TestRefusals: all that the destination cannot keep is said together, and nothing is
// written.
func TestRefusals(t *testing.T) {
	from, to := openStore(t), openStore(t)
	soon := uint64(time.Now().Add(time.Hour).Unix())
	put(t, from, numbered("a", 3)...)
	put(t, from, entry("!mine", ""), entry("!mine!1", ""),
		store.Entry{Key: []byte("a/x"), ExpiresAt: soon}, store.Entry{Key: []byte("a/y"), ExpiresAt: soon, Meta: 1},
		store.Entry{Key: []byte("b"), Meta: 1}, entry("c/1", strings.Repeat("v", 3600)), entry("c/"+strings.Repeat("k", 99), ""))
	_, err := transfer.Copy(t.Context(), from, narrow{Store: to, entries: 60}, transfer.Options{})
	if !errors.Is(err, transfer.ErrRefused) || !errors.Is(err, store.ErrUnsupported) || strings.Contains(err.Error(), "a/x") {
		t.Errorf("error = %v, want ErrRefused and no key", err)
	}
	all, ok := errors.AsType[*multierror.Error](err)
	if !ok {
		t.Fatalf("error = %T, want a *multierror.Error", err)
	}
	var got []transfer.RefusalError
	for _, e := range all.Errors {
		got = append(got, *e.(*transfer.RefusalError))
	}
	want := []transfer.RefusalError{
		{Partition: "", Reason: transfer.ReservedKey, Entries: 1, First: []byte("!mine!1")},
		{Partition: "a", Reason: transfer.Expires, Entries: 2, First: []byte("a/x")},
		{Partition: "a", Reason: transfer.HasMeta, Entries: 1, First: []byte("a/y")},
		{Partition: "", Reason: transfer.HasMeta, Entries: 1, First: []byte("b")},
		{Partition: "c", Reason: transfer.LongValue, Entries: 1, First: []byte("c/1")},
		{Partition: "c", Reason: transfer.LongKey, Entries: 1, First: []byte("c/" + strings.Repeat("k", 99))},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if got := dumpOf(t, to); got != "" {
		t.Errorf("the destination holds\n%s", got)
	}
}

// TestEncrypted: what is encrypted is copied into the clear only if that is asked for.
func TestEncrypted(t *testing.T) {
	encrypted := func() store.Store {
		st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: func(o badger.Options) badger.Options {
			return badgerstore.Small(o).WithEncryptionKey(bytes.Repeat([]byte("k"), 32)).WithIndexCacheSize(1 << 20)
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
		return st
	}
	from, to := encrypted(), openStore(t)
	put(t, from, numbered("a", 3)...)
	_, err := transfer.Copy(t.Context(), store.ReadOnly(from), to, transfer.Options{})
	if !errors.Is(err, transfer.ErrEncrypted) || !errors.Is(err, transfer.ErrRefused) || dumpOf(t, to) != "" {
		t.Errorf("error = %v, want ErrEncrypted and nothing written", err)
	}
	if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Plaintext: true}); err != nil {
		t.Error(err)
	}
	mustCopy(t, from, encrypted())
}

// TestDestinationInUse: nothing is written to a destination that is not the source's.
func TestDestinationInUse(t *testing.T) {
	from, other := openStore(t), openStore(t)
	fill(t, from, 20)
	fill(t, other, 21)
	stopped := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if _, err := transfer.Copy(ctx, other, narrow{Store: counting{stopped, func() {
		if n++; n == 5 {
			cancel()
		}
	}}, entries: 9}, transfer.Options{}); err == nil {
		t.Fatal("the copy was not interrupted")
	}
	damaged := openStore(t)
	put(t, damaged, entry(":copy", "\xa0\xff"))
	for _, test := range []struct {
		name string
		to   store.Store
		want error
	}{
		{"in use", other, transfer.ErrNotEmpty},
		{"damaged record", damaged, transfer.ErrRefused},
		{"another copy", stopped, transfer.ErrOtherSource},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := dumpOf(t, test.to)
			_, err := transfer.Copy(t.Context(), from, test.to, transfer.Options{})
			if !errors.Is(err, test.want) || !errors.Is(err, transfer.ErrRefused) || !strings.HasSuffix(err.Error(), "; nothing was written") {
				t.Errorf("error = %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(before, dumpOf(t, test.to)); diff != "" {
				t.Errorf("the destination (-before +after):\n%s", diff)
			}
		})
	}
	t.Run("unfinished source", func(t *testing.T) {
		if _, err := transfer.Copy(t.Context(), stopped, openStore(t), transfer.Options{}); !errors.Is(err, transfer.ErrRefused) {
			t.Errorf("error = %v, want ErrRefused", err)
		}
	})
}

// TestChanges: a change of either side while it is copied is found, and the destination
// is no store.
func TestChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		source bool
		change store.Entry
		want   error
	}{
		{"source", true, entry("notes/000003", "changed"), transfer.ErrSourceChanged},
		{"source, a new row", true, entry("notes/zzz", ""), transfer.ErrSourceChanged},
		{"destination", false, entry("notes/000003", "changed"), transfer.ErrDifferent},
		{"destination, a new row", false, entry("zzz/1", ""), transfer.ErrDifferent},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := openStore(t), openStore(t)
			fill(t, from, 20)
			changed := to
			if test.source {
				changed = from
			}
			_, err := transfer.Copy(t.Context(), from, narrow{Store: to, entries: 9, onSync: func() { put(t, changed, test.change) }}, transfer.Options{})
			if !errors.Is(err, test.want) {
				t.Errorf("error = %v, want %v", err, test.want)
			}
			if m, ok := errors.AsType[*transfer.MismatchError](err); ok == test.source || ok && (m.Different != 1 || !bytes.Equal(m.First, test.change.Key)) {
				t.Errorf("mismatch = %+v, want one of %q", m, test.change.Key)
			}
			wantRefused(t, to)
		})
	}
}

// TestMomentary: who uses the source stays behind, and who waits for the destination is
// no entry of it. A migration that was interrupted goes on there.
func TestMomentary(t *testing.T) {
	from, to := openStore(t), openStore(t)
	fill(t, from, 30)
	put(t, from, entry("app:schema_turn", "t"), entry("app:schema_node:1", "n"), entry("app:schema_beat:1", "b"), entry("app:schema_intent", "i"))
	put(t, to, entry("app:schema_turn", "other"))
	report, err := transfer.Copy(t.Context(), from, to, transfer.Options{})
	if err != nil || report.LeftOut != 4 || report.Already {
		t.Fatalf("Copy = %+v, %v; want four records left out", report, err)
	}
	if got := dumpOf(t, to); strings.Count(got, "schema_turn") != 1 || strings.Contains(got, "schema_node") {
		t.Errorf("the copy holds\n%s", got)
	}
	if again, err := transfer.Copy(t.Context(), from, to, transfer.Options{}); err != nil || !again.Already {
		t.Errorf("a second copy = %+v, %v; want nothing to do", again, err)
	}
}

// sharing is a store that several processes share.
type sharing struct{ store.Store }

func (sharing) Shared() bool { return true }

// records are the records of the schema in st, without versions and numbers of nodes.
func records(t *testing.T, st store.Store) []string {
	t.Helper()
	var names []string
	err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: []byte("app:schema_")}) {
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(string(e.Key), "app:schema_"), ":")
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Compact(names)
}

// TestLiveSource: what nodes and a migrator keep in a store that they use stays behind,
// but for what belongs to a migration that has begun.
func TestLiveSource(t *testing.T) {
	for _, test := range []struct {
		name         string
		begins       bool // whether the migration has committed a step
		source, copy []string
	}{
		{"a migration that has not begun", false,
			[]string{"beat", "history", "intent", "lock", "node", "turn", "version"}, []string{"history", "version"}},
		{"one under way", true,
			[]string{"beat", "history", "intent", "lock", "node", "progress", "turn", "version"}, []string{"history", "intent", "lock", "progress", "version"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := openStore(t), openStore(t)
			o := options()
			o.Registry = migrate.NewRegistry(ladder().Migrations()[:1]...)
			if _, err := migrate.Up(t.Context(), sharing{from}, o); err != nil {
				t.Fatal(err)
			}
			m, err := cluster.Join(t.Context(), sharing{from}, cluster.Options{Schema: "app", Min: 1, Max: 2})
			if err != nil {
				t.Fatal(err)
			}
			begun, end, done := make(chan struct{}), make(chan struct{}), make(chan error)
			wait := sync.OnceFunc(func() { close(begun); <-end })
			o.Registry = migrate.NewRegistry(ladder().Migrations()[0], migrate.Migration{
				Version: 2, Name: "steps", Up: func(_ context.Context, tx *migrate.Tx) error {
					if test.begins && tx.Cursor() == nil {
						tx.Continue([]byte("second"))
						return nil
					}
					wait()
					return nil
				},
			})
			go func() { _, err := migrate.Up(t.Context(), sharing{from}, o); done <- err }()
			<-begun
			if diff := cmp.Diff(test.source, records(t, from)); diff != "" {
				t.Errorf("records of the source (-want +got):\n%s", diff)
			}
			report, err := transfer.Copy(t.Context(), from, to, transfer.Options{})
			close(end)
			if err != nil || report.LeftOut != uint64(len(test.source)-len(test.copy)) {
				t.Errorf("Copy = %+v, %v; want %d records left out", report, err, len(test.source)-len(test.copy))
			}
			if diff := cmp.Diff(test.copy, records(t, to)); diff != "" {
				t.Errorf("records of the copy (-want +got):\n%s", diff)
			}
			if err := errors.Join(<-done, m.Leave(context.WithoutCancel(t.Context()))); err != nil {
				t.Error(err)
			}
			if report, err := migrate.Up(t.Context(), to, o); err != nil || report.To != 2 {
				t.Errorf("Up in the copy = %+v, %v; want v2", report, err)
			}
		})
	}
}

func TestInterruptedMigration(t *testing.T) {
	from, to := openStore(t), openStore(t)
	put(t, from, numbered("notes", 8000)...)
	put(t, from, entry("notes/007000", "stop"))
	if _, err := migrate.Up(t.Context(), from, options()); err == nil {
		t.Fatal("the migration was not interrupted")
	}
	mustCopy(t, from, to)
	r, err := migrate.New(to, options())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := r.Status(t.Context()); err != nil || s.Progress == nil {
		t.Errorf("status of the copy = %+v, %v; want a migration under way", s, err)
	}
	put(t, to, entry("notes/007000", "go"))
	if _, err := r.Up(t.Context()); err != nil {
		t.Error(err)
	}
	var got, want strings.Builder
	for i, e := range numbered("notes", 8000) {
		if i == 7000 {
			e.Value = []byte("go")
		}
		fmt.Fprintf(&want, "%s=%s!\n", e.Key, e.Value)
	}
	err = to.View(t.Context(), func(s store.Reader) error {
		for e, err := range s.Scan(store.Scan{Prefix: []byte("notes/")}) {
			if err != nil {
				return err
			}
			fmt.Fprintf(&got, "%s=%s\n", e.Key, e.Value)
		}
		return nil
	})
	if err != nil || got.String() != want.String() {
		t.Errorf("%v; rows differ from those that are rewritten once:\n%s", err, cmp.Diff(want.String(), got.String()))
	}
}

// TestExpiredMeanwhile: what expires between two looks is no difference.
func TestExpiredMeanwhile(t *testing.T) {
	from, to := openStore(t), openStore(t)
	put(t, from, entry("a/1", "v"))
	past := uint64(time.Now().Add(-time.Hour).Unix())
	late := &lingering{Store: from, e: store.Entry{Key: []byte("a/2"), Value: []byte("v"), ExpiresAt: past}}
	report, err := transfer.Copy(t.Context(), late, to, transfer.Options{})
	if err != nil || report.Entries != 2 {
		t.Errorf("Copy = %+v, %v; want two entries", report, err)
	}
}

// lingering is a store that still has an entry which has expired.
type lingering struct {
	store.Store
	e store.Entry
}

func (l *lingering) View(ctx context.Context, fn func(store.Reader) error) error {
	return l.Store.View(ctx, func(r store.Reader) error { return fn(lingeringReader{r, l.e}) })
}

type lingeringReader struct {
	store.Reader
	e store.Entry
}

func (l lingeringReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range l.Reader.Scan(s) {
			if !yield(e, err) {
				return
			}
		}
		if bytes.Compare(l.e.Key, s.From) >= 0 {
			yield(l.e, nil)
		}
	}
}

// TestSnapshotGone: a copy that outlives the source's snapshots goes on in new ones.
func TestSnapshotGone(t *testing.T) {
	from, to := openStore(t), openStore(t)
	fill(t, from, 100)
	if _, err := transfer.Copy(t.Context(), forgetful{from, 7}, forgetful{to, 11}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dumpOf(t, from), dumpOf(t, to)); diff != "" {
		t.Errorf("the copy (-source +destination):\n%s", diff)
	}
	if _, err := transfer.Copy(t.Context(), forgetful{from, 0}, openStore(t), transfer.Options{}); !errors.Is(err, store.ErrSnapshotGone) {
		t.Errorf("error = %v, want ErrSnapshotGone", err)
	}
}

// forgetful keeps a snapshot for n entries of a scan.
type forgetful struct {
	store.Store
	n int
}

func (f forgetful) View(ctx context.Context, fn func(store.Reader) error) error {
	return f.Store.View(ctx, func(r store.Reader) error { return fn(forgetfulReader{r, f.n}) })
}

type forgetfulReader struct {
	store.Reader
	n int
}

func (f forgetfulReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		left := f.n
		for e, err := range f.Reader.Scan(s) {
			if left--; left < 0 {
				yield(store.Entry{}, store.ErrSnapshotGone)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestTwoAtOnce: of two copies into one store, the one that began first fails, and what
// is there is whole.
func TestTwoAtOnce(t *testing.T) {
	from, to := openStore(t), openStore(t)
	fill(t, from, 100)
	var once sync.Once
	n := 0
	_, err := transfer.Copy(t.Context(), from, narrow{Store: counting{to, func() {
		if n++; n == 6 {
			once.Do(func() { mustCopy(t, from, to) })
		}
	}}, entries: 9}, transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "another copy") {
		t.Errorf("the copy that was overtaken: %v", err)
	}
	if diff := cmp.Diff(dumpOf(t, from), dumpOf(t, to)); diff != "" {
		t.Errorf("the copy (-source +destination):\n%s", diff)
	}
}

// TestServerRefusesBatches: a destination that takes less than it says gets smaller
// batches.
func TestServerRefusesBatches(t *testing.T) {
	from, to := openStore(t), openStore(t)
	fill(t, from, 100)
	if _, err := transfer.Copy(t.Context(), from, boasting{narrow{Store: to, entries: 5}}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dumpOf(t, from), dumpOf(t, to)); diff != "" {
		t.Errorf("the copy (-source +destination):\n%s", diff)
	}
}

// boasting claims larger limits than it has.
type boasting struct{ narrow }

func (b boasting) Limits() store.Limits { return b.Store.Limits() }
