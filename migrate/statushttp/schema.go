package statushttp

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
)

// most bounds the lists of /schema.
const most = 100

// The JSON forms, which the package describes.
type (
	schemaJSON struct {
		Schema       string            `json:"schema"`
		Program      string            `json:"program,omitempty"`
		State        stage             `json:"state"`
		Reason       string            `json:"reason"`
		Version      *uint32           `json:"version"`
		Target       uint32            `json:"target"`
		Latest       uint32            `json:"latest"`
		ReadOnly     bool              `json:"read_only,omitempty"`
		Pending      []migrationJSON   `json:"pending"`
		PendingTotal int               `json:"pending_total"`
		Running      *runningJSON      `json:"running,omitempty"`
		History      []migrate.Applied `json:"history"`
		HistoryTotal int               `json:"history_total"`
		Started      time.Time         `json:"started,omitzero"`
		Ended        time.Time         `json:"ended,omitzero"`
		Error        string            `json:"error,omitempty"`
	}
	migrationJSON struct {
		Version     uint32 `json:"version"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Unreleased  bool   `json:"unreleased,omitempty"`
	}
	runningJSON struct {
		Version     uint32        `json:"version"`
		Name        string        `json:"name"`
		Description string        `json:"description"`
		BackingUp   bool          `json:"backing_up,omitempty"`
		Started     time.Time     `json:"started"`
		Phase       int           `json:"phase"`
		Phases      int           `json:"phases"`
		Steps       uint64        `json:"steps"`
		Done        uint64        `json:"done"`
		Total       uint64        `json:"total"`
		Bytes       uint64        `json:"bytes"`
		Rate        float64       `json:"rate"`
		Elapsed     time.Duration `json:"elapsed_ns"`
		ETA         time.Duration `json:"eta_ns"`
		Text        string        `json:"text"`
	}
)

func (h *Handler) serveSchema(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // an arrow is to be read as one
	e.SetIndent("", "  ")
	_ = e.Encode(h.snapshot(time.Now()).json()) // a client that is gone needs no answer
}

func (s state) json() schemaJSON {
	pending := s.pending()
	out := schemaJSON{
		Schema: s.schema, Program: s.program, State: s.stage, Reason: s.reason(),
		Target: s.target, Latest: latest(s.known), ReadOnly: s.readOnly,
		Pending: []migrationJSON{}, PendingTotal: len(pending),
		History: append([]migrate.Applied{}, s.history[max(0, len(s.history)-most):]...), HistoryTotal: len(s.history),
		Started: s.started, Ended: s.ended,
	}
	if s.read {
		out.Version = &s.version
	}
	if s.err != nil {
		out.Error = s.err.Error()
	}
	for _, m := range pending[:min(most, len(pending))] {
		out.Pending = append(out.Pending, migrationJSON{m.Version, m.Name, m.Description, m.Unreleased})
	}
	if e := s.event; s.stage == running && e != nil {
		out.Running = &runningJSON{
			e.Version, e.Name, e.Description, e.Kind == migrate.BackingUp, s.began.UTC(), e.Phase, e.Phases, e.Steps,
			e.Done, e.Total, e.Bytes, e.Rate, e.Elapsed, e.ETA, e.String(),
		}
	}
	return out
}
