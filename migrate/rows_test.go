package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// load commits entries, as many in a transaction as fit.
func load(t *testing.T, st store.Store, entries ...store.Entry) {
	t.Helper()
	for len(entries) > 0 {
		n := min(len(entries), 1000)
		err := store.Update(t.Context(), st, func(tx store.Txn) error {
			for _, e := range entries[:n] {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
	}
}

// many are n rows under prefix, "row 0" and so on.
func many(prefix string, n int) []store.Entry {
	entries := make([]store.Entry, n)
	for i := range entries {
		entries[i] = store.Entry{Key: fmt.Appendf(nil, "%s%06d", prefix, i), Value: fmt.Appendf(nil, "row %d", i)}
	}
	return entries
}

// entriesOf returns what a store holds under prefix.
func entriesOf(t *testing.T, st store.Store, prefix string) []store.Entry {
	t.Helper()
	var got []store.Entry
	err := st.View(t.Context(), func(s store.Reader) error {
		for e, err := range s.Scan(store.Scan{Prefix: []byte(prefix)}) {
			if err != nil {
				return err
			}
			e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
			got = append(got, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// one is a registry of a single migration, over stores that hold data already.
func one(up migrate.UpFunc) migrate.Options {
	o := options(migrate.NewRegistry(migrate.Migration{Version: 1, Name: "only", Up: up}))
	o.AllowUnversioned = true
	return o
}

func mustRun(t *testing.T, st store.Store, o migrate.Options) migrate.Report {
	t.Helper()
	report, err := migrate.Up(t.Context(), st, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func suffix(s string) func([]byte) ([]byte, error) {
	return func(v []byte) ([]byte, error) { return append(v, s...), nil }
}

// batchOfRows is as many small rows as Each takes at a time from such a store.
const batchOfRows = 2949

func TestBatchOfRows(t *testing.T) {
	if got := openStore(t).Limits().TxnEntries / 4; got != batchOfRows {
		t.Errorf("a batch has %d rows: mend batchOfRows", got)
	}
}

// wantEntries compares the long way only if there is a difference.
func wantEntries(t *testing.T, want, got []store.Entry) {
	t.Helper()
	same := slices.EqualFunc(want, got, func(a, b store.Entry) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta
	})
	if !same {
		t.Errorf("store (-want +got):\n%s", cmp.Diff(want, got))
	}
}

// TestRewrite rewrites more rows than several batches hold: each once, and no
// others.
func TestRewrite(t *testing.T) {
	const n = 5*batchOfRows + 17
	for _, batches := range []int{0, 1, 2, 7} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			st := openStore(t)
			rows := many("app/", n)
			others := []store.Entry{{Key: []byte("app"), Value: []byte("x")}, {Key: []byte("app0"), Value: []byte("x")}}
			load(t, st, rows...)
			load(t, st, others...)
			var calls atomic.Int64
			o := one(migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
				calls.Add(1)
				return append(v, " new"...), nil
			}))
			o.Batches = batches
			report := mustRun(t, st, o)

			// A batch that is tried again would call it more often.
			if calls.Load() != n {
				t.Errorf("the row function was called %d times for %d rows", calls.Load(), n)
			}
			if a := report.Applied[0]; a.Transactions != 6 || a.KeysWritten != n {
				t.Errorf("history has %d transactions and %d keys, want 6 and %d", a.Transactions, a.KeysWritten, n)
			}
			want := append([]store.Entry{others[0]}, rows...)
			for i := range rows {
				want[i+1].Value = append(want[i+1].Value, " new"...)
			}
			want = append(want, others[1])
			wantEntries(t, want, entriesOf(t, st, "app"))
			if text := contents(t, st); strings.Contains(text, "schema_progress") || strings.Contains(text, "schema_lock") {
				t.Error("a finished migration left its progress or its lock")
			}
		})
	}
}

// TestRewriteIsLossless: expiry and user meta stay, what has expired or is
// deleted does not come back, and a value that stays the same is not written.
func TestRewriteIsLossless(t *testing.T) {
	st := openStore(t)
	future := uint64(time.Now().Add(time.Hour).Unix())
	load(t, st,
		store.Entry{Key: []byte("app/deleted"), Value: []byte("v")},
		store.Entry{Key: []byte("app/empty")},
		store.Entry{Key: []byte("app/expired"), Value: []byte("v"), ExpiresAt: 1},
		store.Entry{Key: []byte("app/meta"), Value: []byte("v"), Meta: 0x7f},
		store.Entry{Key: []byte("app/plain"), Value: []byte("v")},
		store.Entry{Key: []byte("app/same"), Value: []byte("same"), ExpiresAt: future, Meta: 3},
		store.Entry{Key: []byte("app/ttl"), Value: []byte("v"), ExpiresAt: future, Meta: 9},
	)
	remove(t, st, "app/deleted")
	report := mustRun(t, st, one(migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
		switch string(v) {
		case "same":
			return v, nil
		case "v":
			v[0] = 'w' // in place
			return v, nil
		}
		return []byte("was empty"), nil
	})))
	want := []store.Entry{
		{Key: []byte("app/empty"), Value: []byte("was empty")},
		{Key: []byte("app/meta"), Value: []byte("w"), Meta: 0x7f},
		{Key: []byte("app/plain"), Value: []byte("w")},
		{Key: []byte("app/same"), Value: []byte("same"), ExpiresAt: future, Meta: 3},
		{Key: []byte("app/ttl"), Value: []byte("w"), ExpiresAt: future, Meta: 9},
	}
	wantEntries(t, want, entriesOf(t, st, "app/"))
	if n := report.Applied[0].KeysWritten; n != 4 {
		t.Errorf("%d keys written, want 4: one value stays the same", n)
	}
}

// TestEachMovesAndDeletes: a row function moves some rows, deletes some, and
// leaves some alone.
func TestEachMovesAndDeletes(t *testing.T) {
	const n = 2*batchOfRows + 100
	st := openStore(t)
	future := uint64(time.Now().Add(time.Hour).Unix())
	rows := many("app/old/", n)
	for i := range rows {
		rows[i].ExpiresAt, rows[i].Meta = future, byte(i)
	}
	load(t, st, rows...)
	o := one(migrate.Each([]byte("app/old/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		switch e.Meta % 3 {
		case 0:
			return nil
		case 1:
			return tx.Delete(e.Key)
		}
		if err := tx.Delete(e.Key); err != nil {
			return err
		}
		e.Key = append([]byte("app/new/"), e.Key[len("app/old/"):]...)
		return tx.Set(e)
	}))
	mustRun(t, st, o)
	var want []store.Entry
	for _, e := range rows {
		if e.Meta%3 == 2 {
			e.Key = append([]byte("app/new/"), e.Key[len("app/old/"):]...)
			want = append(want, e)
		}
	}
	for _, e := range rows {
		if e.Meta%3 == 0 {
			want = append(want, e)
		}
	}
	wantEntries(t, want, entriesOf(t, st, "app/"))
}

// TestEachOfTheWholeStore visits everything but the schema's own records.
func TestEachOfTheWholeStore(t *testing.T) {
	st := openStore(t)
	load(t, st, many("zzz/", 10)...)
	load(t, st, many("a/", 10)...)
	ms := []migrate.Migration{
		{Version: 1, Name: "a", Up: set("m/1", "row")},
		{Version: 2, Name: "b", Up: migrate.Rewrite(nil, suffix("!"))},
	}
	o := options(migrate.NewRegistry(ms...))
	o.AllowUnversioned = true
	report := mustRun(t, st, o)
	if n := report.Applied[1].KeysWritten; n != 21 {
		t.Errorf("%d keys written, want 21", n)
	}
	mustRun(t, st, o) // the history is whole
}

// TestEachAhead: a key that the scan would come to is refused, whether the row
// function drops the error or not; one behind it is not.
func TestEachAhead(t *testing.T) {
	tests := map[string]struct {
		prefix  string
		key     func(store.Entry) []byte
		want    error
		deletes bool
	}{
		"delete ahead":       {"app/", func(e store.Entry) []byte { return append(e.Key[:len(e.Key)-1:len(e.Key)-1], '2') }, migrate.ErrAhead, true},
		"delete behind":      {"app/", func(store.Entry) []byte { return []byte("app/000000") }, nil, true},
		"ahead":              {"app/", func(e store.Entry) []byte { return append(e.Key, '+') }, migrate.ErrAhead, false},
		"ahead, whole store": {"", func(e store.Entry) []byte { return append([]byte("x"), e.Key...) }, migrate.ErrAhead, false},
		"behind":             {"app/", func(e store.Entry) []byte { return append([]byte("app/!"), e.Key...) }, nil, false},
		"itself":             {"app/", func(e store.Entry) []byte { return e.Key }, nil, false},
		"beyond the prefix":  {"app/", func(e store.Entry) []byte { return append([]byte("x"), e.Key...) }, nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			load(t, st, many("app/", 3)...)
			before := contents(t, st)
			_, err := migrate.Up(t.Context(), st, one(migrate.Each([]byte(tt.prefix), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
				key := tt.key(e)
				if tt.deletes && !bytes.Equal(key, e.Key) {
					_ = tx.Delete(key) // the mistake
				} else if !tt.deletes {
					e.Key = key
					_ = tx.Set(e)
				}
				return nil
			})))
			if !errors.Is(err, tt.want) {
				t.Fatalf("error = %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(before, contents(t, st)); tt.want != nil && diff != "" {
				t.Errorf("store (-before +after):\n%s", diff)
			}
		})
	}
}

// TestTwoPhaseMove is what ErrAhead tells an author to do.
func TestTwoPhaseMove(t *testing.T) {
	const n = batchOfRows + 10
	move := func(from, to string) migrate.UpFunc {
		return migrate.Each([]byte(from), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			if err := tx.Delete(e.Key); err != nil {
				return err
			}
			e.Key = append([]byte(to), e.Key[len(from):]...)
			return tx.Set(e)
		})
	}
	st := openStore(t)
	rows := many("app/", n)
	load(t, st, rows...)
	mustRun(t, st, one(migrate.Phases(move("app/", "tmp/"), move("tmp/", "app/0"))))
	for i := range rows {
		rows[i].Key = append([]byte("app/0"), rows[i].Key[len("app/"):]...)
	}
	wantEntries(t, rows, append(entriesOf(t, st, "app/"), entriesOf(t, st, "tmp/")...))
}

// TestBatchIsHalved: rows that grow more than a batch foresees are written in
// smaller batches, and one that fits in no transaction is named.
func TestBatchIsHalved(t *testing.T) {
	st := openStore(t)
	const n = 3000
	load(t, st, many("app/", n)...)
	limits := st.Limits()
	big := make([]byte, limits.TxnBytes/700)
	grow := func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		e.Value = append(e.Value, big...)
		return tx.Set(e)
	}
	report := mustRun(t, st, one(migrate.Each([]byte("app/"), grow)))
	if got := report.Applied[0]; got.KeysWritten != n || got.Transactions < 5 {
		t.Errorf("%d rows written in %d transactions, want %d in 5 or more", got.KeysWritten, got.Transactions, n)
	}
	for _, e := range entriesOf(t, st, "app/") {
		if !bytes.HasPrefix(e.Value, []byte("row ")) || !bytes.HasSuffix(e.Value, big) || bytes.Contains(e.Value[:20], big[:20]) {
			t.Fatalf("%q is not changed once: %d bytes", e.Key, len(e.Value))
		}
	}

	st = openStore(t)
	load(t, st, many("app/", 100)...)
	_, err := migrate.Up(t.Context(), st, one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		if string(e.Key) != "app/000042" {
			return tx.Set(store.Entry{Key: e.Key, Value: []byte("new")})
		}
		for i := range limits.TxnEntries + 1 {
			_ = tx.Set(store.Entry{Key: fmt.Appendf(nil, "index/%d", i)}) // an author who drops errors
		}
		return nil
	})))
	var visit *store.Error
	if !errors.Is(err, store.ErrTxnTooBig) || !errors.As(err, &visit) || string(visit.Key) != "app/000042" {
		t.Fatalf("error = %v, want ErrTxnTooBig with the key of the entry", err)
	}
	if strings.Contains(err.Error(), "000042") {
		t.Errorf("the error's text shows the key: %v", err)
	}
}

func TestDropPrefix(t *testing.T) {
	const n = 2*batchOfRows + 1
	st := openStore(t)
	load(t, st, many("app/old/", n)...)
	load(t, st, many("app/", 3)...)
	want := entriesOf(t, st, "app/0")
	report := mustRun(t, st, one(migrate.DropPrefix([]byte("app/old/"))))
	wantEntries(t, want, entriesOf(t, st, "app/"))
	if a := report.Applied[0]; a.KeysDeleted != n || a.Transactions != 3 {
		t.Errorf("%d keys deleted in %d transactions, want %d in 3", a.KeysDeleted, a.Transactions, n)
	}
	if _, err := migrate.Up(t.Context(), openStore(t), one(migrate.DropPrefix(nil))); err == nil {
		t.Error("DropPrefix of everything succeeded")
	}
}

func TestIndex(t *testing.T) {
	rows, index := store.MustPartition("app"), store.MustPartition("app.by_value")
	entry := func(id, row []byte) (key, value []byte, err error) {
		if bytes.HasSuffix(row, []byte("3")) {
			return nil, nil, nil // not indexed
		}
		return row, id, nil
	}
	st := openStore(t)
	const n = batchOfRows + 5
	future := uint64(time.Now().Add(time.Hour).Unix())
	data := many("app/", n)
	data[7].ExpiresAt = future
	load(t, st, data...)
	load(t, st, store.Entry{Key: []byte("app.by_value/row 1"), Value: []byte("000001")}) // there already
	mustRun(t, st, one(migrate.Index(rows, index, entry)))
	var want []store.Entry
	for i, e := range data {
		if i%10 != 3 {
			want = append(want, store.Entry{Key: append([]byte("app.by_value/"), e.Value...), Value: e.Key[len("app/"):], ExpiresAt: e.ExpiresAt})
		}
	}
	slices.SortFunc(want, func(a, b store.Entry) int { return bytes.Compare(a.Key, b.Key) })
	wantEntries(t, want, entriesOf(t, st, "app.by_value/"))

	for _, second := range []int{1, n - 1} { // in the same batch and in a later one
		st := openStore(t)
		data := many("app/", n)
		data[second].Value = data[0].Value
		load(t, st, data...)
		_, err := migrate.Up(t.Context(), st, one(migrate.Index(rows, index, entry)))
		var visit *store.Error
		if !errors.Is(err, migrate.ErrDuplicate) || !errors.As(err, &visit) || !bytes.Equal(visit.Key, data[second].Key) {
			t.Errorf("two rows with one key: error = %v, want ErrDuplicate with the key of row %d", err, second)
		}
	}
}

// TestIndexMany: a row has an entry for each of its words, and none without one.
func TestIndexMany(t *testing.T) {
	rows, index := store.MustPartition("app"), store.MustPartition("app.by_word")
	boom := errors.New("boom")
	words := func(id, row []byte, add func(key, value []byte)) error {
		if string(row) == "bad" {
			return boom
		}
		for word := range bytes.FieldsSeq(row) {
			add(slices.Concat(word, []byte(" "), id), nil)
		}
		return nil
	}
	future := uint64(time.Now().Add(time.Hour).Unix())
	row := func(id, text string, expires uint64) store.Entry {
		return store.Entry{Key: []byte("app/" + id), Value: []byte(text), ExpiresAt: expires}
	}
	entry := func(word, id string, expires uint64) store.Entry {
		return store.Entry{Key: []byte("app.by_word/" + word + " " + id), Value: []byte{}, ExpiresAt: expires}
	}

	st := openStore(t)
	load(t, st, row("1", "red boat", future), row("2", "", 0), row("3", "boat boat", 0))
	mustRun(t, st, one(migrate.IndexMany(rows, index, words)))
	wantEntries(t, []store.Entry{entry("boat", "1", future), entry("boat", "3", 0), entry("red", "1", future)}, entriesOf(t, st, "app.by_word/"))

	// More entries than a transaction holds, though the rows are few.
	st = openStore(t)
	load(t, st, many("app/", 60)...) // of two words each
	if _, err := migrate.Up(t.Context(), narrow{st, 40}, one(migrate.IndexMany(rows, index, words))); err != nil {
		t.Fatal(err)
	}
	if n := len(entriesOf(t, st, "app.by_word/")); n != 120 {
		t.Errorf("the index has %d entries, want 120", n)
	}

	// The error of one entry is that of the row, and so is the function's own.
	for name, tt := range map[string]struct {
		rows    []store.Entry
		entries func(id, row []byte, add func(key, value []byte)) error
		want    error
	}{
		"two values": {[]store.Entry{row("1", "a", 0)}, func(id, row []byte, add func(key, value []byte)) error {
			add([]byte("k"), []byte("1"))
			add([]byte("k"), []byte("2"))
			add([]byte("l"), []byte("1"))
			return nil
		}, migrate.ErrDuplicate},
		"bad row": {[]store.Entry{row("0", "good", 0), row("1", "bad", 0)}, words, boom},
	} {
		st := openStore(t)
		load(t, st, tt.rows...)
		_, err := migrate.Up(t.Context(), st, one(migrate.IndexMany(rows, index, tt.entries)))
		if e, ok := errors.AsType[*store.Error](err); !errors.Is(err, tt.want) || !ok || string(e.Key) != "app/1" {
			t.Errorf("%s: error = %v, want %v with the key of the row", name, err, tt.want)
		}
		wantEntries(t, nil, entriesOf(t, st, "app.by_word/"))
	}
}

// TestPhases: each phase sees all that the one before it wrote, also the last of
// its batches, and progress and status say which phase it is.
func TestPhases(t *testing.T) {
	const n = 2*batchOfRows + 5
	st := openStore(t)
	load(t, st, many("app/", n)...)
	boom := errors.New("boom")
	phases := func(fail bool) migrate.UpFunc {
		count := 0
		return migrate.Phases(
			migrate.Rewrite([]byte("app/"), suffix(" new")),
			func(_ context.Context, tx *migrate.Tx) error {
				count = 0
				for e, err := range tx.Scan(store.Scan{Prefix: []byte("app/")}) {
					if err != nil {
						return err
					}
					if !bytes.HasSuffix(e.Value, []byte(" new")) {
						return fmt.Errorf("%q is not rewritten", e.Key)
					}
					count++
				}
				if fail {
					return boom
				}
				return tx.Set(store.Entry{Key: []byte("count"), Value: fmt.Append(nil, count)})
			},
			migrate.DropPrefix([]byte("app/00")),
		)
	}
	_, err := migrate.Up(t.Context(), st, one(phases(true)))
	if !errors.Is(err, boom) {
		t.Fatalf("error = %v, want that of the second phase", err)
	}
	status := func() *migrate.Progress {
		r, err := migrate.New(st, one(phases(false)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Status(t.Context())
		if err != nil || s.Version != 0 || s.Progress == nil {
			t.Fatalf("Status = %+v, %v; want v0 and progress", s, err)
		}
		return s.Progress
	}
	if p := status(); p.Phase != 2 || p.Transactions != 3 || p.KeysWritten != n {
		t.Errorf("progress = %+v, want 3 transactions and phase 2", p)
	}
	for _, changed := range []migrate.UpFunc{migrate.DropPrefix([]byte("app/")), migrate.Phases(migrate.DropPrefix([]byte("app/")))} {
		_, err := migrate.Up(t.Context(), st, one(changed))
		if err == nil || !strings.Contains(err.Error(), "interrupted in phase 2 and has 1 now") {
			t.Errorf("a program with fewer phases: error = %v, want one that says so", err)
		}
	}
	report := mustRun(t, st, one(phases(false)))
	if a := report.Applied[0]; a.Transactions != 7 || a.KeysWritten != n+1 || a.KeysDeleted != n {
		t.Errorf("history = %+v, want 7 transactions", a)
	}
	want := []store.Entry{{Key: []byte("count"), Value: fmt.Append(nil, n)}}
	wantEntries(t, want, append(entriesOf(t, st, "count"), entriesOf(t, st, "app/")...))
}

// TestUpsThatMakeNoSense: each is an error that says what is wrong, and nothing
// is written.
func TestUpsThatMakeNoSense(t *testing.T) {
	each := migrate.Rewrite([]byte("app/"), suffix("!"))
	tests := map[string]struct {
		up   migrate.UpFunc
		want string
	}{
		"nested phases": {migrate.Phases(migrate.Phases(each)), "none that is Phases itself"},
		"no phases":     {migrate.Phases(), "one phase or more"},
		"no function":   {migrate.Each([]byte("app/"), nil), "is nil"},
		"two builders": {func(ctx context.Context, tx *migrate.Tx) error {
			return errors.Join(each(ctx, tx), each(ctx, tx))
		}, "in one of Phases"},
		"a write and a builder": {func(ctx context.Context, tx *migrate.Tx) error {
			return errors.Join(tx.Set(store.Entry{Key: []byte("x")}), each(ctx, tx))
		}, "in one of Phases"},
		"a builder and a write": {func(ctx context.Context, tx *migrate.Tx) error {
			return errors.Join(each(ctx, tx), tx.Set(store.Entry{Key: []byte("x")}))
		}, "in one of Phases"},
		"a builder and a cursor": {func(ctx context.Context, tx *migrate.Tx) error {
			tx.Continue([]byte("x"))
			return each(ctx, tx)
		}, "in one of Phases"},
		"a panic": {migrate.Each([]byte("app/"), func(context.Context, *migrate.Tx, store.Entry) error { panic("boom") }), "panic: boom"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			load(t, st, many("app/", 3)...)
			before := contents(t, st)
			_, err := migrate.Up(t.Context(), st, one(tt.up))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one that says %q", err, tt.want)
			}
			if diff := cmp.Diff(before, contents(t, st)); diff != "" {
				t.Errorf("store (-before +after):\n%s", diff)
			}
		})
	}
}

// TestSerial: under Serial a row function may keep state and see what earlier
// batches wrote.
func TestSerial(t *testing.T) {
	const n = 3*batchOfRows + 1
	st := openStore(t)
	load(t, st, many("app/", n)...)
	seen := 0 // the race detector watches it
	mustRun(t, st, one(migrate.Serial(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		seen++
		return tx.Set(store.Entry{Key: []byte("last"), Value: e.Key})
	}))))
	if seen != n {
		t.Errorf("the row function saw %d rows, want %d", seen, n)
	}
}

// TestBatchesConflict: a row function that counts in one key makes the batches
// disturb each other; none of its increments is lost.
func TestBatchesConflict(t *testing.T) {
	const n = 4*batchOfRows + 1
	st := openStore(t)
	load(t, st, many("app/", n)...)
	load(t, st, store.Entry{Key: []byte("count"), Value: []byte("0")})
	mustRun(t, st, one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		if e.Key[len(e.Key)-1] != '0' {
			return nil
		}
		return tx.Update([]byte("count"), func(v []byte) ([]byte, error) {
			var c int
			_, err := fmt.Sscan(string(v), &c)
			return fmt.Append(nil, c+1), err
		})
	})))
	want := fmt.Sprint((n + 9) / 10)
	if got := string(entriesOf(t, st, "count")[0].Value); got != want {
		t.Errorf("count = %s, want %s", got, want)
	}
}

// TestConcurrentBatches: several runners on one store take turns, and each row
// is changed once.
func TestConcurrentBatches(t *testing.T) {
	const n = 6*batchOfRows + 1
	st := openStore(t)
	rows := many("app/", n)
	load(t, st, rows...)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = migrate.Up(context.Background(), st, one(migrate.Rewrite([]byte("app/"), suffix("+"))))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		rows[i].Value = append(rows[i].Value, '+')
	}
	wantEntries(t, rows, entriesOf(t, st, "app/"))
}

// TestInterruptedWorkIsKept: a run that is interrupted and resumed calls the row
// function again only for what was in memory, and every other row once.
func TestInterruptedWorkIsKept(t *testing.T) {
	const n, rowsOfBatch = 1000, 10
	for _, batches := range []int{1, 3} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			st := narrow{openStore(t), 4 * rowsOfBatch}
			load(t, st, many("app/", n)...)
			var calls atomic.Int64
			fail := true
			boom := errors.New("boom")
			o := one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
				calls.Add(1)
				if fail && string(e.Key) == "app/000509" { // the last of its batch
					return boom
				}
				return tx.Set(e)
			}))
			o.Batches = batches
			if _, err := migrate.Up(t.Context(), st, o); !errors.Is(err, boom) {
				t.Fatalf("error = %v, want that of the row", err)
			}
			fail = false
			mustRun(t, st, o)
			if again := calls.Load() - n; again > int64(batches*rowsOfBatch) {
				t.Errorf("the row function was called %d times more than there are rows, want at most %d batches of %d", again, batches, rowsOfBatch)
			}
		})
	}
}

// TestRetriedFailureSaysHowFarItCame: also if the second run commits nothing.
func TestRetriedFailureSaysHowFarItCame(t *testing.T) {
	st := narrow{openStore(t), 40}
	load(t, st, many("app/", 50)...)
	boom := errors.New("boom")
	o := one(migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
		if string(v) == "row 25" {
			return nil, boom
		}
		return append(v, '!'), nil
	}))
	for run := range 2 {
		_, err := migrate.Up(t.Context(), st, o)
		failed, ok := errors.AsType[*migrate.MigrationError](err)
		if !ok || failed.Progress == nil || failed.Progress.Transactions != 2 || !strings.Contains(err.Error(), "has 2 transactions") {
			t.Errorf("run %d: error = %v, want one that says what is done", run, err)
		}
	}
}

// TestWholeStoreSparesOtherSchemas: their records are not rows, and no migration
// writes them.
func TestWholeStoreSparesOtherSchemas(t *testing.T) {
	st := openStore(t)
	other := one(set("b.rows/1", "one"))
	other.Schema = "b"
	mustRun(t, st, other)
	load(t, st, store.Entry{Key: []byte("b:schema_of_mine"), Value: []byte("a row")})
	o := one(migrate.Rewrite(nil, suffix("!")))
	o.Schema = "a"
	if n := mustRun(t, st, o).Applied[0].KeysWritten; n != 2 {
		t.Errorf("%d keys written, want the row and the key that looks like a record", n)
	}
	mustRun(t, st, other) // is not damaged
	for _, key := range []string{"b:schema_version", "b:schema_history:0000000001", "b:schema_lock"} {
		_, err := migrate.Up(t.Context(), openStore(t), one(set(key, "x")))
		if !errors.Is(err, migrate.ErrReservedKey) {
			t.Errorf("write of %s: error = %v, want ErrReservedKey", key, err)
		}
	}
}

// TestLimitsOfAStep: what Tx.Limits says fits, in a step of several.
func TestLimitsOfAStep(t *testing.T) {
	for _, last := range []bool{true, false} {
		st := volatile{openStore(t)}
		mustRun(t, st, one(func(_ context.Context, tx *migrate.Tx) error {
			if !last && tx.Cursor() == nil {
				tx.Continue([]byte("more"))
			}
			for i := range tx.Limits().TxnEntries {
				if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "%d", i)}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// TestHalvingIsRemembered: rows that write much do not make every batch overflow
// first.
func TestHalvingIsRemembered(t *testing.T) {
	const n, each = 2000, 100
	st := narrow{openStore(t), 4000} // 40 rows at most, of batches of 1000
	load(t, st, many("app/", n)...)
	var calls atomic.Int64
	o := one(migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		calls.Add(1)
		for i := range each - 1 {
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "index/%s/%d", e.Key, i)}); err != nil {
				return err
			}
		}
		return nil
	}))
	o.Batches = 3
	mustRun(t, limited{st, 4000}, o)
	if calls.Load() > 3*n {
		t.Errorf("the row function was called %d times for %d rows", calls.Load(), n)
	}
}

// limited is a store that refuses transactions beyond its limits, as narrow does
// not.
type limited struct {
	store.Store
	entries int
}

func (l limited) Update(ctx context.Context, fn func(store.Txn) error) error {
	return l.Store.Update(ctx, func(txn store.Txn) error {
		t := &limitedTxn{Txn: txn, left: l.entries}
		if err := fn(t); err != nil {
			return err
		}
		return t.failed
	})
}

type limitedTxn struct {
	store.Txn
	left   int
	failed error
}

func (t *limitedTxn) Set(e store.Entry) error {
	if t.left--; t.left < 0 && t.failed == nil {
		t.failed = &store.Error{Op: "set", Key: e.Key, Err: store.ErrTxnTooBig}
	}
	if t.failed != nil {
		return t.failed
	}
	return t.Txn.Set(e)
}

// TestElsewhere: a builder does not go on from where something else stopped, which
// would pass over its rows.
func TestElsewhere(t *testing.T) {
	broken := errors.New("broken")
	for name, before := range map[string]migrate.UpFunc{
		"a builder with another prefix": migrate.Each([]byte("b/"), func(_ context.Context, _ *migrate.Tx, e store.Entry) error {
			if string(e.Value) == fmt.Sprintf("row %d", batchOfRows) {
				return broken
			}
			return nil
		}),
		"a step of its own": func(_ context.Context, tx *migrate.Tx) error {
			if tx.Cursor() != nil {
				return broken
			}
			tx.Continue([]byte("done"))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			load(t, st, many("a/", 10)...)
			load(t, st, many("b/", batchOfRows+1)...)
			if _, err := migrate.Up(t.Context(), st, one(before)); !errors.Is(err, broken) {
				t.Fatalf("error = %v, want that of the migration", err)
			}
			stopped := contents(t, st)
			if _, err := migrate.Up(t.Context(), st, one(migrate.Rewrite([]byte("a/"), suffix("!")))); err == nil || !strings.Contains(err.Error(), "must not change") {
				t.Errorf("a changed migration: error = %v, want a refusal", err)
			}
			if diff := cmp.Diff(stopped, contents(t, st)); diff != "" {
				t.Errorf("store (-as it was left +got):\n%s", diff)
			}
		})
	}
}

// A panicky store panics in its transactions from the one number at on.
type panicky struct {
	store.Store
	at    int64
	begun *atomic.Int64
}

func (p panicky) Update(ctx context.Context, fn func(store.Txn) error) error {
	if p.begun.Add(1) >= p.at {
		panic("boom")
	}
	return p.Store.Update(ctx, fn)
}

// TestStorePanics: a panic of the store where nobody can recover it, among batches that
// overlap, is an error.
func TestStorePanics(t *testing.T) {
	st := narrow{openStore(t), 40} // batches of ten
	load(t, st, many("app/", 100)...)
	o := one(migrate.Rewrite([]byte("app/"), suffix("!")))
	o.Batches = 3
	_, err := migrate.Up(t.Context(), panicky{st, 4, new(atomic.Int64)}, o)
	p, ok := errors.AsType[*migrate.PanicError](err)
	if !ok || p.Value != "boom" {
		t.Errorf("Up = %v, want a PanicError with %q", err, "boom")
	}
	mustRun(t, st, o)
}
