package statushttp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
)

// A stage is what the Handler is at, as the package describes.
type stage string

const (
	waiting stage = "waiting"
	running stage = "running"
	ready   stage = "ready"
	pending stage = "pending"
	stopped stage = "stopped"
	failed  stage = "failed"
	refused stage = "refused"
)

var stages = []stage{waiting, running, ready, pending, stopped, failed, refused}

// A state is everything that is shown. A copy may be read while the original goes
// on changing: what it points to does not change.
type state struct {
	stage    stage
	schema   string
	program  string
	known    []migrate.Migration
	target   uint32
	readOnly bool

	version uint32 // valid if read
	read    bool   // whether the history could be read
	history []migrate.Applied

	started, ended time.Time      // of the last UpTo
	event          *migrate.Event // the last one of the migration that runs, or failed
	began          time.Time      // that migration
	err            error

	applied, failures, steps, entries, bytes uint64 // since New

	changes uint64 // grows whenever more changes than a number
}

func (h *Handler) latest() uint32 { return latest(h.known) }

// latest returns the last version of migrations, 0 if there is none.
func latest(migrations []migrate.Migration) uint32 {
	if len(migrations) == 0 {
		return 0
	}
	return migrations[len(migrations)-1].Version
}

// snapshot returns the state, as of now.
func (h *Handler) snapshot(now time.Time) state {
	h.mu.Lock()
	s := h.state
	h.mu.Unlock()
	s.schema, s.known = h.schema, h.known
	if s.stage == running && s.event != nil { // a step may take long, and no event comes meanwhile
		e := *s.event
		e.Elapsed = now.Sub(s.began)
		s.event = &e
	}
	return s
}

func (h *Handler) begin(target uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.state
	s.stage, s.target, s.readOnly = running, target, false
	s.started, s.ended = time.Now().UTC(), time.Time{}
	s.event, s.err = nil, nil
	s.changes++
}

// readHistory reads the history of the store. If that fails, UpTo will say why.
func (h *Handler) readHistory(ctx context.Context) {
	history, err := h.runner.History(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.state
	s.read, s.history, s.version = err == nil, history, 0
	if n := len(history); n > 0 {
		s.version = history[n-1].Version
	}
	s.changes++
}

// endsAt reports whether the history is known to end at version.
func (h *Handler) endsAt(version uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last uint32
	if n := len(h.state.history); n > 0 {
		last = h.state.history[n-1].Version
	}
	return h.state.read && last == version
}

func (h *Handler) end(report migrate.Report, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.state
	s.readOnly, s.ended, s.err = report.ReadOnly, time.Now().UTC(), err
	switch {
	case errors.Is(err, migrate.ErrRefused):
		s.stage = refused
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		s.stage = stopped
	case err != nil:
		s.stage = failed
	case report.To < h.latest():
		s.stage = pending
	default:
		s.stage = ready
	}
	if err == nil {
		s.version, s.read, s.event = report.To, true, nil
	}
	s.changes++
}

// observe is the observer of the runner.
func (h *Handler) observe(e migrate.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.state
	before := s.event
	s.event = &e
	switch e.Kind {
	case migrate.Started:
		s.began = e.Began
		if e.Baseline == nil {
			s.version = e.Version - 1
		}
	case migrate.Batch:
		s.steps++
		if before == nil || before.Phase != e.Phase {
			before = new(migrate.Event)
		}
		s.entries += e.Done - min(before.Done, e.Done)
		s.bytes += e.Bytes - min(before.Bytes, e.Bytes)
		if before.Phase == e.Phase && before.Phases == e.Phases && (before.Total > 0) == (e.Total > 0) {
			return
		}
	case migrate.Finished:
		s.applied++
		s.version, s.event = e.Version, nil
		if e.Applied != nil {
			s.history = append(s.history, *e.Applied)
		}
	case migrate.Failed:
		s.failures++
	}
	s.changes++
}

// pending returns the migrations after the store's version, none while that is not
// known.
func (s state) pending() []migrate.Migration {
	if !s.read {
		return nil
	}
	for i, m := range s.known {
		if m.Version > s.version {
			return s.known[i:]
		}
	}
	return nil
}

// reason says the stage in a line.
func (s state) reason() string {
	switch s.stage {
	case waiting:
		return "migrations have not begun"
	case running:
		if s.event == nil {
			return "migrations begin"
		}
		return "migrating " + s.event.String()
	case ready:
		text := fmt.Sprintf("%s schema is at v%d", s.schema, s.version)
		if s.readOnly {
			text += ", newer than this program, which must only read it"
		}
		return text
	case pending:
		return fmt.Sprintf("%s schema is at v%d, where the run was to stop; %d more are pending", s.schema, s.version, len(s.pending()))
	}
	return fmt.Sprintf("%s: %v", s.stage, s.err)
}
