package oteltrace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/oteltrace"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// narrow is a store whose batches have ten rows.
type narrow struct{ store.Store }

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries = 40
	return l
}

// openStore returns a store with n notes, whose key and value are of 15 bytes.
func openStore(t *testing.T, n int) store.Store {
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
	err = store.Update(t.Context(), st, func(tx store.Txn) error {
		for i := range n {
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "note/%04d", i), Value: []byte("secret")}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return narrow{st}
}

func nothing(context.Context, *migrate.Tx) error { return nil }

func shout(value []byte) ([]byte, error) { return bytes.ToUpper(value), nil }

// traced is what a run came to.
type traced struct {
	spans  []sdktrace.ReadOnlySpan // in the order of their ends
	parent trace.SpanContext       // of the run
	report migrate.Report
	err    error
}

// run runs migrations, which get their versions here, below a span.
func run(ctx context.Context, t *testing.T, st store.Store, change func(*migrate.Options), migrations ...migrate.Migration) traced {
	t.Helper()
	for i := range migrations {
		migrations[i].Version = uint32(i + 1)
	}
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	tracer := oteltrace.New(provider)
	o := migrate.Options{
		Schema: "notes", Registry: migrate.NewRegistry(migrations...), AllowUnversioned: true,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Observer: tracer.Observe,
	}
	if change != nil {
		change(&o)
	}
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := provider.Tracer("test").Start(ctx, "start-up")
	out := traced{parent: span.SpanContext()}
	out.report, out.err = tracer.Run(ctx, r.Up)
	span.End()
	started := recorder.Started()
	out.spans = recorder.Ended()
	if len(started) != len(out.spans) {
		t.Errorf("%d spans started and %d ended", len(started), len(out.spans))
	}
	return out
}

// tree says the spans but the outermost, each with its parent, attributes, status
// and events, in the order of their ends.
func (r traced) tree(t *testing.T) []string {
	t.Helper()
	names := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	for _, s := range r.spans {
		names[s.SpanContext().SpanID()] = s
	}
	var out []string
	for _, s := range r.spans {
		if s.SpanContext().SpanID() == r.parent.SpanID() {
			continue
		}
		parent := names[s.Parent().SpanID()]
		if parent == nil {
			t.Errorf("%s has a parent that did not end", s.Name())
			continue
		}
		if s.StartTime().Before(parent.StartTime()) || s.EndTime().After(parent.EndTime()) || s.EndTime().Before(s.StartTime()) {
			t.Errorf("%s lasts from %v to %v, its parent %s from %v to %v", s.Name(), s.StartTime(), s.EndTime(), parent.Name(), parent.StartTime(), parent.EndTime())
		}
		line := parent.Name() + " > " + s.Name()
		for _, a := range s.Attributes() {
			line += fmt.Sprintf(" %s=%s", strings.TrimPrefix(string(a.Key), "kvmigrate."), a.Value.Emit())
		}
		if s.Status().Description != "" {
			line += fmt.Sprintf(" %v", s.Status().Code)
		}
		for _, e := range s.Events() {
			line += " " + e.Name
		}
		out = append(out, line)
	}
	return out
}

func TestSpans(t *testing.T) {
	boom := errors.New("boom")
	failing := func(how func() error) migrate.UpFunc {
		return migrate.Each([]byte("note/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			if string(e.Key) == "note/0015" {
				return how()
			}
			return tx.Set(e)
		})
	}
	const (
		first  = "kvmigrate run > migrate v0001_first schema=notes version=1 name=first"
		batch  = "migrate v0001_first > batch phase=1 steps=1 rows=10 bytes=150"
		second = "kvmigrate run > migrate v0002_second schema=notes version=2 name=second transactions=1 keys_written=0 keys_deleted=0"
	)
	for _, tt := range []struct {
		name   string
		up     migrate.UpFunc
		change func(*migrate.Options)
		err    error
		want   []string
	}{
		{"finishes", migrate.Rewrite([]byte("note/"), shout), nil, nil, []string{
			batch, batch, strings.ReplaceAll(batch, "10 bytes=150", "5 bytes=75"),
			first + " transactions=3 keys_written=25 keys_deleted=0",
			"migrate v0002_second > batch phase=1 steps=1 rows=0 bytes=0", second,
			"start-up > kvmigrate run schema=notes from=0 to=2",
		}},
		{"has phases", migrate.Phases(nothing, migrate.DropPrefix([]byte("note/000"))), nil, nil, []string{
			strings.ReplaceAll(batch, "10 bytes=150", "0 bytes=0"), "migrate v0001_first > batch phase=2 steps=1 rows=10 bytes=90", // keys alone
			first + " transactions=2 keys_written=0 keys_deleted=10",
			"migrate v0002_second > batch phase=1 steps=1 rows=0 bytes=0", second,
			"start-up > kvmigrate run schema=notes from=0 to=2",
		}},
		{"fails", failing(func() error { return boom }), nil, boom, []string{
			batch, first + " Error exception", "start-up > kvmigrate run schema=notes from=0 to=0 Error",
		}},
		{"panics", failing(func() error { panic(boom) }), nil, boom, []string{
			batch, first + " Error exception", "start-up > kvmigrate run schema=notes from=0 to=0 Error",
		}},
		{"is refused", nothing, func(o *migrate.Options) { o.AllowUnversioned = false }, migrate.ErrUnversioned, []string{
			"start-up > kvmigrate run schema=notes from=0 to=0 Error exception",
		}},
	} {
		for _, batches := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d batches at a time", tt.name, batches), func(t *testing.T) {
				got := run(t.Context(), t, openStore(t, 25), func(o *migrate.Options) {
					o.Batches = batches
					if tt.change != nil {
						tt.change(o)
					}
				}, migrate.Migration{Name: "first", Up: tt.up}, migrate.Migration{Name: "second", Up: nothing})
				if !errors.Is(got.err, tt.err) {
					t.Errorf("error = %v, want %v", got.err, tt.err)
				}
				if diff := cmp.Diff(tt.want, got.tree(t)); diff != "" {
					t.Errorf("spans (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestErrorOfPanic: the span of a migration that panicked says where.
func TestErrorOfPanic(t *testing.T) {
	got := run(t.Context(), t, openStore(t, 0), nil, migrate.Migration{Name: "first", Up: func(context.Context, *migrate.Tx) error { panic("boom") }})
	for _, a := range got.spans[0].Events()[0].Attributes {
		if a.Key == "exception.stacktrace" && strings.Contains(a.Value.AsString(), "TestErrorOfPanic") {
			return
		}
	}
	t.Errorf("events = %v, want the stack of the panic", got.spans[0].Events())
}

// TestCancelled: what is open when the context ends is ended.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := run(ctx, t, openStore(t, 25), nil, migrate.Migration{Name: "first", Up: func(ctx context.Context, _ *migrate.Tx) error {
		cancel()
		return ctx.Err()
	}})
	if !errors.Is(got.err, context.Canceled) {
		t.Errorf("error = %v, want it cancelled", got.err)
	}
	want := []string{
		"kvmigrate run > migrate v0001_first schema=notes version=1 name=first Error exception",
		"start-up > kvmigrate run schema=notes from=0 to=0 Error",
	}
	if diff := cmp.Diff(want, got.tree(t)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// TestGoesOn: the first batch of a run that goes on has no rows of the run before.
func TestGoesOn(t *testing.T) {
	boom, fail := errors.New("boom"), true
	st := openStore(t, 25)
	first := migrate.Migration{Name: "first", Up: migrate.Each([]byte("note/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		if fail && string(e.Key) == "note/0015" {
			return boom
		}
		return tx.Set(e)
	})}
	if got := run(t.Context(), t, st, nil, first); !errors.Is(got.err, boom) {
		t.Fatalf("error = %v, want %v", got.err, boom)
	}
	fail = false
	want := []string{
		"migrate v0001_first > batch phase=1 steps=1 rows=10 bytes=150",
		"migrate v0001_first > batch phase=1 steps=1 rows=5 bytes=75",
		"kvmigrate run > migrate v0001_first schema=notes version=1 name=first transactions=3 keys_written=25 keys_deleted=0",
		"start-up > kvmigrate run schema=notes from=0 to=1",
	}
	if diff := cmp.Diff(want, run(t.Context(), t, st, nil, first).tree(t)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// TestPanicOfRun: spans end also if up panics between events.
func TestPanicOfRun(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := oteltrace.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recovered %v, want the panic of up", got)
			}
		}()
		_, _ = tracer.Run(t.Context(), func(context.Context) (migrate.Report, error) {
			tracer.Observe(migrate.Event{Kind: migrate.Started, Migration: migrate.Migration{Version: 1, Name: "first"}, Began: time.Now()})
			panic("boom")
		})
	}()
	var got []string
	for _, s := range recorder.Ended() {
		got = append(got, s.Name()+": "+s.Status().Description)
	}
	want := []string{"migrate v0001_first: the run ended in a panic", "kvmigrate run: the run ended in a panic"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ended spans (-want +got):\n%s", diff)
	}
}

// TestManyBatches: hours of batches make thousands of spans, in which each batch and
// row is counted once.
func TestManyBatches(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := oteltrace.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	const n = 100_000
	e := migrate.Event{Kind: migrate.Started, Migration: migrate.Migration{Version: 1, Name: "first"}, Phase: 1, Began: time.Now()}
	tracer.Observe(e)
	e.Kind = migrate.Batch
	for e.Steps < n {
		e.Steps++
		e.Done += 10
		e.Began = time.Now()
		tracer.Observe(e)
	}
	e.Kind = migrate.Finished
	tracer.Observe(e)
	var steps, rows int64
	ended := recorder.Ended()
	for _, s := range ended[:len(ended)-1] {
		for _, a := range s.Attributes() {
			switch a.Key {
			case "kvmigrate.steps":
				steps += a.Value.AsInt64()
			case "kvmigrate.rows":
				rows += a.Value.AsInt64()
			}
		}
	}
	if steps != n || rows != 10*n || len(ended) > 6000 {
		t.Errorf("%d spans with %d steps and %d rows; want at most 6000 with %d and %d", len(ended), steps, rows, n, 10*n)
	}
}

// full is a store that commits nothing.
type full struct {
	store.Store
	err error
}

func (f full) Update(ctx context.Context, fn func(store.Txn) error) error {
	return f.Store.Update(ctx, func(tx store.Txn) error { return errors.Join(fn(tx), f.err) })
}

// TestTogether: migrations that share a transaction have spans of their own, and one
// that is tried with another which fails ends with the run.
func TestTogether(t *testing.T) {
	st, boom := openStore(t, 0), errors.New("boom")
	small := []migrate.Migration{{Name: "first", Up: nothing}, {Name: "second", Up: nothing}}
	got := run(t.Context(), t, full{st, boom}, nil, small...)
	if !errors.Is(got.err, boom) {
		t.Errorf("error = %v, want %v", got.err, boom)
	}
	want := []string{
		"kvmigrate run > migrate v0001_first schema=notes version=1 name=first Error exception",
		"kvmigrate run > migrate v0002_second schema=notes version=2 name=second Error",
		"start-up > kvmigrate run schema=notes from=0 to=0 Error",
	}
	if diff := cmp.Diff(want, got.tree(t)); diff != "" {
		t.Errorf("spans of a failure (-want +got):\n%s", diff)
	}
	want = []string{
		"migrate v0001_first > batch phase=1 steps=1 rows=0 bytes=0",
		"kvmigrate run > migrate v0001_first schema=notes version=1 name=first transactions=1 keys_written=0 keys_deleted=0",
		"migrate v0002_second > batch phase=1 steps=1 rows=0 bytes=0",
		"kvmigrate run > migrate v0002_second schema=notes version=2 name=second transactions=1 keys_written=0 keys_deleted=0",
		"start-up > kvmigrate run schema=notes from=0 to=2",
	}
	if diff := cmp.Diff(want, run(t.Context(), t, st, nil, small...).tree(t)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// TestBackup: the backup before the first migration has a span.
func TestBackup(t *testing.T) {
	first := migrate.Migration{Name: "first", Up: nothing}
	want := []string{
		"kvmigrate run > backup schema=notes",
		"migrate v0001_first > batch phase=1 steps=1 rows=0 bytes=0",
		"kvmigrate run > migrate v0001_first schema=notes version=1 name=first transactions=1 keys_written=0 keys_deleted=0",
		"start-up > kvmigrate run schema=notes from=0 to=1",
	}
	got := run(t.Context(), t, openStore(t, 25), func(o *migrate.Options) { o.Backup = &backup.Options{Dir: t.TempDir()} }, first)
	if diff := cmp.Diff(want, got.tree(t)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
