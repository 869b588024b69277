package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// A table is the entries of a store that migrations change, by key.
type table map[string]store.Entry

// size is a sum of what r holds, which each step of a migration changes.
func (r table) size() (n int) {
	for _, e := range r {
		n += rowSize(e)
	}
	return n
}

func rowSize(e store.Entry) int { return 1000 + len(e.Key) + len(e.Value) }

// A rung is one migration of a ladder: phases, one after the other, and perhaps a check.
type rung struct {
	phases []phase
	checks bool
	slow   bool // whether it takes longer than migrations may that share a transaction
}

// A phase is what a kind of Up does to the rows with a prefix. It leaves its mark, so
// that a row shows what was done to it, in which order and how often.
type phase struct {
	kind   string // of kinds
	prefix string
	mark   byte
}

// A kind is a way to write an Up: the Up itself, and what it does to a single row, which
// is what the reference model goes by.
type kind struct {
	up  func(p phase, row rowFunc) migrate.UpFunc
	row func(p phase, tx rowTx, e store.Entry) error
}

// A rowTx is what changes rows: a migrate.Tx, or the reference.
type rowTx interface {
	Get(key []byte) (store.Entry, error)
	Set(e store.Entry) error
	Delete(key []byte) error
	Scan(s store.Scan) iter.Seq2[store.Entry, error]
	Now() time.Time
}

// A rowFunc is what is called for each row.
type rowFunc func(tx rowTx, e store.Entry) error

var kinds = map[string]kind{
	"rewrite": {rewriting, appendMark},
	"serial": {func(p phase, row rowFunc) migrate.UpFunc { return migrate.Serial(each(p, row)) },
		func(p phase, tx rowTx, e store.Entry) error { // with the number of those before it
			before := 0
			for _, err := range tx.Scan(store.Scan{Prefix: p.numbers()}) {
				if err != nil {
					return err
				}
				before++
			}
			return tx.Set(store.Entry{Key: append(p.numbers(), e.Key...), Value: strconv.AppendInt(nil, int64(before), 10)})
		}},
	"stamp": {each, func(_ phase, tx rowTx, e store.Entry) error { // with the one clock that is the same when it is made again
		e.Value, e.Meta = strconv.AppendInt(e.Value, tx.Now().UnixMilli(), 10), e.Meta+1
		return tx.Set(e)
	}},
	"move": {each, func(p phase, tx rowTx, e store.Entry) error { // out of the prefix
		if err := tx.Delete(e.Key); err != nil {
			return err
		}
		e.Key = append([]byte("b/"), e.Key[2:]...)
		return appendMark(p, tx, e)
	}},
	"behind": {each, func(p phase, tx rowTx, e store.Entry) error { // some rows, into batches before theirs
		if n, err := strconv.Atoi(string(e.Key[2:])); err == nil && n%8 == 7 {
			if err := tx.Delete(e.Key); err != nil {
				return err
			}
			e.Key = fmt.Appendf(nil, "a/%03d%c", max(0, n-20), p.mark)
		}
		return appendMark(p, tx, e)
	}},
	"count": {each, func(p phase, tx rowTx, e store.Entry) error { // in entries that other batches change as well
		key := []byte{'!', p.mark, e.Key[len(e.Key)-1]}
		count, err := tx.Get(key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(count.Value))
		if err := tx.Set(store.Entry{Key: key, Value: strconv.AppendInt(nil, int64(n)+1, 10)}); err != nil {
			return err
		}
		return appendMark(p, tx, e)
	}},
	"widen": {each, func(p phase, tx rowTx, e store.Entry) error { // more than a batch of such rows may
		for i := range 6 {
			if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "w/%c%s/%d", p.mark, e.Key, i), Value: e.Value}); err != nil {
				return err
			}
		}
		return appendMark(p, tx, e)
	}},
	// Nothing that it reads is written, and later batches undo a part of what a batch did:
	// one that is committed again shows.
	"window": {each, func(p phase, tx rowTx, e store.Entry) error {
		n, _ := strconv.Atoi(string(e.Key[2:5]))
		return errors.Join(tx.Set(p.trace(n)), tx.Delete(p.trace(n-25).Key))
	}},
	"index":   indexes(1),
	"indexes": indexes(6), // more than a batch of such rows may
	"drop": {func(p phase, _ rowFunc) migrate.UpFunc { return migrate.DropPrefix([]byte(p.prefix)) },
		func(_ phase, tx rowTx, e store.Entry) error { return tx.Delete(e.Key) }},
	"steps": {stepping, appendMark},
	"whole": {func(_ phase, row rowFunc) migrate.UpFunc {
		return func(_ context.Context, tx *migrate.Tx) error { return row(tx, store.Entry{}) }
	}, func(p phase, tx rowTx, _ store.Entry) error {
		e, err := tx.Get([]byte("!whole"))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		e.Key = []byte("!whole")
		return errors.Join(appendMark(p, tx, e), tx.Set(store.Entry{Key: []byte{'c', '/', p.mark}}))
	}},
	"nothing": {func(phase, rowFunc) migrate.UpFunc {
		return func(context.Context, *migrate.Tx) error { return nil }
	}, nil},
}

func appendMark(p phase, tx rowTx, e store.Entry) error {
	e.Value = append(e.Value, p.mark)
	return tx.Set(e)
}

// indexes is the kind that adds so many entries of an index for each row.
func indexes(n int) kind {
	entry := func(id, row []byte, i int) []byte { return slices.Concat(row, []byte{0}, id, []byte{byte(i)}) }
	return kind{func(p phase, _ rowFunc) migrate.UpFunc {
		return migrate.IndexMany(store.MustPartition("a"), store.MustPartition(p.index()), func(id, row []byte, add func(key, value []byte)) error {
			for i := range n {
				add(entry(id, row, i), id)
			}
			return nil
		})
	}, func(p phase, tx rowTx, e store.Entry) (err error) {
		for i := range n {
			id := e.Key[len("a/"):]
			key := append([]byte(p.index()+"/"), entry(id, e.Value, i)...)
			err = errors.Join(err, tx.Set(store.Entry{Key: key, Value: id, ExpiresAt: e.ExpiresAt}))
		}
		return err
	}}
}

func (p phase) trace(row int) store.Entry {
	return store.Entry{Key: fmt.Appendf(nil, "t/%c%03d", p.mark, row)}
}

func (p phase) numbers() []byte { return []byte{'s', p.mark, '/'} }

func (p phase) index() string { return string([]byte{'i', p.mark}) }

func each(p phase, row rowFunc) migrate.UpFunc {
	return migrate.Each([]byte(p.prefix), func(_ context.Context, tx *migrate.Tx, e store.Entry) error { return row(tx, e) })
}

// rewriting hands the row function the value alone, and the mark back.
func rewriting(p phase, row rowFunc) migrate.UpFunc {
	return migrate.Rewrite([]byte(p.prefix), func(v []byte) ([]byte, error) {
		var got setter
		err := row(&got, store.Entry{Value: v})
		return got.Value, err
	})
}

// A setter keeps the entry that is set.
type setter struct {
	rowTx
	store.Entry
}

func (s *setter) Set(e store.Entry) error { s.Entry = e; return nil }

// stepping makes steps of its own, each as large as fits.
func stepping(p phase, row rowFunc) migrate.UpFunc {
	return func(_ context.Context, tx *migrate.Tx) error {
		scan := store.Scan{Prefix: []byte(p.prefix)}
		if c := tx.Cursor(); c != nil {
			scan.From = append(bytes.Clone(c), 0)
		}
		var step []store.Entry
		for e, err := range tx.Scan(scan) {
			if err != nil {
				return err
			}
			if len(step) == max(1, tx.Limits().TxnEntries/3) {
				tx.Continue(step[len(step)-1].Key)
				break
			}
			step = append(step, own(e))
		}
		for _, e := range step {
			if err := row(tx, e); err != nil {
				return err
			}
		}
		return nil
	}
}

// reference is how rows look after some migrations, or a part of one.
type reference struct {
	rows             table
	now              time.Time
	written, deleted uint64
	visited          int // rows, in the phase
}

func (r *reference) Get(key []byte) (store.Entry, error) {
	e, ok := r.rows[string(key)]
	if !ok {
		return store.Entry{}, store.ErrNotFound
	}
	return own(e), nil
}

func (r *reference) Set(e store.Entry) error {
	r.written++
	r.rows[string(e.Key)] = own(e)
	return nil
}

func (r *reference) Delete(key []byte) error {
	r.deleted++
	delete(r.rows, string(key))
	return nil
}

func (r *reference) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for key, e := range r.rows { // in any order
			if strings.HasPrefix(key, string(s.Prefix)) && !yield(e, nil) {
				return
			}
		}
	}
}

func (r *reference) Now() time.Time { return r.now }

// apply does to the rows what p does, until enough says so.
func (r *reference) apply(p phase, enough func() bool) {
	r.visited = 0
	var visits []store.Entry
	if p.kind == "whole" {
		visits = []store.Entry{{}}
	}
	for _, key := range slices.Sorted(maps.Keys(r.rows)) {
		if p.kind != "whole" && p.kind != "nothing" && strings.HasPrefix(key, p.prefix) {
			visits = append(visits, own(r.rows[key]))
		}
	}
	for _, e := range visits {
		if enough() {
			return
		}
		_ = kinds[p.kind].row(p, r, e) // which fails only if the reference does
		r.visited++
	}
}

func never() bool { return false }

// A model computes what a store has to hold, from what it held first and from what its
// history and progress say was done since.
type model struct {
	first  table
	ladder []rung
	after  []reference // the versions from 1 on, as far as they were computed
}

// at returns the rows of a version, and what the last migration wrote, given the
// migrations' clocks.
func (m *model) at(version int, started func(version int) time.Time) reference {
	if version == 0 {
		return reference{rows: m.first}
	}
	before := m.at(version-1, started)
	if len(m.after) >= version && m.after[version-1].now.Equal(started(version)) {
		return m.after[version-1]
	}
	r := reference{rows: maps.Clone(before.rows), now: started(version)}
	for _, p := range m.ladder[version-1].phases {
		r.apply(p, never)
	}
	m.after = append(m.after[:version-1], r)
	return r
}

// compare says how rows differ from what status and history say. With gaps, rows of the
// phase that is under way may be as they were before it.
func (m *model) compare(got table, status migrate.Status, history []migrate.Applied, gaps bool) error {
	if len(history) != int(status.Version) {
		return fmt.Errorf("v%d and a history of %d", status.Version, len(history))
	}
	started := func(version int) time.Time { return history[version-1].Started }
	for i, a := range history {
		want := m.at(i+1, started)
		if int(a.Version) != i+1 || a.Name != name(i) || a.KeysWritten != want.written || a.KeysDeleted != want.deleted {
			return fmt.Errorf("history of v%d: %+v; want %d keys written and %d deleted", i+1, a, want.written, want.deleted)
		}
	}
	want := m.at(len(history), started)
	p := status.Progress
	if p == nil {
		return difference(want.rows, want.rows, got)
	}
	if int(p.Version) != len(history)+1 || p.Name != name(len(history)) {
		return fmt.Errorf("v%d and a progress of v%d", len(history), p.Version)
	}
	phases := m.ladder[p.Version-1].phases
	if p.Phase > len(phases) {
		return fmt.Errorf("phase %d of %d", p.Phase, len(phases))
	}
	now := reference{rows: maps.Clone(want.rows), now: p.Started}
	for _, phase := range phases[:p.Phase-1] {
		now.apply(phase, never)
	}
	before := maps.Clone(now.rows)
	now.apply(phases[p.Phase-1], func() bool {
		if p.Visited > 0 {
			return now.visited >= int(p.Visited)
		}
		return now.written >= p.KeysWritten && now.deleted >= p.KeysDeleted
	})
	if p.KeysWritten != now.written || p.KeysDeleted != now.deleted {
		return fmt.Errorf("progress %v; want %d keys written and %d deleted", p, now.written, now.deleted)
	}
	if !gaps {
		before = now.rows
	}
	return difference(before, now.rows, got)
}

// difference names the first key that is neither as in one nor as in the other.
func difference(one, other, got table) error {
	wrong := map[string]bool{}
	for _, all := range []table{one, other, got} {
		for key := range all {
			if !same(one, got, key) && !same(other, got, key) {
				wrong[key] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(wrong)) {
		return fmt.Errorf("%q is %s, want %s", key, textOf(got, key), textOf(other, key))
	}
	return nil
}

// same reports whether a and b hold the same of key.
func same(a, b table, key string) bool {
	x, inA := a[key]
	y, inB := b[key]
	return inA == inB && bytes.Equal(x.Value, y.Value) && x.ExpiresAt == y.ExpiresAt && x.Meta == y.Meta
}

func textOf(r table, key string) string {
	e, ok := r[key]
	if !ok {
		return "nothing"
	}
	return fmt.Sprintf("%q (meta %d, expiry %d)", e.Value, e.Meta, e.ExpiresAt)
}

func name(i int) string { return fmt.Sprintf("m%d", i+1) }
