// Package oteltrace makes OpenTelemetry spans of runs, their migrations and the
// batches of these. It depends on the API of OpenTelemetry alone.
//
//	tracer := oteltrace.New(nil)
//	options.Observer = tracer.Observe
//	runner, err := migrate.New(st, options)
//	…
//	report, err := tracer.Run(ctx, runner.Up)
//
// # Spans
//
// "kvmigrate run", below the span of ctx, has the attributes kvmigrate.schema,
// kvmigrate.from and kvmigrate.to, the versions that it found and left.
//
// "backup" is the backup before the first migration, if there is to be one.
//
// "migrate v0002_add_titles" has kvmigrate.version and kvmigrate.name, and once it is
// finished kvmigrate.transactions, kvmigrate.keys_written and kvmigrate.keys_deleted
// of the migration, in all runs that it took. Small migrations may share a
// transaction, and then their spans overlap.
//
// "batch" is a committed step, or several in a row: kvmigrate.steps of them, one each
// for the first thousand and then as many as thousands went before, so that hours
// of batches make thousands of spans. It has kvmigrate.phase, and of the entries it
// visited kvmigrate.rows and kvmigrate.bytes. Batches overlap, and so do their spans.
//
// Spans have the text of errors, and no keys or values beside it.
package oteltrace

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvmigrate/kvmigrate/migrate"
)

// A Tracer makes the spans of one run at a time. Its methods may be called
// concurrently, but the spans of runs that overlap would get mixed up.
type Tracer struct {
	tracer trace.Tracer

	mu     sync.Mutex
	run    context.Context // of the run's span
	backup trace.Span      // while there is one
	open   []*migration    // that have started
}

// A migration is one that has started.
type migration struct {
	span   trace.Span
	within context.Context // of span
	last   migrate.Event
	batch  batch // steps that have no span yet
}

// A batch is some steps of one migration.
type batch struct {
	began              time.Time
	phase              int
	steps, rows, bytes uint64
}

// New returns a Tracer. A nil provider means the global one.
func New(provider trace.TracerProvider) *Tracer {
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	return &Tracer{tracer: provider.Tracer("github.com/kvmigrate/kvmigrate/migrate/oteltrace"), run: context.Background()}
}

// Run calls up in a span and returns what it returns. up is the method Up of a
// [migrate.Runner], or of what wraps one, with Observe as an observer. All spans
// are ended when Run returns or up panics.
func (t *Tracer) Run(ctx context.Context, up func(context.Context) (migrate.Report, error)) (report migrate.Report, err error) {
	ctx, span := t.tracer.Start(ctx, "kvmigrate run")
	t.begin(ctx)
	why := panicked // unless up returns
	defer func() {
		if why != "" {
			span.SetStatus(codes.Error, why)
		}
		t.end(why)
		span.End()
	}()
	report, err = up(ctx)
	why = ""
	span.SetAttributes(
		attribute.String("kvmigrate.schema", report.Schema),
		attribute.Int64("kvmigrate.from", int64(report.From)),
		attribute.Int64("kvmigrate.to", int64(report.To)),
	)
	if err != nil {
		why = err.Error()
		if _, of := errors.AsType[*migrate.MigrationError](err); !of { // whose span has it
			span.RecordError(err)
		}
	}
	return report, err
}

const panicked = "the run ended in a panic"

func (t *Tracer) begin(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.run = ctx
}

// end ends what is open, because of why: the backup before a migration if it failed,
// migrations that were tried together with one that failed, and all after a panic.
func (t *Tracer) end(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.run = context.Background()
	t.endBackup(why)
	for _, m := range t.open {
		m.span.SetStatus(codes.Error, why)
		m.end(t.tracer)
	}
	t.open = nil
}

// Observe is the observer for [migrate.Options]. Outside of Run the spans of
// migrations have no parent.
func (t *Tracer) Observe(e migrate.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Kind {
	case migrate.Waiting:
		return
	case migrate.BackingUp:
		if t.backup == nil {
			_, t.backup = t.tracer.Start(t.run, "backup", trace.WithTimestamp(time.Now().Add(-e.Elapsed)),
				trace.WithAttributes(attribute.String("kvmigrate.schema", e.Schema)))
		}
		return
	case migrate.Started:
		t.endBackup("")
		t.start(e)
		return
	}
	i := slices.IndexFunc(t.open, func(m *migration) bool { return m.last.Version == e.Version })
	if i < 0 {
		return
	}
	m := t.open[i]
	switch e.Kind {
	case migrate.Batch:
		m.add(t.tracer, e)
		return
	case migrate.Finished:
		if a := e.Applied; a != nil {
			m.span.SetAttributes(
				attribute.Int64("kvmigrate.transactions", int64(a.Transactions)),
				attribute.Int64("kvmigrate.keys_written", int64(a.KeysWritten)),
				attribute.Int64("kvmigrate.keys_deleted", int64(a.KeysDeleted)),
			)
		}
	case migrate.Failed:
		var more []trace.EventOption
		if p, ok := errors.AsType[*migrate.PanicError](e.Err); ok {
			more = append(more, trace.WithAttributes(attribute.String("exception.stacktrace", string(p.Stack))))
		}
		m.span.RecordError(e.Err, more...)
		m.span.SetStatus(codes.Error, e.Err.Error())
	}
	m.end(t.tracer)
	t.open = slices.Delete(t.open, i, i+1)
}

func (t *Tracer) start(e migrate.Event) {
	m := &migration{last: e}
	m.within, m.span = t.tracer.Start(t.run, "migrate "+e.ID(), trace.WithTimestamp(e.Began), trace.WithAttributes(
		attribute.String("kvmigrate.schema", e.Schema),
		attribute.Int64("kvmigrate.version", int64(e.Version)),
		attribute.String("kvmigrate.name", e.Name),
	))
	t.open = append(t.open, m)
}

func (t *Tracer) endBackup(why string) {
	if t.backup == nil {
		return
	}
	if why != "" {
		t.backup.SetStatus(codes.Error, why)
	}
	t.backup.End()
	t.backup = nil
}

// add takes the step that e reports into the batch, and makes a span of it when it
// has enough of them.
func (m *migration) add(tracer trace.Tracer, e migrate.Event) {
	if e.Phase != m.last.Phase {
		m.flush(tracer)
		m.last.Done, m.last.Bytes = 0, 0
	}
	b := &m.batch
	if b.steps == 0 {
		b.began, b.phase = e.Began, e.Phase
	}
	b.steps++
	b.rows += e.Done - min(e.Done, m.last.Done)
	b.bytes += e.Bytes - min(e.Bytes, m.last.Bytes)
	m.last = e
	if b.steps >= 1+e.Steps/1000 {
		m.flush(tracer)
	}
}

// flush makes a span of the steps that have none.
func (m *migration) flush(tracer trace.Tracer) {
	b := m.batch
	if b.steps == 0 {
		return
	}
	m.batch = batch{}
	_, span := tracer.Start(m.within, "batch", trace.WithTimestamp(b.began), trace.WithAttributes(
		attribute.Int("kvmigrate.phase", b.phase),
		attribute.Int64("kvmigrate.steps", int64(b.steps)),
		attribute.Int64("kvmigrate.rows", int64(b.rows)),
		attribute.Int64("kvmigrate.bytes", int64(b.bytes)),
	))
	span.End()
}

// end ends the span of the migration.
func (m *migration) end(tracer trace.Tracer) {
	m.flush(tracer)
	m.span.End()
}
