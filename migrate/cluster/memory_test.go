package cluster

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/kvmigrate/kvmigrate/store"
)

// memory is a store whose transactions conflict by the keys that they read and by
// nothing else: rows that another one inserts into a range that was scanned are none,
// and a key that was absent and is absent again is as it was. It asks the simulation
// before each operation what comes first, and what becomes of each commit.
type memory struct {
	world    *world
	data     map[string]item // replaced and never changed
	revision uint64
}

type item struct {
	value    []byte
	revision uint64
}

// memoryTxn implements store.Txn.
type memoryTxn struct {
	world    *world
	snapshot map[string]item
	reads    map[string]uint64
	writes   map[string][]byte // nil for a deleted key
}

func (m *memory) begin() *memoryTxn {
	return &memoryTxn{world: m.world, snapshot: m.data, reads: map[string]uint64{}, writes: map[string][]byte{}}
}

func (m *memory) View(_ context.Context, fn func(store.Reader) error) error {
	m.world.step("begin")
	return fn(m.begin())
}

// Update implements store.Store. A conflict it tries again by itself, without a pause.
func (m *memory) Update(_ context.Context, fn func(store.Txn) error) error {
	for {
		m.world.step("begin")
		t := m.begin()
		if err := fn(t); err != nil {
			return err
		}
		m.world.step("commit")
		switch m.world.fate() {
		case lost:
			return store.ErrUnknown
		case unconfirmed:
			m.commit(t)
			return store.ErrUnknown
		case late:
			m.world.late(func() { m.commit(t) })
			return store.ErrUnknown
		}
		if m.commit(t) {
			m.world.step("committed")
			return nil
		}
	}
}

// commit writes what t wrote unless a key that it read was changed.
func (m *memory) commit(t *memoryTxn) bool {
	if len(t.writes) == 0 {
		return true
	}
	for key, revision := range t.reads {
		if m.data[key].revision != revision {
			m.world.tracef("conflict on %s", key)
			return false
		}
	}
	m.revision++
	m.data = maps.Clone(m.data)
	for key, value := range t.writes {
		if value == nil {
			delete(m.data, key)
		} else {
			m.data[key] = item{value, m.revision}
		}
	}
	m.world.committed(t)
	return true
}

func (*memory) Sync(context.Context) error { return nil }
func (*memory) Limits() store.Limits       { return store.Limits{} }
func (*memory) Close() error               { return nil }
func (*memory) Shared() bool               { return true }

func (t *memoryTxn) Get(key []byte) (store.Entry, error) {
	t.world.step("get")
	value, ok := t.read(string(key))
	if !ok {
		return store.Entry{}, store.ErrNotFound
	}
	return store.Entry{Key: key, Value: bytes.Clone(value)}, nil
}

func (t *memoryTxn) read(key string) ([]byte, bool) {
	if value, ok := t.writes[key]; ok {
		return value, value != nil
	}
	i, ok := t.snapshot[key]
	t.reads[key] = i.revision
	return i.value, ok
}

func (t *memoryTxn) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		t.world.step("scan")
		keys := map[string]bool{}
		for key := range t.snapshot {
			keys[key] = true
		}
		for key, value := range t.writes {
			keys[key] = value != nil
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if !keys[key] || !strings.HasPrefix(key, string(s.Prefix)) || key < string(s.From) {
				continue
			}
			value, _ := t.read(key)
			if !yield(store.Entry{Key: []byte(key), Value: bytes.Clone(value)}, nil) {
				return
			}
		}
	}
}

func (t *memoryTxn) Set(e store.Entry) error {
	t.writes[string(e.Key)] = append([]byte{}, e.Value...)
	return nil
}

func (t *memoryTxn) Delete(key []byte) error {
	t.writes[string(key)] = nil
	return nil
}
