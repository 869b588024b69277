package oteltrace_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/oteltrace"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// Example traces a run with the provider that a program has.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "notes-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()

	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	defer provider.Shutdown(ctx)

	tracer := oteltrace.New(provider) // nil is the global provider
	runner, err := migrate.New(st, migrate.Options{
		Schema: "notes", Observer: tracer.Observe, Logger: slog.New(slog.DiscardHandler),
		Registry: migrate.NewRegistry(migrate.Migration{Version: 1, Name: "first_note", Up: nothing}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := tracer.Run(ctx, runner.Up)
	fmt.Println(report.To, err)
	for _, span := range exporter.GetSpans() {
		fmt.Println(span.Name)
	}
	// Output:
	// 1 <nil>
	// batch
	// migrate v0001_first_note
	// kvmigrate run
}
