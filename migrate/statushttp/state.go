package statushttp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
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
	event          *migrate.Event // what is at work, or failed: the last event of it
	began          time.Time      // when that began
	err            error
	held           error           // by which nodes the last UpTo was held back, as long as nothing has begun since
	member         *cluster.Member // nil unless the program is a node

	open  []at // what has started, of this UpTo; not for readers
	fresh bool // whether nothing has started yet; not for readers

	applied, failures, steps, entries, bytes uint64 // since New

	changes uint64 // grows whenever more changes than a number
}

// An at is a migration that has started.
type at struct {
	began time.Time
	last  migrate.Event
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
		if e.Kind == migrate.Started {
			e.Kind = migrate.Batch // of which the text says how far it is
		}
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
	s.event, s.err, s.open, s.fresh = nil, nil, nil, true
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
	held := errors.Is(err, migrate.ErrHeldBack)
	switch {
	case held:
		s.stage = pending
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
	s.held = nil
	if held {
		s.held = err
	}
	if err == nil || held {
		s.version, s.read, s.event = report.To, true, nil
	}
	s.changes++
}

// observe is the observer of the runner.
func (h *Handler) observe(e migrate.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.state
	if s.news(e) {
		s.changes++
	}
	s.event = &e
	if e.Kind != migrate.Waiting {
		s.held = nil // from now on the store is closed to its nodes
	}
	switch e.Kind {
	case migrate.BackingUp, migrate.Waiting:
		s.began = time.Now().Add(-e.Elapsed)
	case migrate.Started:
		s.began = e.Began
		s.open = append(s.open, at{e.Began, e})
		if s.fresh && e.Baseline == nil { // also in a store that was adopted
			s.version = e.Version - 1
		}
		s.fresh = false
	case migrate.Batch:
		s.steps++
		for i := range s.open {
			if o := &s.open[i]; o.last.Version == e.Version {
				s.count(o.last, e)
				s.began, o.last = o.began, e
			}
		}
	case migrate.Finished:
		s.applied++
		s.version = e.Version
		if e.Applied != nil {
			s.history = append(s.history, *e.Applied)
		}
		s.close(e.Version)
	case migrate.Failed:
		s.failures++
		s.drop(e.Version) // the run may start it again, after another process had its turn
	}
}

// news reports whether e says more than that a number has grown.
func (s *state) news(e migrate.Event) bool {
	b := s.event
	return b == nil || e.Kind != b.Kind || e.Version != b.Version || e.Phase != b.Phase || (e.Total > 0) != (b.Total > 0)
}

// count adds what the step that e reports visited.
func (s *state) count(last, e migrate.Event) {
	if last.Phase != e.Phase {
		last.Done, last.Bytes = 0, 0
	}
	s.entries += e.Done - min(last.Done, e.Done)
	s.bytes += e.Bytes - min(last.Bytes, e.Bytes)
}

// close forgets the migration that is finished, and shows the one that started last
// and is not.
func (s *state) close(version uint32) {
	s.drop(version)
	s.event = nil
	if n := len(s.open); n > 0 {
		e := s.open[n-1].last
		s.event, s.began = &e, s.open[n-1].began
	}
}

// drop forgets a migration that has started.
func (s *state) drop(version uint32) {
	s.open = slices.DeleteFunc(s.open, func(o at) bool { return o.last.Version == version })
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

// readiness reports whether the program may use the store, and says why.
func (s state) readiness() (ok bool, why string) {
	node := s.member != nil
	switch {
	case node && s.member.Err() != nil:
		return false, s.member.Err().Error()
	case node && s.held != nil:
		return true, s.held.Error()
	}
	return s.stage == ready, s.reason()
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
		if k := s.event.Kind; k == migrate.BackingUp || k == migrate.Waiting {
			return s.event.String()
		}
		return "migrating " + s.event.String()
	case ready:
		text := fmt.Sprintf("%s schema is at v%d", s.schema, s.version)
		if s.readOnly {
			text += ", newer than this program, which must only read it"
		}
		return text
	case pending:
		if s.err != nil {
			return s.err.Error()
		}
		return fmt.Sprintf("%s schema is at v%d, where the run was to stop, with %d more pending", s.schema, s.version, len(s.pending()))
	}
	return fmt.Sprintf("%s: %v", s.stage, s.err)
}
