package statushttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/internal/jsontest"
	"github.com/kvmigrate/kvmigrate/migrate/statushttp"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

func openStore(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{})
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

// load writes n notes.
func load(t *testing.T, st store.Store, n int) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		for i := range n {
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "note/%06d", i), Value: []byte("secret")}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nothing(context.Context, *migrate.Tx) error { return nil }

// options are those of notes with these migrations, which get their versions here.
func options(t *testing.T, migrations ...migrate.Migration) migrate.Options {
	for i := range migrations {
		migrations[i].Version = uint32(i + 1)
	}
	return migrate.Options{
		Schema: "notes", Registry: migrate.NewRegistry(migrations...), AllowUnversioned: true, Program: "notes 1.0",
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Batches: 1,
	}
}

// serve returns a handler and the address where it is served.
func serve(t *testing.T, st store.Store, o migrate.Options) (*statushttp.Handler, string) {
	t.Helper()
	h, err := statushttp.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return h, server.URL
}

// ask returns the answer to a request.
func ask(t *testing.T, method, url string) (status int, header http.Header, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(data)
}

// get returns the body of an answer that must have this status.
func get(t *testing.T, url string, want int) string {
	t.Helper()
	status, _, body := ask(t, http.MethodGet, url)
	if status != want {
		t.Errorf("GET %s: status %d, want %d\n%s", url, status, want, body)
	}
	return body
}

var schemas = sync.OnceValues(func() (jsontest.Schemas, error) { return jsontest.Load("../../docs/schemas") })

// getJSON returns what /schema says, which must be as docs/schemas has it.
func getJSON(t *testing.T, url string) (v map[string]any) {
	t.Helper()
	body := get(t, url+"/schema", http.StatusOK)
	schemas, err := schemas()
	if err == nil {
		err = schemas.Check("statushttp", strings.NewReader(body))
	}
	if err != nil {
		t.Error(err)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	if strings.Contains(body, `\u003e`) {
		t.Errorf("GET %s/schema: the arrow of %q is not to be read as one", url, v["reason"])
	}
	return v
}

// held is a migration over notes that waits at the note of a number until it is told
// to go on, or its context ends.
type held struct {
	at       string
	begun    chan struct{}
	onwards  chan struct{}
	reaching sync.Once
}

func hold(n int) *held {
	return &held{at: fmt.Sprintf("note/%06d", n), begun: make(chan struct{}), onwards: make(chan struct{})}
}

func (h *held) row(ctx context.Context, tx *migrate.Tx, e store.Entry) error {
	if string(e.Key) == h.at {
		h.reaching.Do(func() { close(h.begun) })
		select {
		case <-h.onwards:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return tx.Set(e)
}

// start calls Up and returns once the migration waits. end returns how Up ended.
func (h *held) start(t *testing.T, up func(context.Context) (migrate.Report, error)) (end func() (migrate.Report, error)) {
	t.Helper()
	var report migrate.Report
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, err = up(t.Context())
	}()
	select {
	case <-h.begun:
	case <-done:
		t.Fatalf("Up = %+v, %v before the row that it was to wait at", report, err)
	}
	return func() (migrate.Report, error) {
		<-done
		return report, err
	}
}

// narrow is a store whose transactions hold only so many entries.
type narrow struct {
	store.Store
	entries int
}

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries = n.entries
	return l
}

// TestRun: probes, JSON and metrics say what a run is at, from before it to its end.
func TestRun(t *testing.T) {
	st := narrow{openStore(t), 40} // batches of ten
	load(t, st, 100)
	wait := hold(55)
	o := options(t,
		migrate.Migration{Name: "first", Description: "the first", Up: nothing},
		migrate.Migration{Name: "second", Description: "the second", Up: migrate.Each([]byte("note/"), wait.row)},
		migrate.Migration{Name: "third", Up: nothing, Unreleased: true},
	)
	o.AllowUnreleased = true
	h, url := serve(t, st, o)

	get(t, url+"/healthz", http.StatusOK)
	if diff := cmp.Diff("migrations have not begun\n", get(t, url+"/readyz", http.StatusServiceUnavailable)); diff != "" {
		t.Errorf("readyz before Up (-want +got):\n%s", diff)
	}
	pending := []any{
		map[string]any{"version": 1.0, "name": "first", "description": "the first"},
		map[string]any{"version": 2.0, "name": "second", "description": "the second"},
		map[string]any{"version": 3.0, "name": "third", "description": "", "unreleased": true},
	}
	if diff := cmp.Diff(map[string]any{
		"schema": "notes", "program": "notes 1.0", "state": "waiting", "reason": "migrations have not begun",
		"version": nil, "target": 3.0, "latest": 3.0, "pending": []any{}, "pending_total": 0.0, "history": []any{}, "history_total": 0.0,
	}, getJSON(t, url)); diff != "" {
		t.Errorf("schema before Up (-want +got):\n%s", diff)
	}

	end := wait.start(t, h.Up)
	get(t, url+"/healthz", http.StatusOK)
	if body := get(t, url+"/readyz", http.StatusServiceUnavailable); !strings.HasPrefix(body, "migrating v1 -> v2 (second): 50 ") {
		t.Errorf("readyz during the second = %q, want how far it is", body)
	}
	got := getJSON(t, url)
	now, _ := got["running"].(map[string]any)
	for _, key := range []string{"total", "rate", "elapsed_ns", "eta_ns", "text", "started"} { // of the clock
		if _, ok := now[key]; !ok {
			t.Errorf("running has no %s", key)
		}
		delete(now, key)
	}
	want := map[string]any{
		"version": 2.0, "name": "second", "description": "the second", "phase": 1.0, "phases": 1.0,
		"steps": 5.0, "done": 50.0, "bytes": 50.0 * float64(len("note/000000secret")),
	}
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pending[1:], got["pending"]); diff != "" {
		t.Errorf("pending during the second (-want +got):\n%s", diff)
	}
	if got["state"] != "running" || got["version"] != 1.0 || got["history_total"] != 1.0 {
		t.Errorf("schema during the second = %v, want it running with one version applied", got)
	}
	metrics := get(t, url+"/metrics", http.StatusOK)
	for _, line := range []string{
		`kvmigrate_schema_version{schema="notes"} 1`,
		`kvmigrate_schema_latest_version{schema="notes"} 3`,
		`kvmigrate_schema_ready{schema="notes"} 0`,
		`kvmigrate_schema_state{schema="notes",state="running"} 1`,
		`kvmigrate_schema_state{schema="notes",state="ready"} 0`,
		`kvmigrate_migrations_pending{schema="notes"} 2`,
		`kvmigrate_migrations_applied_total{schema="notes"} 1`,
		`kvmigrate_migration_entries_total{schema="notes"} 50`,
		`kvmigrate_migration_done_entries{name="second",schema="notes",version="2"} 50`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("metrics lack %s:\n%s", line, metrics)
		}
	}

	close(wait.onwards)
	report, err := end()
	if err != nil || report.To != 3 {
		t.Fatalf("Up = %+v, %v; want v3", report, err)
	}
	if diff := cmp.Diff("notes schema is at v3\n", get(t, url+"/readyz", http.StatusOK)); diff != "" {
		t.Errorf("readyz after Up (-want +got):\n%s", diff)
	}
	got = getJSON(t, url)
	var history []any
	for _, a := range report.Applied {
		record := map[string]any{
			"version": float64(a.Version), "name": a.Name, "description": a.Description, "fingerprint": a.Fingerprint.String(),
			"started": a.Started.Format(time.RFC3339Nano), "finished": a.Finished.Format(time.RFC3339Nano),
			"transactions": float64(a.Transactions), "keys_written": float64(a.KeysWritten), "keys_deleted": float64(a.KeysDeleted),
			"program": "notes 1.0",
		}
		if a.Unreleased {
			record["unreleased"] = true
		}
		history = append(history, record)
	}
	for _, key := range []string{"started", "ended"} {
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(got[key])); err != nil {
			t.Errorf("%s = %v: %v", key, got[key], err)
		}
		delete(got, key)
	}
	if diff := cmp.Diff(map[string]any{
		"schema": "notes", "program": "notes 1.0", "state": "ready", "reason": "notes schema is at v3",
		"version": 3.0, "target": 3.0, "latest": 3.0, "pending": []any{}, "pending_total": 0.0, "history": history, "history_total": 3.0,
	}, got); diff != "" {
		t.Errorf("schema after Up (-want +got):\n%s", diff)
	}
	if metrics := get(t, url+"/metrics", http.StatusOK); strings.Contains(metrics, "done_entries{") {
		t.Errorf("metrics after Up still have a migration at work:\n%s", metrics)
	}
	for _, path := range []string{"/", "/schema", "/metrics", "/readyz"} {
		if body := get(t, url+path, http.StatusOK); strings.Contains(body, "secret") || strings.Contains(body, "note/") {
			t.Errorf("%s shows keys or values:\n%s", path, body)
		}
	}
}

// TestEnds: every way in which Up ends is told, and how it is shown.
func TestEnds(t *testing.T) {
	boom := errors.New("boom")
	three := func(up migrate.UpFunc) []migrate.Migration {
		return []migrate.Migration{{Name: "first", Up: nothing}, {Name: "second", Up: up}, {Name: "third", Up: nothing}}
	}
	for _, tt := range []struct {
		name    string
		before  func(t *testing.T, st store.Store) // Up
		up      migrate.UpFunc
		change  func(*migrate.Options)
		target  uint32
		state   string
		version any
		reason  string // its beginning
		err     error
		code    int
	}{
		{name: "ready", up: nothing, target: 3, state: "ready", version: 3.0, reason: "notes schema is at v3", code: 200},
		{name: "stops where it should", up: nothing, target: 1, state: "pending", version: 1.0, reason: "notes schema is at v1, where the run was to stop, with 2 more pending", code: 503},
		{name: "fails", up: func(context.Context, *migrate.Tx) error { return boom }, target: 3, state: "failed", version: 1.0, reason: "failed: migrate notes schema v1 -> v2 (second): boom", err: boom, code: 503},
		{name: "panics", up: func(context.Context, *migrate.Tx) error { panic(boom) }, target: 3, state: "failed", version: 1.0, reason: "failed: migrate notes schema v1 -> v2 (second): panic: boom", err: boom, code: 503},
		{name: "is cancelled", up: func(context.Context, *migrate.Tx) error { return context.Canceled }, target: 3, state: "stopped", version: 1.0, reason: "stopped: migrate notes schema v1 -> v2 (second)", err: context.Canceled, code: 503},
		{name: "is refused as foreign", up: nothing, target: 3, state: "refused", version: 0.0, reason: "refused: notes schema: the store holds data", err: migrate.ErrRefused, code: 503,
			before: func(t *testing.T, st store.Store) { load(t, st, 1) },
			change: func(o *migrate.Options) { o.AllowUnversioned = false }},
		{name: "is refused as newer", up: nothing, target: 3, state: "refused", version: 4.0, reason: "refused: cannot downgrade notes schema from v4 to v3", err: migrate.ErrRefused, code: 503,
			before: func(t *testing.T, st store.Store) { upTo4(t, st, 0) }},
		{name: "may read what is newer", up: nothing, target: 3, state: "ready", version: 4.0, reason: "notes schema is at v4, newer than this program, which must only read it", code: 200,
			before: func(t *testing.T, st store.Store) { upTo4(t, st, 3) },
			change: func(o *migrate.Options) { o.AllowReadOnly = true }},
		{name: "is refused as corrupt", up: nothing, target: 3, state: "refused", version: nil, reason: "refused: notes schema is corrupt", err: store.ErrCorrupt, code: 503,
			before: func(t *testing.T, st store.Store) {
				put(t, st, "notes:schema_version", "12")
			}},
		{name: "adopts", up: nothing, target: 3, state: "ready", version: 3.0, reason: "notes schema is at v3", code: 200,
			before: func(t *testing.T, st store.Store) { load(t, st, 1) },
			change: func(o *migrate.Options) {
				o.Adopt = func(context.Context, store.Reader) (uint32, error) { return 2, nil }
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := openStore(t)
			if tt.before != nil {
				tt.before(t, st)
			}
			o := options(t, three(tt.up)...)
			if tt.change != nil {
				tt.change(&o)
			}
			h, url := serve(t, st, o)
			_, err := h.UpTo(t.Context(), tt.target)
			if !errors.Is(err, tt.err) {
				t.Fatalf("UpTo = %v, want %v", err, tt.err)
			}
			got := getJSON(t, url)
			reason, _ := got["reason"].(string)
			if got["state"] != tt.state || got["version"] != tt.version || !strings.HasPrefix(reason, tt.reason) {
				t.Errorf("schema = %v; want state %s, version %v, reason %q", got, tt.state, tt.version, tt.reason)
			}
			want := any(nil)
			if err != nil {
				want = err.Error()
			}
			if diff := cmp.Diff(want, got["error"]); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(reason+"\n", get(t, url+"/readyz", tt.code)); diff != "" {
				t.Errorf("readyz (-want +got):\n%s", diff)
			}
			get(t, url+"/healthz", http.StatusOK)
			if page := get(t, url+"/", http.StatusOK); strings.Contains(page, `role="alert"`) != (err != nil) {
				t.Errorf("the page has an alert: %v; error %v", err == nil, err)
			}
			history, err := migrateHistory(t, st, o)
			if err == nil && len(history) != len(got["history"].([]any)) {
				t.Errorf("history of %v; want %v", got["history"], history)
			}
		})
	}
}

func migrateHistory(t *testing.T, st store.Store, o migrate.Options) ([]migrate.Applied, error) {
	t.Helper()
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	return r.History(t.Context())
}

// upTo4 runs three migrations and a fourth, which programs may read from readable on.
func upTo4(t *testing.T, st store.Store, readable uint32) {
	t.Helper()
	_, err := migrate.Up(t.Context(), st, options(t,
		migrate.Migration{Name: "first", Up: nothing}, migrate.Migration{Name: "second", Up: nothing},
		migrate.Migration{Name: "third", Up: nothing}, migrate.Migration{Name: "fourth", Up: nothing, ReadableFrom: readable}))
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, st store.Store, key, value string) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte(key), Value: []byte(value)})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestGoesOn: a run that was stopped is shown as such, and the next one as it goes on.
func TestGoesOn(t *testing.T) {
	st := narrow{openStore(t), 40}
	load(t, st, 100)
	wait := hold(55)
	h, url := serve(t, st, options(t, migrate.Migration{Name: "first", Up: migrate.Each([]byte("note/"), wait.row)}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := wait.start(t, func(context.Context) (migrate.Report, error) { return h.Up(ctx) })
	waiting, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := h.Up(waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("Up during another = %v, want it to wait as long as its context lasts", err)
	}
	cancel()
	if _, err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("Up = %v, want it cancelled", err)
	}
	if got := getJSON(t, url); got["state"] != "stopped" || got["version"] != 0.0 {
		t.Errorf("schema = %v, want it stopped", got)
	}
	if page := get(t, url+"/", http.StatusOK); !strings.Contains(page, "run again to go on from there") {
		t.Errorf("the page does not say how to go on:\n%s", page)
	}
	close(wait.onwards)
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	get(t, url+"/readyz", http.StatusOK)
	metrics := get(t, url+"/metrics", http.StatusOK)
	for _, line := range []string{
		`kvmigrate_migrations_failed_total{schema="notes"} 1`,
		`kvmigrate_migrations_applied_total{schema="notes"} 1`,
		`kvmigrate_migration_entries_total{schema="notes"} 100`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("metrics lack %s:\n%s", line, metrics)
		}
	}
}

// TestMethods: nothing but reading is answered, nothing else is there, and every
// answer forbids the browser what the page does not need.
func TestMethods(t *testing.T) {
	_, url := serve(t, openStore(t), options(t, migrate.Migration{Name: "first", Up: nothing}))
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"POST", "/", 405}, {"DELETE", "/", 405},
		{"HEAD", "/healthz", 200}, {"POST", "/healthz", 405}, {"HEAD", "/readyz", 503}, {"PUT", "/readyz", 405},
		{"HEAD", "/schema", 200}, {"PATCH", "/schema", 405}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405},
		{"GET", "/assets/page.css", 200}, {"GET", "/assets/page.js", 200}, {"GET", "/assets/icon.svg", 200},
		{"POST", "/assets/page.js", 405}, {"GET", "/assets/", 404}, {"GET", "/assets/..%2fpage.html", 404}, {"GET", "/else", 404},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			status, header, body := ask(t, tt.method, url+tt.path)
			if status != tt.want {
				t.Errorf("status %d, want %d", status, tt.want)
			}
			if tt.method == "HEAD" && body != "" {
				t.Errorf("HEAD has a body: %q", body)
			}
			if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
				t.Errorf("Content-Security-Policy %q", csp)
			}
			if got := header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options %q", got)
			}
		})
	}
}

// TestManyVersions: JSON and page stay small and the counts are there.
func TestManyVersions(t *testing.T) {
	var ladder []migrate.Migration
	for i := range 3000 {
		ladder = append(ladder, migrate.Migration{Name: fmt.Sprintf("step_%d", i+1), Description: "one more", Up: nothing})
	}
	st := openStore(t)
	h, url := serve(t, st, options(t, ladder...))
	const target = 300
	if _, err := h.UpTo(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	got := getJSON(t, url)
	history, pending := got["history"].([]any), got["pending"].([]any)
	if got["history_total"] != 300.0 || got["pending_total"] != 2700.0 || len(history) != 100 || len(pending) != 100 {
		t.Errorf("%d of %v in history, %d of %v pending; want 100 of 300 and 100 of 2700", len(history), got["history_total"], len(pending), got["pending_total"])
	}
	if last := history[99].(map[string]any); last["version"] != 300.0 {
		t.Errorf("the last of history is %v, want v300", last)
	}
	page := get(t, url+"/", http.StatusOK)
	for _, want := range []string{"295 earlier", "2,690 more", "275 earlier", "step_310 ", "step_296 "} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if len(page) > 32<<10 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

// TestOwnRegistry: a program may register Handlers of several schemas beside its own
// metrics, and the names and units are as Prometheus wants them.
func TestOwnRegistry(t *testing.T) {
	st, registry := openStore(t), prometheus.NewPedanticRegistry()
	wait := hold(5)
	load(t, st, 10)
	var handlers []*statushttp.Handler
	for _, schema := range []string{"notes", "tags"} {
		o := options(t, migrate.Migration{Name: "first", Up: migrate.Each([]byte("note/"), wait.row)})
		o.Schema = schema
		h, err := statushttp.New(st, o)
		if err != nil {
			t.Fatal(err)
		}
		registry.MustRegister(h)
		handlers = append(handlers, h)
	}
	end := wait.start(t, handlers[0].Up)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	close(wait.onwards)
	if _, err := end(); err != nil {
		t.Fatal(err)
	}
	for _, h := range handlers {
		if !registry.Unregister(h) {
			t.Error("a Handler cannot be unregistered")
		}
	}
}

// TestObserverIsCalled: the program's own observer hears everything as well, and what
// is served is up to date when it does.
func TestObserverIsCalled(t *testing.T) {
	var got []migrate.EventKind
	var url string
	o := options(t, migrate.Migration{Name: "first", Up: nothing})
	o.Observer = func(e migrate.Event) {
		got = append(got, e.Kind)
		if e.Kind == migrate.Finished {
			if version := getJSON(t, url)["version"]; version != 1.0 {
				t.Errorf("version %v when the first has finished", version)
			}
		}
	}
	h, url2 := serve(t, openStore(t), o)
	url = url2
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]migrate.EventKind{migrate.Started, migrate.Batch, migrate.Finished}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestManyClients: clients that ask without a pause, and one that never reads its
// answer, keep no migration from its end.
func TestManyClients(t *testing.T) {
	st := narrow{openStore(t), 40}
	load(t, st, 500)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h, url := serve(t, st, options(t, migrate.Migration{Name: "first", Up: migrate.Each([]byte("note/"),
		func(_ context.Context, tx *migrate.Tx, e store.Entry) error { return tx.Set(e) })}))
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	paths := []string{"/", "/schema", "/metrics", "/readyz"}
	const each = 4
	// A connection for each request would use up the ports.
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: len(paths) * each}}
	defer client.CloseIdleConnections()
	for _, path := range paths {
		for range each {
			clients.Go(func() {
				for ctx.Err() == nil {
					answer, err := client.Get(url + path)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, answer.Body); err != nil {
						t.Error(err)
					}
					_ = answer.Body.Close()
				}
			})
		}
	}
	stuck, err := http.Get(url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stuck.Body.Close() }()
	if _, err := h.Up(t.Context()); err != nil {
		t.Error(err)
	}
	get(t, url+"/readyz", http.StatusOK)
}

// TestNewRefuses: what is wrong with the options is told before anything is served.
func TestNewRefuses(t *testing.T) {
	if _, err := statushttp.New(nil, migrate.Options{Schema: "no name", Registry: migrate.NewRegistry()}); err == nil {
		t.Error("New takes a schema of two words")
	}
	if _, err := statushttp.New(nil, options(t, migrate.Migration{Name: "first"})); err == nil {
		t.Error("New takes a migration without an Up")
	}
}

// TestTogether: while small migrations are tried in one transaction, the version is
// that of the store, and each counts once.
func TestTogether(t *testing.T) {
	var url string
	wait := make(chan struct{})
	o := options(t, migrate.Migration{Name: "first", Up: nothing}, migrate.Migration{Name: "second", Up: func(context.Context, *migrate.Tx) error {
		defer close(wait)
		got := getJSON(t, url)
		if now, _ := got["running"].(map[string]any); got["version"] != 0.0 || now["version"] != 2.0 || got["history_total"] != 0.0 {
			t.Errorf("schema during the second = %v, want the store at v0 and the second at work", got)
		}
		return nil
	}}, migrate.Migration{Name: "third", Up: nothing})
	h, address := serve(t, openStore(t), o)
	url = address
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-wait
	if metrics := get(t, url+"/metrics", http.StatusOK); !strings.Contains(metrics, `kvmigrate_migrations_applied_total{schema="notes"} 3`) {
		t.Errorf("metrics do not count three migrations:\n%s", metrics)
	}
	if got := getJSON(t, url); got["history_total"] != 3.0 || got["version"] != 3.0 {
		t.Errorf("schema = %v, want v3", got)
	}
}

// TestBackup: the backup before the first migration is shown as one.
func TestBackup(t *testing.T) {
	st := openStore(t)
	load(t, st, 100)
	var url string
	var pages []string
	o := options(t, migrate.Migration{Name: "first", Up: nothing})
	o.Backup = &backup.Options{Dir: t.TempDir()}
	o.Observer = func(e migrate.Event) {
		if e.Kind != migrate.BackingUp {
			return
		}
		now, _ := getJSON(t, url)["running"].(map[string]any)
		if now["backing_up"] != true || now["version"] != 1.0 {
			t.Errorf("running = %v, want the backup before v1", now)
		}
		if body := get(t, url+"/readyz", http.StatusServiceUnavailable); !strings.HasPrefix(body, "backup of v0") {
			t.Errorf("readyz = %q, want the backup", body)
		}
		pages = append(pages, get(t, url+"/", http.StatusOK))
	}
	h, address := serve(t, st, o)
	url = address
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(pages) == 0 || !strings.Contains(pages[0], "Backup before v0001_first") {
		t.Errorf("%d pages during the backup, want at least one that says so", len(pages))
	}
}
