package overlay

import (
	"bytes"
	"iter"

	"github.com/kvmigrate/kvmigrate/store"
)

// A merge is one scan over all layers and the base. Of several entries with one
// key it yields that of the highest layer.
type merge struct {
	reverse bool
	sources []*source // from the top layer to the base
	winner  *source   // of the last entry
}

// A source is the scan of one layer, or of the base.
type source struct {
	isBase bool
	pull   func() (store.Entry, error, bool)
	stop   func()

	head    store.Entry
	deleted bool // what head is
	done    bool
	stale   bool // whether head was used
}

func (r *reader) merge(s store.Scan) *merge {
	m := &merge{reverse: s.Reverse}
	for _, layer := range r.below(r.layer) {
		in := store.Scan{Prefix: layered(layer, s.Prefix), Reverse: s.Reverse}
		if s.From != nil {
			in.From = layered(layer, s.From)
		}
		src := &source{stale: true}
		src.pull, src.stop = iter.Pull2(r.scratch.Scan(in))
		m.sources = append(m.sources, src)
	}
	base := &source{isBase: true, stale: true}
	base.pull, base.stop = r.store.base.scan(s)
	m.sources = append(m.sources, base)
	if r.scans == nil {
		r.scans = map[*merge]struct{}{}
	}
	r.scans[m] = struct{}{}
	return m
}

// close ends m unless the end of the transaction already did.
func (r *reader) close(m *merge) {
	if !r.done {
		delete(r.scans, m)
		m.stop()
	}
}

func (m *merge) stop() {
	for _, s := range m.sources {
		s.stop()
	}
}

// fromTop reports whether the last entry is of the top layer.
func (m *merge) fromTop() bool { return m.winner == m.sources[0] }

// next returns the next entry, without a key at the end. It reads no further than
// that in each source, because what is read may be protected.
func (m *merge) next() (store.Entry, error) {
	for {
		m.winner = nil
		for _, s := range m.sources {
			if err := s.advance(); err != nil {
				return store.Entry{}, err
			}
			if !s.done && (m.winner == nil || m.before(s.head.Key, m.winner.head.Key)) {
				m.winner = s
			}
		}
		if m.winner == nil {
			return store.Entry{}, nil
		}
		for _, s := range m.sources {
			s.stale = !s.done && bytes.Equal(s.head.Key, m.winner.head.Key)
		}
		if !m.winner.deleted && !expired(m.winner.head) {
			return m.winner.head, nil
		}
	}
}

func (m *merge) before(a, b []byte) bool {
	if m.reverse {
		a, b = b, a
	}
	return bytes.Compare(a, b) < 0
}

// advance makes head the next entry if it was used.
func (s *source) advance() error {
	if !s.stale || s.done {
		return nil
	}
	e, err, ok := s.pull()
	switch {
	case err != nil:
		return err
	case !ok:
		s.done = true
		return nil
	case s.isBase:
		s.head = e
		return nil
	}
	head, exists, err := decode(e.Key[prefixLen:], e.Value)
	s.head, s.deleted = head, !exists
	return err
}
