package migrate_test

import (
	"bytes"
	"context"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// A machine is a store in memory that can lose its power: what it holds, and what of
// that would be left. Its transactions conflict by the entries that they read, and by
// nothing else: an absent key that another one inserts and a third deletes is as it was.
type machine struct {
	volatile bool // whether commits wait for a Sync to be durable
	shared   bool

	// committed is called after each commit that wrote, with what the store then holds,
	// by one goroutine at a time.
	committed func(holds snapshot, by *transaction)

	mu       sync.Mutex
	holds    snapshot
	durable  snapshot
	unsynced []*transaction // committed since the last Sync, in order
	late     []*transaction // of unknown outcome, and still on their way
	revision uint64
}

// A snapshot is entries in the order of their keys. It is replaced and never changed.
type snapshot []item

type item struct {
	store.Entry
	revision uint64
}

func (s snapshot) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(i item, key []byte) int { return bytes.Compare(i.Key, key) })
}

// with returns the snapshot after the writes of t.
func (s snapshot) with(t *transaction, revision uint64) snapshot {
	s = slices.Clone(s)
	for key, e := range t.writes {
		i, found := s.find([]byte(key))
		switch {
		case e == nil && found:
			s = slices.Delete(s, i, i+1)
		case e != nil && found:
			s[i] = item{*e, revision}
		case e != nil:
			s = slices.Insert(s, i, item{*e, revision})
		}
	}
	return s
}

// A transaction implements store.Txn.
type transaction struct {
	sees   snapshot
	reads  map[string]uint64       // revisions, 0 of a key that was not there
	writes map[string]*store.Entry // nil for a key that is deleted
}

func (m *machine) begin() *transaction {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &transaction{sees: m.holds, reads: map[string]uint64{}, writes: map[string]*store.Entry{}}
}

// commit writes what t wrote, unless another one changed what it read.
func (m *machine) commit(t *transaction) error {
	if len(t.writes) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, revision := range t.reads {
		now := uint64(0)
		if i, found := m.holds.find([]byte(key)); found {
			now = m.holds[i].revision
		}
		if now != revision {
			return &store.Error{Op: "commit", Err: store.ErrConflict}
		}
	}
	m.revision++
	m.holds = m.holds.with(t, m.revision)
	if m.volatile {
		m.unsynced = append(m.unsynced, t)
	} else {
		m.durable = m.holds
	}
	if m.committed != nil {
		m.committed(m.holds, t)
	}
	return nil
}

// arrive commits what is still on its way, if what it read is as it was.
func (m *machine) arrive() {
	m.mu.Lock()
	late := m.late
	m.late = nil
	m.mu.Unlock()
	for _, t := range late {
		_ = m.commit(t)
	}
}

func (m *machine) sync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable, m.unsynced = m.holds, nil
}

// losePower loses each transaction since the last Sync with that probability, and says
// how many it lost.
func (m *machine) losePower(random *rand.Rand, loss float64) (lost int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holds = m.durable
	for _, t := range m.unsynced {
		if random.Float64() < loss {
			lost++
			continue
		}
		m.revision++
		m.holds = m.holds.with(t, m.revision)
	}
	m.durable, m.unsynced = m.holds, nil
	return lost
}

func (t *transaction) Get(key []byte) (store.Entry, error) {
	if e, ok := t.writes[string(key)]; ok {
		if e == nil {
			return store.Entry{}, store.ErrNotFound
		}
		return own(*e), nil
	}
	i, found := t.sees.find(key)
	if !found {
		t.reads[string(key)] = 0
		return store.Entry{}, store.ErrNotFound
	}
	t.reads[string(key)] = t.sees[i].revision
	return own(t.sees[i].Entry), nil
}

func (t *transaction) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		sees := t.sees
		if len(t.writes) > 0 {
			sees = sees.with(t, 0)
		}
		from, _ := sees.find(s.From)
		if bytes.Compare(s.Prefix, s.From) > 0 {
			from, _ = sees.find(s.Prefix)
		}
		for _, i := range sees[from:] {
			if !bytes.HasPrefix(i.Key, s.Prefix) {
				return
			}
			if _, wrote := t.writes[string(i.Key)]; !wrote {
				t.reads[string(i.Key)] = i.revision
			}
			e := own(i.Entry)
			if s.KeysOnly {
				e.Value = nil
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (t *transaction) Set(e store.Entry) error {
	e = own(e)
	t.writes[string(e.Key)] = &e
	return nil
}

func (t *transaction) Delete(key []byte) error {
	t.writes[string(key)] = nil
	return nil
}

// own returns an entry whose bytes nobody else has.
func own(e store.Entry) store.Entry {
	e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	return e
}

// still is what a machine holds at one moment, as a store that can only be read.
type still struct{ *process }

func stillOf(holds snapshot, shared bool) still {
	return still{&process{machine: &machine{holds: holds, shared: shared}, entries: 1, trace: func(string, ...any) {}}}
}

func (still) Update(context.Context, func(store.Txn) error) error { return store.ErrReadOnly }

// rows returns the entries that are no records of the schema.
func (s snapshot) rows() table {
	r := table{}
	for _, i := range s {
		if !bytes.HasPrefix(i.Key, []byte("system:")) {
			r[string(i.Key)] = i.Entry
		}
	}
	return r
}

// stands returns when the version and the progress of a migration last changed.
func (s snapshot) stands() (revisions [2]uint64) {
	for i, key := range []string{"system:schema_version", "system:schema_progress"} {
		if at, found := s.find([]byte(key)); found {
			revisions[i] = s[at].revision
		}
	}
	return revisions
}
