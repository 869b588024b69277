package backup

import (
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Stage is a pass over the entries.
type Stage string

// The stages: Take may compare with the backups that are there, writes and verifies;
// Verify verifies; Restore verifies, restores and compares. To verify, the file is read for
// its seal first, of which no entries are told.
const (
	Writing   Stage = "writing"
	Verifying Stage = "verifying"
	Restoring Stage = "restoring"
	Comparing Stage = "comparing"
)

// A Progress is how far a stage has come.
type Progress struct {
	Stage   Stage
	Entries uint64 // so far
	Bytes   uint64 // of their keys and values
	Total   uint64 // entries of the stage; 0 if that is not known

	Elapsed time.Duration // since the stage began
}

// A meter tells an observer, seldom enough to cost nothing.
type meter struct {
	observer func(Progress)
	now      Progress
	began    time.Time // the stage
	told     time.Time
}

func newMeter(observer func(Progress)) *meter { return &meter{observer: observer} }

func (m *meter) begin(s Stage, total uint64) {
	m.began = time.Now()
	m.now, m.told = Progress{Stage: s, Total: total}, m.began
}

func (m *meter) add(e store.Entry) { m.count(uint64(len(e.Key) + len(e.Value))) }

func (m *meter) count(bytes uint64) {
	m.now.Entries++
	m.now.Bytes += bytes
	if m.now.Entries%64 == 0 {
		m.tick()
	}
}

// Write is a sign of life for what is no entry.
func (m *meter) Write(p []byte) (int, error) {
	m.tick()
	return len(p), nil
}

func (m *meter) tick() {
	if m.observer != nil && time.Since(m.told) > time.Second {
		m.tell()
	}
}

func (m *meter) end() {
	if m.observer != nil {
		m.tell()
	}
}

func (m *meter) tell() {
	m.told = time.Now()
	m.now.Elapsed = m.told.Sub(m.began)
	m.observer(m.now)
}
