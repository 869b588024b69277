package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

func small(o badger.Options) badger.Options {
	return o.WithMemTableSize(8 << 20).WithValueThreshold(64 << 10).WithValueLogFileSize(16 << 20)
}

// openStore opens an empty Badger store on disk.
func openStore(t testing.TB) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: small})
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

func put(t *testing.T, st store.Store, key string, value []byte) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte(key), Value: value})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, st store.Store, key string) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error { return tx.Delete([]byte(key)) })
	if err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, st store.Store) string {
	t.Helper()
	var out bytes.Buffer
	err := st.View(t.Context(), func(s store.Reader) error { return dump.Write(&out, s, store.Scan{}) })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// lines is a log that keeps "LEVEL message" of each record.
type lines struct {
	mu  sync.Mutex
	got []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, r.Level.String()+" "+r.Message)
	return nil
}

var noon = time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC)

func options(r *migrate.Registry) migrate.Options {
	return migrate.Options{
		Registry: r, Program: "test v1", Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return noon },
	}
}

func up(t *testing.T, st store.Store, ms []migrate.Migration) (migrate.Report, error) {
	t.Helper()
	return migrate.Up(t.Context(), st, options(migrate.NewRegistry(ms...)))
}

func mustUp(t *testing.T, st store.Store, ms []migrate.Migration) {
	t.Helper()
	if _, err := up(t, st, ms); err != nil {
		t.Fatal(err)
	}
}

// scenario are the two versions of the log lines in the specification.
var scenario = []migrate.Migration{
	{Version: 1, Name: "initial_schema", Description: "creating 7 system tables", Up: set("app/1", "one")},
	{Version: 2, Name: "add_system_metrics", Description: "adding system.metrics table", Up: set("app/2", "two")},
}

func set(key, value string) migrate.UpFunc {
	return func(_ context.Context, tx *migrate.Tx) error {
		return tx.Set(store.Entry{Key: []byte(key), Value: []byte(value)})
	}
}

func TestScenarios(t *testing.T) {
	st := openStore(t)
	run := func(known int) (log []string, report migrate.Report, err error) {
		l := new(lines)
		o := options(migrate.NewRegistry(scenario[:known]...))
		o.Logger = slog.New(l)
		report, err = migrate.Up(t.Context(), st, o)
		return l.got, report, err
	}
	steps := []struct {
		name     string
		known    int
		log      []string
		from, to uint32
		err      error
	}{
		{"forgotten import", 0, []string{
			"WARN system schema has no migrations: a program imports the package that registers them",
			"DEBUG system schema version v0 up-to-date",
		}, 0, 0, nil},
		{"first initialization", 1, []string{
			"INFO system schema version not found - initializing at v1",
			"INFO migrating v0 -> v1: creating 7 system tables",
			"INFO system schema version updated to v1",
		}, 0, 1, nil},
		{"unchanged restart", 1, []string{"DEBUG system schema version v1 up-to-date"}, 1, 1, nil},
		{"upgrade", 2, []string{
			"INFO system schema upgrade detected: v1 -> v2",
			"INFO migrating v1 -> v2: adding system.metrics table",
			"INFO system schema version updated to v2",
		}, 1, 2, nil},
		{"downgrade", 1, []string{"ERROR system schema downgrade detected: v2 -> v1 (stored > current)"}, 2, 2,
			&migrate.DowngradeError{Schema: "system", Stored: 2, Known: 1, WrittenBy: "test v1"}},
	}
	for _, s := range steps {
		before := contents(t, st)
		log, report, err := run(s.known)
		if diff := cmp.Diff(s.log, log); diff != "" {
			t.Errorf("%s: log (-want +got):\n%s", s.name, diff)
		}
		if diff := cmp.Diff(s.err, err); diff != "" {
			t.Errorf("%s: error (-want +got):\n%s", s.name, diff)
		}
		if report.From != s.from || report.To != s.to {
			t.Errorf("%s: report v%d -> v%d, want v%d -> v%d", s.name, report.From, report.To, s.from, s.to)
		}
		if s.from == s.to {
			if diff := cmp.Diff(before, contents(t, st)); diff != "" {
				t.Errorf("%s changed the store (-before +after):\n%s", s.name, diff)
			}
		}
	}
}

// TestOnDisk freezes the bytes that docs/on-disk-format.md promises.
func TestOnDisk(t *testing.T) {
	st := openStore(t)
	mustUp(t, st, scenario)
	want := `"app/1" hex:6f6e65
"app/2" hex:74776f
"system:schema_history:0000000001" {"f": "4b4fabd5023afa7f", "name": "initial_schema", "program": "test v1", "started": 1736942400000, "version": 1, "finished": 1736942400000, "description": "creating 7 system tables", "keys_deleted": 0, "keys_written": 1, "transactions": 1}
"system:schema_history:0000000002" {"f": "5facb36055e546c3", "name": "add_system_metrics", "program": "test v1", "started": 1736942400000, "version": 2, "finished": 1736942400000, "description": "adding system.metrics table", "keys_deleted": 0, "keys_written": 1, "transactions": 1}
"system:schema_version" hex:00000002
`
	if diff := cmp.Diff(want, contents(t, st)); diff != "" {
		t.Errorf("store after v2 (-want +got):\n%s", diff)
	}
}

func TestHistory(t *testing.T) {
	st := openStore(t)
	mustUp(t, st, scenario)
	r, err := migrate.New(st, options(migrate.NewRegistry(scenario...)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []migrate.Applied{
		{Version: 1, Name: "initial_schema", Description: "creating 7 system tables", Started: noon, Finished: noon, Transactions: 1, KeysWritten: 1, Program: "test v1", ReadableFrom: 1, WritableFrom: 1},
		{Version: 2, Name: "add_system_metrics", Description: "adding system.metrics table", Started: noon, Finished: noon, Transactions: 1, KeysWritten: 1, Program: "test v1", ReadableFrom: 2, WritableFrom: 2},
	}
	for i := range got {
		got[i].Fingerprint = migrate.Fingerprint{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("History (-want +got):\n%s", diff)
	}
}

// TestRefused brings a store into each state that a program must not touch and
// checks the error, and that nothing changed.
func TestRefused(t *testing.T) {
	const version, history = "system:schema_version", "system:schema_history:000000000"
	be := func(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
	progress := func(v byte) []byte { return append([]byte("\xa2\x64name\x65later\x67version"), v) }
	fresh := func(*testing.T, store.Store) {}
	tests := []struct {
		name    string
		prepare func(*testing.T, store.Store) // of an empty store
		current bool                          // run the scenario first
		spoil   func(*testing.T, store.Store)
		want    error
	}{
		{name: "v999", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, version, be(999)) }, want: &migrate.DowngradeError{}},
		{name: "v4294967295", prepare: func(t *testing.T, st store.Store) { put(t, st, version, be(1<<32-1)) }, want: &migrate.DowngradeError{}},
		{name: "version without history", current: true, spoil: func(t *testing.T, st store.Store) { remove(t, st, history+"2") }, want: &migrate.CorruptError{}},
		{name: "only a version", prepare: func(t *testing.T, st store.Store) { put(t, st, version, be(1)) }, want: &migrate.CorruptError{}},
		{name: "history without version", current: true, spoil: func(t *testing.T, st store.Store) { remove(t, st, version) }, want: &migrate.CorruptError{}},
		{name: "catalog without version", prepare: func(t *testing.T, st store.Store) { put(t, st, "system:table:users", nil) }, want: &migrate.CorruptError{}},
		{name: "v0 with history", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, version, be(0)) }, want: &migrate.CorruptError{}},
		{name: "history beyond version", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, version, be(1)) }, want: &migrate.CorruptError{}},
		{name: "hole in history", current: true, spoil: func(t *testing.T, st store.Store) {
			put(t, st, version, be(1))
			remove(t, st, history+"1")
		}, want: &migrate.CorruptError{}},
		{name: "damaged history", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, history+"2", []byte("x")) }, want: &migrate.CorruptError{}},
		{name: "empty history record", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, history+"2", nil) }, want: &migrate.CorruptError{}},
		{name: "damaged progress", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, "system:schema_progress", []byte{0xff}) }, want: &migrate.CorruptError{}},
		{name: "progress of no next version", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, "system:schema_progress", progress(2)) }, want: &migrate.CorruptError{}},
		{name: "progress of a newer program", current: true, spoil: func(t *testing.T, st store.Store) { put(t, st, "system:schema_progress", progress(3)) }, want: &migrate.UnderWayError{}},
		{name: "another's data", prepare: func(t *testing.T, st store.Store) { put(t, st, "session/1", []byte("x")) }, want: migrate.ErrUnversioned},
		{name: "another's data under our name", prepare: func(t *testing.T, st store.Store) { put(t, st, "system.users/1", []byte("x")) }, want: migrate.ErrUnversioned},
		{name: "renamed", prepare: func(t *testing.T, st store.Store) { mustUp(t, st, ladder("initial_schema", "other")) }, want: &migrate.RenamedError{}},
		{name: "renamed long ago", prepare: func(t *testing.T, st store.Store) { mustUp(t, st, ladder("other", "add_system_metrics")) }, want: &migrate.RenamedError{}},
		{name: "renamed, more pending", prepare: func(t *testing.T, st store.Store) { mustUp(t, st, ladder("other")) }, want: &migrate.RenamedError{}},
	}
	for n := range 9 {
		if n != 4 {
			tests = append(tests, struct {
				name    string
				prepare func(*testing.T, store.Store)
				current bool
				spoil   func(*testing.T, store.Store)
				want    error
			}{name: fmt.Sprintf("version of %d bytes", n), prepare: func(t *testing.T, st store.Store) { put(t, st, version, make([]byte, n)) }, want: &migrate.CorruptError{}})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := openStore(t)
			prepare, spoil := tt.prepare, tt.spoil
			if prepare == nil {
				prepare = fresh
			}
			if spoil == nil {
				spoil = fresh
			}
			prepare(t, st)
			if tt.current {
				mustUp(t, st, scenario)
			}
			spoil(t, st)
			before := contents(t, st)
			_, err := up(t, st, scenario)
			if !errors.Is(err, migrate.ErrRefused) {
				t.Errorf("error %v does not match ErrRefused", err)
			}
			if diff := cmp.Diff(fmt.Sprintf("%T", tt.want), fmt.Sprintf("%T", innermost(err, tt.want))); diff != "" {
				t.Errorf("error %v: type (-want +got):\n%s", err, diff)
			}
			if _, corrupt := tt.want.(*migrate.CorruptError); corrupt && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("error %v does not match store.ErrCorrupt", err)
			}
			if diff := cmp.Diff(before, contents(t, st)); diff != "" {
				t.Errorf("a refused store changed (-before +after):\n%s", diff)
			}
		})
	}
}

// innermost returns want if err matches it, and otherwise err.
func innermost(err, want error) error {
	if errors.Is(err, want) {
		return want
	}
	return err
}

func TestRefusalTexts(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want []string
	}{
		{&migrate.DowngradeError{Schema: "system", Stored: 999, Known: 2, WrittenBy: "app v9"},
			[]string{"cannot downgrade system schema from v999 to v2", "by app v9", "nothing was changed", "backup"}},
		{&migrate.CorruptError{Schema: "system", Key: []byte("secret"), Reason: "its version has 3 bytes instead of 4"},
			[]string{"system schema is corrupt", "3 bytes", "nothing was changed"}},
		{&migrate.RenamedError{Schema: "app", Version: 2, Stored: "ours", Known: "theirs"}, []string{`"ours"`, `"theirs"`, "v2", "nothing was changed"}},
		{&migrate.UnderWayError{Schema: "app", Version: 3, Name: "later", Known: 2}, []string{"v3", "later", "v2", "nothing was changed"}},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.err.Error(), want) {
				t.Errorf("%T: %q lacks %q", tt.err, tt.err, want)
			}
		}
		if strings.Contains(tt.err.Error(), "secret") {
			t.Errorf("%T: %q tells a key", tt.err, tt.err)
		}
	}
}

func TestAllowUnversioned(t *testing.T) {
	st := openStore(t)
	put(t, st, "session/1", []byte("x"))
	o := options(migrate.NewRegistry(scenario...))
	o.AllowUnversioned = true
	report, err := migrate.Up(t.Context(), st, o)
	if err != nil || report.From != 0 || report.To != 2 {
		t.Errorf("Up = v%d -> v%d, %v; want v0 -> v2", report.From, report.To, err)
	}
}

func TestStoredV0IsAnUpgrade(t *testing.T) {
	st := openStore(t)
	put(t, st, "system:schema_version", make([]byte, 4))
	l := new(lines)
	o := options(migrate.NewRegistry(scenario...))
	o.Logger = slog.New(l)
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("INFO system schema upgrade detected: v0 -> v2", l.got[0]); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestSeveralSchemasInOneStore(t *testing.T) {
	st := openStore(t)
	schemas := map[string]uint32{"system": 2, "app": 1, "a-b_9": 3}
	for name, n := range schemas {
		o := options(migrate.NewRegistry(ladder("a", "b", "c")[:n]...))
		o.Schema = name
		if report, err := migrate.Up(t.Context(), st, o); err != nil || report.To != n {
			t.Fatalf("schema %s: Up = v%d, %v; want v%d", name, report.To, err, n)
		}
		put(t, st, name+".rows/1", []byte("x"))
		put(t, st, name+"/1", []byte("x"))
	}
	for name, n := range schemas {
		o := options(migrate.NewRegistry(ladder("a", "b", "c")[:n]...))
		o.Schema = name
		r, err := migrate.New(st, o)
		if err != nil {
			t.Fatal(err)
		}
		status, err := r.Status(t.Context())
		if err != nil || status.Version != n || len(status.Pending) != 0 {
			t.Errorf("schema %s: Status = %+v, %v; want v%d and nothing pending", name, status, err, n)
		}
	}
	for _, bad := range []string{"A", "1a", "a.b", "a:b", "a/b", "é", strings.Repeat("a", 65)} {
		if _, err := migrate.New(st, migrate.Options{Schema: bad, Registry: migrate.NewRegistry()}); err == nil {
			t.Errorf("schema name %q was accepted", bad)
		}
	}
}

// failing are Ups that must leave the store as it was, at v1.
func TestFailedMigration(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name string
		up   migrate.UpFunc
		want error
		text string
	}{
		{"error", func(ctx context.Context, tx *migrate.Tx) error {
			return errors.Join(set("app/2", "two")(ctx, tx), boom)
		}, boom, "boom"},
		{"panic", func(ctx context.Context, tx *migrate.Tx) error { _ = set("app/2", "two")(ctx, tx); panic(boom) }, boom, "panic: boom"},
		{"swallowed refusal", func(ctx context.Context, tx *migrate.Tx) error {
			_ = tx.Delete([]byte("system:schema_version"))
			return nil
		}, migrate.ErrReservedKey, "reserved"},
		{"swallowed store error", func(ctx context.Context, tx *migrate.Tx) error { _ = tx.Set(store.Entry{}); return nil }, store.ErrInvalidKey, "invalid key"},
		{"overflow", func(ctx context.Context, tx *migrate.Tx) error {
			for i := range 1 << 20 {
				_ = tx.Set(store.Entry{Key: fmt.Appendf(nil, "app/%d", i)})
			}
			return nil
		}, store.ErrTxnTooBig, "more than one transaction holds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := openStore(t)
			mustUp(t, st, scenario[:1])
			before := contents(t, st)
			report, err := up(t, st, []migrate.Migration{scenario[0], {Version: 2, Name: "bad", Up: tt.up}})
			failed, ok := errors.AsType[*migrate.MigrationError](err)
			if !ok || failed.Version != 2 || failed.Name != "bad" || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %v, want a MigrationError of v2 (bad) that matches %v and says %q", err, tt.want, tt.text)
			}
			if errors.Is(err, migrate.ErrRefused) || report.To != 1 {
				t.Errorf("report v%d, refused %t; want v1, false", report.To, errors.Is(err, migrate.ErrRefused))
			}
			if diff := cmp.Diff(before, contents(t, st)); diff != "" {
				t.Errorf("a failed migration changed the store (-before +after):\n%s", diff)
			}
			mustUp(t, st, scenario)
		})
	}
}

func TestPanicCarriesTheStack(t *testing.T) {
	_, err := up(t, openStore(t), []migrate.Migration{{Version: 1, Name: "bad", Up: func(context.Context, *migrate.Tx) error {
		var m map[string]int
		m["x"] = 1 //nolint:staticcheck // the panic is the point
		return nil
	}}})
	p, ok := errors.AsType[*migrate.PanicError](err)
	if !ok || !bytes.Contains(p.Stack, []byte("TestPanicCarriesTheStack")) {
		t.Errorf("error = %v, want a PanicError with the stack of the migration", err)
	}
}

func TestReportOfPartialRun(t *testing.T) {
	ms := []migrate.Migration{scenario[0], {Version: 2, Name: "bad", Up: func(context.Context, *migrate.Tx) error { return errors.New("boom") }}}
	report, err := up(t, openStore(t), ms)
	if err == nil || report.From != 0 || report.To != 1 || len(report.Applied) != 1 || report.Applied[0].Name != "initial_schema" {
		t.Errorf("Up = %+v, %v; want v0 -> v1 with initial_schema applied, and an error", report, err)
	}
}

// TestKeptTx uses the Tx of a step that is over.
func TestKeptTx(t *testing.T) {
	for name, use := range map[string]func(*migrate.Tx) error{
		"get":    func(tx *migrate.Tx) error { _, err := tx.Get([]byte("app/1")); return err },
		"set":    func(tx *migrate.Tx) error { return tx.Set(store.Entry{Key: []byte("app/1")}) },
		"delete": func(tx *migrate.Tx) error { return tx.Delete([]byte("app/1")) },
		"scan": func(tx *migrate.Tx) error {
			for _, err := range tx.Scan(store.Scan{}) {
				return err
			}
			return nil
		},
	} {
		var kept *migrate.Tx
		_, err := up(t, openStore(t), []migrate.Migration{{Version: 1, Name: "keeping", Up: func(_ context.Context, tx *migrate.Tx) error {
			if kept != nil {
				return use(kept)
			}
			kept = tx
			tx.Continue([]byte("once more"))
			return nil
		}}})
		if !errors.Is(err, store.ErrTxnDone) {
			t.Errorf("%s: Up = %v, want ErrTxnDone", name, err)
		}
		_, err = up(t, openStore(t), []migrate.Migration{
			{Version: 1, Name: "keeping", Up: func(_ context.Context, tx *migrate.Tx) error { kept = tx; return nil }},
			{Version: 2, Name: "using", Up: func(context.Context, *migrate.Tx) error { return use(kept) }},
		})
		if !errors.Is(err, store.ErrTxnDone) {
			t.Errorf("%s in the next migration: Up = %v, want ErrTxnDone", name, err)
		}
	}
}

// TestUnreadable has a store whose version cannot be read.
func TestUnreadable(t *testing.T) {
	_, err := up(t, storetest.Fail(openStore(t), 1, storetest.Error), scenario)
	if want := "read the version of system schema: " + storetest.ErrFault.Error() + "; nothing was changed"; !errors.Is(err, storetest.ErrFault) || err.Error() != want {
		t.Errorf("Up = %v, want %s", err, want)
	}
}

func TestCancelled(t *testing.T) {
	st := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	ms := []migrate.Migration{scenario[0], {Version: 2, Name: "slow", Up: func(ctx context.Context, tx *migrate.Tx) error {
		cancel()
		_, err := tx.Get([]byte("app/1"))
		return err
	}}}
	report, err := migrate.Up(ctx, st, options(migrate.NewRegistry(ms...)))
	if !errors.Is(err, context.Canceled) || report.To != 0 || !strings.Contains(err.Error(), "unchanged at v0") {
		t.Errorf("Up = v%d, %v; want context.Canceled and v0: both were in one transaction", report.To, err)
	}
	mustUp(t, st, scenario)
}

func TestUpdateKeepsExpiryAndMeta(t *testing.T) {
	st := openStore(t)
	want := store.Entry{Key: []byte("app/1"), Value: []byte("new"), ExpiresAt: 1 << 40, Meta: 7}
	mustUp(t, st, []migrate.Migration{
		{Version: 1, Name: "a", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: want.Key, Value: []byte("old"), ExpiresAt: want.ExpiresAt, Meta: want.Meta})
		}},
		{Version: 2, Name: "b", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Update(want.Key, func([]byte) ([]byte, error) { return []byte("new"), nil })
		}},
	})
	err := st.View(t.Context(), func(s store.Reader) error {
		got, err := s.Get(want.Key)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("entry (-want +got):\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNowStandsStill(t *testing.T) {
	clock := noon
	o := options(migrate.NewRegistry(migrate.Migration{Version: 1, Name: "a", Up: func(_ context.Context, tx *migrate.Tx) error {
		if a, b := tx.Now(), tx.Now(); a != b {
			return fmt.Errorf("Now moved from %v to %v", a, b)
		}
		return nil
	}}))
	o.Now = func() time.Time { clock = clock.Add(time.Second + time.Nanosecond); return clock }
	report, err := migrate.Up(t.Context(), openStore(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if a := report.Applied[0]; a.Started != noon.Add(time.Second) || a.Finished != noon.Add(2*time.Second) {
		t.Errorf("started %v, finished %v; want one and two seconds after noon", a.Started, a.Finished)
	}
}

// TestConcurrentRunners: many programs start on one store; each migration is
// applied by exactly one of them.
func TestConcurrentRunners(t *testing.T) {
	st := openStore(t)
	count := func(key string) migrate.UpFunc {
		return func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(store.Entry{Key: []byte("app/" + key), Value: []byte("x")})
		}
	}
	var ms []migrate.Migration
	for i, m := range ladder("a", "b", "c", "d", "e") {
		m.Up = count(fmt.Sprint(i))
		ms = append(ms, m)
	}
	const runners = 8
	var wg sync.WaitGroup
	reports, errs := make([]migrate.Report, runners), make([]error, runners)
	for i := range runners {
		wg.Go(func() {
			reports[i], errs[i] = migrate.Up(context.Background(), st, options(migrate.NewRegistry(ms...)))
		})
	}
	wg.Wait()
	applied := map[string]int{}
	for i := range runners {
		if errs[i] != nil || reports[i].To != 5 {
			t.Errorf("runner %d: v%d, %v; want v5", i, reports[i].To, errs[i])
		}
		for _, a := range reports[i].Applied {
			applied[a.Name]++
		}
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, applied); diff != "" {
		t.Errorf("applied, in all runners (-want +got):\n%s", diff)
	}
}

func TestUpTo(t *testing.T) {
	st := openStore(t)
	r, err := migrate.New(st, options(migrate.NewRegistry(ladder("a", "b", "c")...)))
	if err != nil {
		t.Fatal(err)
	}
	if report, err := r.UpTo(t.Context(), 2); err != nil || report.To != 2 {
		t.Fatalf("UpTo(2) = v%d, %v", report.To, err)
	}
	if plan, err := r.Plan(t.Context(), 3); err != nil || plan.From != 2 || len(plan.Pending) != 1 || plan.Pending[0].Name != "c" {
		t.Errorf("Plan(3) = %+v, %v; want c pending", plan, err)
	}
	if status, err := r.Status(t.Context()); err != nil || status.Version != 2 || status.Latest != 3 || !status.Stored {
		t.Errorf("Status = %+v, %v; want v2 of v3", status, err)
	}
	if _, err := r.UpTo(t.Context(), 4); !isType[*migrate.UnknownTargetError](err) {
		t.Errorf("UpTo(4) = %v, want an UnknownTargetError", err)
	}
	if _, err := r.UpTo(t.Context(), 1); !isType[*migrate.DowngradeError](err) {
		t.Errorf("UpTo(1) = %v, want a DowngradeError", err)
	}
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestTornValue: without SyncWrites a value in the value log can come back empty
// although what vouches for it survives, so no step may write it.
func TestTornValue(t *testing.T) {
	db, err := badger.Open(small(badger.DefaultOptions(t.TempDir())).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	st, err := badgerstore.New(db)
	if err != nil {
		t.Fatal(err)
	}
	write := set("app/1", strings.Repeat("x", 64<<10))
	for name, up0001 := range map[string]migrate.UpFunc{
		"with the version": write,
		"with progress": func(ctx context.Context, tx *migrate.Tx) error {
			if tx.Cursor() != nil {
				return nil
			}
			tx.Continue([]byte("more"))
			return write(ctx, tx)
		},
	} {
		big := []migrate.Migration{{Version: 1, Name: "big", Up: up0001}}
		before := contents(t, st)
		if _, err := up(t, st, big); !errors.Is(err, migrate.ErrTornValue) {
			t.Errorf("%s: Up = %v, want ErrTornValue", name, err)
		}
		if diff := cmp.Diff(before, contents(t, st)); diff != "" {
			t.Errorf("%s: store (-before +after):\n%s", name, diff)
		}
		mustUp(t, openStore(t), big)
	}
}

// TestTornRecord: nor may the runner write a record of its own there, which would make
// the store corrupt.
func TestTornRecord(t *testing.T) {
	for name, ms := range map[string][]migrate.Migration{
		"history":  {{Version: 1, Name: "plain", Up: set("app/1", "")}},
		"progress": {{Version: 1, Name: "steps", Up: func(_ context.Context, tx *migrate.Tx) error { tx.Continue([]byte("more")); return nil }}},
	} {
		for _, threshold := range []int64{0, 64} {
			t.Run(fmt.Sprint(name, threshold), func(t *testing.T) {
				db, err := badger.Open(small(badger.DefaultOptions(t.TempDir())).WithValueThreshold(threshold).WithLogger(nil))
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				}()
				st, err := badgerstore.New(db)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := up(t, st, ms); !errors.Is(err, migrate.ErrTornValue) {
					t.Errorf("Up = %v, want ErrTornValue", err)
				}
				if got := contents(t, st); got != "" {
					t.Errorf("store holds\n%s", got)
				}
			})
		}
	}
}

// TestNoUTF8: what history keeps of a program and a migration that have bytes which are
// no UTF-8 can be read again.
func TestNoUTF8(t *testing.T) {
	st := openStore(t)
	load(t, st, many("app/", 2*batchOfRows)...)
	broken := true
	ms := []migrate.Migration{
		{Version: 1, Name: "plain", Description: "caf\xe9s", Up: set("other", "x")},
		{Version: 2, Name: "batched", Up: migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
			if broken && string(v) == fmt.Sprintf("row %d", batchOfRows) {
				return nil, errors.New("broken")
			}
			return append(v, '!'), nil
		})},
	}
	o := saving(t.TempDir(), ms...)
	o.AllowUnversioned, o.Program = true, "caf\xe9 v1"
	if _, err := migrate.Up(t.Context(), st, o); err == nil {
		t.Fatal("the broken migration did not fail")
	}
	broken = false
	mustRun(t, st, o)
	for _, a := range historyOf(t, st, ms) {
		if a.Program != "caf\uFFFD v1" || a.Version == 1 && a.Description != "caf\uFFFDs" {
			t.Errorf("v%d: program %q, description %q", a.Version, a.Program, a.Description)
		}
	}
}
