package statushttp

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
)

// A Handler runs the migrations of one schema in one store and serves how far they
// are. It is also a [prometheus.Collector] of what it serves as /metrics, which a
// program may register in a registry of its own. Its methods may be called
// concurrently.
type Handler struct {
	runner *migrate.Runner
	schema string
	known  []migrate.Migration // that the program has, in order
	turn   chan struct{}       // held by the UpTo at work

	mux     *http.ServeMux
	metrics metrics

	mu    sync.Mutex // held for moments: the observer waits for it
	state state

	rendering sync.Mutex
	rendered  rendered
}

var _ prometheus.Collector = (*Handler)(nil)

// New returns a Handler over st. It does not touch the store. The options are those
// for migrate.Up; their Observer is called as well. The error is that of
// [migrate.New].
func New(st store.Store, o migrate.Options) (*Handler, error) {
	h := &Handler{schema: o.Schema, turn: make(chan struct{}, 1)}
	if h.schema == "" {
		h.schema = migrate.DefaultSchema
	}
	registry := o.Registry
	if registry == nil {
		registry = migrate.DefaultRegistry()
	}
	h.known = registry.Migrations()
	h.state = state{stage: waiting, program: o.Program, target: h.latest()}
	next := o.Observer
	o.Observer = func(e migrate.Event) {
		h.observe(e)
		if next != nil {
			next(e)
		}
	}
	var err error
	if h.runner, err = migrate.New(st, o); err != nil {
		return nil, err
	}
	h.metrics = newMetrics(h.schema)
	registered := prometheus.NewRegistry()
	registered.MustRegister(h)
	h.mux = http.NewServeMux()
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { line(w, http.StatusOK, "ok") })
	h.mux.HandleFunc("GET /readyz", h.serveReady)
	h.mux.HandleFunc("GET /schema", h.serveSchema)
	h.mux.Handle("GET /metrics", promhttp.HandlerFor(registered, promhttp.HandlerOpts{}))
	h.mux.HandleFunc("GET /{$}", h.servePage)
	h.mux.Handle("GET /assets/{file}", http.FileServerFS(assets))
	return h, nil
}

// ServeHTTP serves the paths that the package names.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Cache-Control": "no-store",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
			"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "no-referrer",
		"X-Content-Type-Options":       "nosniff",
	} {
		w.Header().Set(name, value)
	}
	h.mux.ServeHTTP(w, r)
}

// Up is [migrate.Runner.Up], shown while it works and after.
func (h *Handler) Up(ctx context.Context) (migrate.Report, error) { return h.UpTo(ctx, h.latest()) }

// UpTo is [migrate.Runner.UpTo], shown while it works and after. It reads the
// history first, which costs more than that of a store with nothing pending. One
// that is called while another works waits for it.
func (h *Handler) UpTo(ctx context.Context, target uint32) (report migrate.Report, err error) {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return migrate.Report{Schema: h.schema}, ctx.Err()
	}
	defer func() { <-h.turn }()
	h.begin(target)
	h.readHistory(ctx)
	err = errPanicked // unless UpTo returns
	defer func() {
		if len(report.Applied) > 0 || !h.endsAt(report.To) { // not all need be of this run
			h.readHistory(context.WithoutCancel(ctx))
		}
		h.end(report, err)
	}()
	return h.runner.UpTo(ctx, target)
}

// Joined says that the program is a node of the store, and serves at each version that m
// supports, so that it is ready as well while other nodes hold its upgrade back, and is
// not once m is out. A deployment that replaces nodes one by one needs that: it stops old
// nodes, which hold new ones back, only when those are ready.
func (h *Handler) Joined(m *cluster.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state.member = m
}

var errPanicked = errors.New("the run ended in a panic")

func (h *Handler) serveReady(w http.ResponseWriter, _ *http.Request) {
	s := h.snapshot(time.Now())
	ready, why := s.readiness()
	code := http.StatusServiceUnavailable
	if ready {
		code = http.StatusOK
	}
	line(w, code, why)
}

func line(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // a client that is gone needs no answer
}
