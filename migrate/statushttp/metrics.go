package statushttp

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvmigrate/kvmigrate/migrate"
)

// metrics are the descriptions of what is collected. Programs with several schemas
// register a Handler for each, so the schema is a constant label.
type metrics struct {
	version, latest, state, ready, pending       *prometheus.Desc
	applied, failures, steps, entries, bytes     *prometheus.Desc
	began, phase, phases, done, expected, remain *prometheus.Desc
}

func newMetrics(schema string) metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("kvmigrate_"+name, help, labels, prometheus.Labels{"schema": schema})
	}
	migration := func(name, help string) *prometheus.Desc {
		return desc("migration_"+name, help+" Absent while none runs.", "version", "name")
	}
	return metrics{
		version: desc("schema_version", "Version that the store is at. Absent while it is not known."),
		latest:  desc("schema_latest_version", "Latest version that the program knows."),
		state:   desc("schema_state", "1 for the state that the schema is in, 0 for the others.", "state"),
		ready:   desc("schema_ready", "1 if the program may use the store, else 0."),
		pending: desc("migrations_pending", "Migrations that the store lacks. Absent while its version is not known."),

		applied:  desc("migrations_applied_total", "Migrations finished since the process began."),
		failures: desc("migrations_failed_total", "Migrations failed or stopped since the process began."),
		steps:    desc("migration_steps_total", "Transactions committed since the process began."),
		entries:  desc("migration_entries_total", "Entries visited since the process began."),
		bytes:    desc("migration_visited_bytes_total", "Keys and values of the entries visited since the process began."),

		began:    migration("start_timestamp_seconds", "When the migration that runs began, in this process."),
		phase:    migration("phase", "Phase that the migration is in, from 1."),
		phases:   migration("phases", "Phases that the migration has."),
		done:     migration("done_entries", "Entries of the phase that are done, also before an interruption."),
		expected: migration("expected_entries", "Entries of the phase, an estimate. Absent while there is none."),
		remain:   migration("remaining_seconds", "Time until the phase is done, an estimate. Absent while there is none."),
	}
}

// Describe implements [prometheus.Collector].
func (h *Handler) Describe(ch chan<- *prometheus.Desc) {
	m := h.metrics
	for _, d := range []*prometheus.Desc{
		m.version, m.latest, m.state, m.ready, m.pending,
		m.applied, m.failures, m.steps, m.entries, m.bytes,
		m.began, m.phase, m.phases, m.done, m.expected, m.remain,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (h *Handler) Collect(ch chan<- prometheus.Metric) {
	m, s := h.metrics, h.snapshot(time.Now())
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.GaugeValue, v, labels...) }
	if s.read {
		gauge(m.version, float64(s.version))
		gauge(m.pending, float64(len(s.pending())))
	}
	gauge(m.latest, float64(h.latest()))
	usable, _ := s.readiness()
	gauge(m.ready, oneIf(usable))
	for _, other := range stages {
		gauge(m.state, oneIf(s.stage == other), string(other))
	}
	for d, v := range map[*prometheus.Desc]uint64{
		m.applied: s.applied, m.failures: s.failures, m.steps: s.steps, m.entries: s.entries, m.bytes: s.bytes,
	} {
		send(d, prometheus.CounterValue, float64(v))
	}
	e := s.event
	if s.stage != running || e == nil || e.Kind == migrate.BackingUp || e.Kind == migrate.Waiting {
		return
	}
	labels := []string{strconv.FormatUint(uint64(e.Version), 10), e.Name}
	gauge(m.began, float64(s.began.UnixMilli())/1000, labels...)
	gauge(m.phase, float64(e.Phase), labels...)
	gauge(m.phases, float64(e.Phases), labels...)
	gauge(m.done, float64(e.Done), labels...)
	if e.Total > 0 {
		gauge(m.expected, float64(e.Total), labels...)
	}
	if e.ETA > 0 {
		gauge(m.remain, e.ETA.Seconds(), labels...)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
