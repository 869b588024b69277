package jobs_test

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// A memory is a store without goroutines, so that it can be used in a bubble of
// package synctest. Its writers go one after the other, and so never conflict.
type memory struct {
	mu      sync.Mutex
	entries map[string]store.Entry // replaced, not changed, by a commit
	fail    error                  // of every View and Update, if not nil
	views   int
	updates int
}

// newMemory returns one with system tables of the newest version.
func newMemory(t *testing.T) *memory {
	t.Helper()
	st := &memory{entries: map[string]store.Entry{}}
	if _, err := systables.Initialize(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	return st
}

// setFail makes every transaction fail with err, or none if it is nil.
func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// transactions returns how many there were.
func (m *memory) transactions() (views, updates int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.views, m.updates
}

func (m *memory) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	m.views++
	entries, err := m.entries, m.fail
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return fn(&memoryTxn{entries: entries})
}

func (m *memory) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates++
	if m.fail != nil {
		return m.fail
	}
	tx := &memoryTxn{entries: maps.Clone(m.entries)}
	if err := fn(tx); err != nil {
		return err
	}
	m.entries = tx.entries
	return ctx.Err()
}

func (m *memory) Sync(ctx context.Context) error { return ctx.Err() }
func (m *memory) Close() error                   { return nil }

func (m *memory) Limits() store.Limits {
	return store.Limits{TxnEntries: 1000, TxnBytes: 1 << 20, KeyBytes: 1 << 10, ValueBytes: 1 << 20}
}

type memoryTxn struct{ entries map[string]store.Entry }

func (tx *memoryTxn) Get(key []byte) (store.Entry, error) {
	e, ok := tx.entries[string(key)]
	if !ok {
		return e, &store.Error{Op: "get", Key: bytes.Clone(key), Err: store.ErrNotFound}
	}
	e.Value = bytes.Clone(e.Value)
	return e, nil
}

func (tx *memoryTxn) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		keys := slices.Sorted(maps.Keys(tx.entries))
		if s.Reverse {
			slices.Reverse(keys)
		}
		for _, key := range keys {
			order := bytes.Compare([]byte(key), s.From)
			if !bytes.HasPrefix([]byte(key), s.Prefix) || s.From != nil && (!s.Reverse && order < 0 || s.Reverse && order > 0) {
				continue
			}
			if e, ok := tx.entries[key]; ok && !yield(e, nil) {
				return
			}
		}
	}
}

func (tx *memoryTxn) Set(e store.Entry) error {
	e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	tx.entries[string(e.Key)] = e
	return nil
}

func (tx *memoryTxn) Delete(key []byte) error {
	delete(tx.entries, string(key))
	return nil
}
