package transfer

import (
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A meter tells an observer, seldom enough to cost nothing.
type meter struct {
	observer func(Progress)
	now      Progress
	began    time.Time // the stage
	told     time.Time
}

func (m *meter) begin(s Stage, total, before uint64) {
	m.began = time.Now()
	m.now = Progress{Stage: s, Total: total, Before: before, Entries: before}
	m.tell()
}

func (m *meter) add(e store.Entry) {
	m.now.Entries++
	m.now.Bytes += uint64(len(e.Key) + len(e.Value))
	if m.now.Entries%64 == 0 && time.Since(m.told) > time.Second {
		m.tell()
	}
}

func (m *meter) end() {
	m.now.Ended = true
	m.tell()
}

func (m *meter) tell() {
	m.told = time.Now()
	m.now.Elapsed = m.told.Sub(m.began)
	if m.observer != nil {
		m.observer(m.now)
	}
}
