package statushttp

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kvmigrate/kvmigrate/migrate"
)

//go:embed assets
var assets embed.FS

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// The page shows this much, however many versions there are.
const (
	rungsBefore = 5  // applied versions on the ladder
	rungsAfter  = 10 // versions to come
	records     = 25 // of the history
)

// A rendered is the page as it is for all who ask within a second.
type rendered struct {
	changes uint64
	second  int64
	page    []byte
}

func (h *Handler) servePage(w http.ResponseWriter, _ *http.Request) {
	page, err := h.page(time.Now())
	if err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page) // a client that is gone needs no answer
}

// page returns the page, made anew at most once a second and after what is more
// than a number has changed.
func (h *Handler) page(now time.Time) ([]byte, error) {
	h.rendering.Lock()
	defer h.rendering.Unlock()
	s, last := h.snapshot(now), h.rendered
	if last.page != nil && last.changes == s.changes && last.second == now.Unix() {
		return last.page, nil
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, s.view()); err != nil {
		return nil, err
	}
	h.rendered = rendered{s.changes, now.Unix(), page.Bytes()}
	return page.Bytes(), nil
}

// A view is what the template shows.
type view struct {
	Schema, Program, Title string
	Stage                  stage
	Headline               string
	Refresh                int // seconds until the page should be asked for again

	Version        string // "v3", "" while it is not known
	Latest, Target uint32
	ReadOnly       bool

	Now   *work
	Error string

	Rungs         []rung
	Before, After string // how many rungs are not shown

	Records []record
	Earlier string // how many records are not shown

	Started, Ended moment
}

// A work is the migration that runs.
type work struct {
	Name, Title string
	Done, Total uint64
	Figures     []figure
}

type figure struct{ Label, Text string }

// A rung is a version on the ladder.
type rung struct {
	Version           uint32
	Name, Description string
	Mark              string // applied, running, failed or pending
}

// A record is a line of history.
type record struct {
	Version                            uint32
	Name, Note, Took, Written, Deleted string
	Finished                           moment
	Program                            string
}

// A moment is a time as HTML wants it and as people do, both "" for none.
type moment struct{ ISO, Text string }

func newMoment(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{t.UTC().Format(time.RFC3339), t.UTC().Format("2006-01-02 15:04:05 UTC")}
}

var headlines = map[stage]string{
	waiting: "Migrations have not begun",
	running: "Migrating",
	ready:   "Up to date",
	pending: "Stopped where it was told to",
	stopped: "Stopped; the next start goes on",
	failed:  "Failed",
	refused: "Refused; nothing was changed",
}

func (s state) view() view {
	v := view{
		Schema: s.schema, Program: s.program, Stage: s.stage, Headline: headlines[s.stage], Refresh: 5,
		Latest: latest(s.known), Target: s.target, ReadOnly: s.readOnly,
		Started: newMoment(s.started), Ended: newMoment(s.ended),
	}
	if s.read {
		v.Version = "v" + strconv.FormatUint(uint64(s.version), 10)
	}
	v.Title = v.Headline
	if s.err != nil {
		v.Error = s.err.Error()
	}
	if s.stage == running {
		v.Refresh = 1
		if s.event != nil {
			v.Now = newWork(*s.event)
			v.Title = v.Now.Title
		}
	}
	s.climb(&v)
	s.recall(&v)
	return v
}

func newWork(e migrate.Event) *work {
	name := e.ID()
	switch e.Kind {
	case migrate.BackingUp:
		name = "Backup before " + name
	case migrate.Waiting:
		name += ", by another process"
	}
	w := &work{Name: name, Title: name, Done: e.Done, Total: e.Total}
	add := func(label, text string) { w.Figures = append(w.Figures, figure{label, text}) }
	switch {
	case e.Total > 0:
		percent := strconv.FormatUint(e.Done*100/e.Total, 10) + " %"
		w.Title = percent + " " + name
		add("Done", percent)
		add("Entries", comma(e.Done)+" of "+comma(e.Total))
	case e.Done > 0:
		add("Entries", comma(e.Done))
	}
	if e.Rate > 0 {
		add("Rate", comma(uint64(e.Rate))+"/s")
	}
	if e.ETA > 0 {
		left := "under a second"
		if e.ETA >= time.Second {
			left = "about " + span(e.ETA)
		}
		add("Left", left)
	}
	add("Running for", span(e.Elapsed))
	if e.Phases > 1 {
		add("Phase", strconv.Itoa(e.Phase)+" of "+strconv.Itoa(e.Phases))
	}
	if e.Bytes > 0 {
		add("Visited", humanize.IBytes(e.Bytes))
	}
	if e.Steps > 0 {
		add("Steps", comma(e.Steps))
	}
	return w
}

func comma(n uint64) string { return humanize.Comma(int64(min(n, 1<<62))) }

// span says a duration to the second.
func span(d time.Duration) string { return d.Round(time.Second).String() }

// climb fills in the ladder around the version that the store is at.
func (s state) climb(v *view) {
	first := max(0, len(s.history)-rungsBefore)
	for _, a := range s.history[first:] {
		v.Rungs = append(v.Rungs, rung{a.Version, a.Name, a.Description, "applied"})
	}
	if first > 0 {
		v.Before = comma(uint64(first)) + " earlier"
	}
	next := s.pending()
	shown := min(len(next), rungsAfter)
	for _, m := range next[:shown] {
		mark := "pending"
		if e := s.event; e != nil && e.Version == m.Version && e.Kind != migrate.BackingUp {
			mark = "running"
			if s.stage != running {
				mark = "failed"
			}
		}
		v.Rungs = append(v.Rungs, rung{m.Version, m.Name, m.Description, mark})
	}
	if hidden := len(next) - shown; hidden > 0 {
		v.After = comma(uint64(hidden)) + " more"
	}
}

// recall fills in the history, newest first.
func (s state) recall(v *view) {
	for i := len(s.history) - 1; i >= 0; i-- {
		if len(v.Records) == records {
			v.Earlier = comma(uint64(i+1)) + " earlier"
			return
		}
		a := s.history[i]
		r := record{
			Version: a.Version, Name: a.Name, Note: string(a.Origin), Finished: newMoment(a.Finished),
			Took: a.Finished.Sub(a.Started).String(), Written: comma(a.KeysWritten), Deleted: comma(a.KeysDeleted), Program: a.Program,
		}
		if a.Unreleased {
			r.Note = "unreleased"
		}
		v.Records = append(v.Records, r)
	}
}
