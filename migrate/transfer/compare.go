package transfer

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/internal/instep"
	"github.com/kvmigrate/kvmigrate/store"
)

// verify compares both sides, the destination as it will be with the versions.
func (c *transfer) verify(ctx context.Context) error {
	c.meter.begin(Comparing, c.source.entries, 0)
	source, destination := newTally(), newTally()
	different := map[string]*MismatchError{}
	for p, err := range c.pairs(ctx) {
		if err != nil {
			return err
		}
		if p.destination == nil {
			p.destination = c.version(p.source.Key)
		}
		if p.source != nil {
			source.add(*p.source)
			c.meter.add(*p.source)
		}
		if p.destination != nil {
			destination.add(*p.destination)
		}
		if !p.same() {
			name := source.partition(p.key()).Partition
			if different[name] == nil {
				different[name] = &MismatchError{First: bytes.Clone(p.key())}
			}
			different[name].Different++
		}
	}
	c.meter.end()
	if !bytes.Equal(source.fingerprint(), c.source.fingerprint()) {
		return ErrSourceChanged
	}
	return mismatches(different, source.sums(), destination.sums())
}

// version returns the version that is to be written under key, nil if key is none.
func (c *transfer) version(key []byte) *store.Entry {
	for i := range c.versions {
		if bytes.Equal(c.versions[i].Key, key) {
			return &c.versions[i]
		}
	}
	return nil
}

// mismatches returns one error for each partition that differs.
func mismatches(different map[string]*MismatchError, source, destination []Sum) error {
	if len(different) == 0 {
		return nil
	}
	of := func(sums []Sum, name string) Sum {
		for _, s := range sums {
			if s.Partition == name {
				return s
			}
		}
		return Sum{Partition: name}
	}
	var faults *multierror.Error
	for _, name := range slices.Sorted(maps.Keys(different)) {
		m := different[name]
		m.Source, m.Destination = of(source, name), of(destination, name)
		faults = multierror.Append(faults, m)
	}
	return fmt.Errorf("%w: %w", ErrDifferent, faults.ErrorOrNil())
}

// isCopy reports whether the destination is a finished copy of the source. It stops at
// the first difference.
func (c *transfer) isCopy(ctx context.Context) (bool, error) {
	c.meter.begin(Comparing, c.source.entries, 0)
	for p, err := range c.pairs(ctx) {
		if err != nil || !p.same() {
			return false, err
		}
		c.meter.add(*p.source)
	}
	c.meter.end()
	return true, nil
}

// A pair is what both sides have at one key.
type pair struct{ source, destination *store.Entry }

func (p pair) key() []byte {
	if p.source != nil {
		return p.source.Key
	}
	return p.destination.Key
}

func (p pair) same() bool {
	a, b := p.source, p.destination
	return a != nil && b != nil && a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta && bytes.Equal(a.Value, b.Value)
}

// pairs yields the entries of both sides that are copied, in the order of their keys. It
// leaves out those that expired on one side before the other was read.
func (c *transfer) pairs(ctx context.Context) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		source, destination := copied(entries(ctx, c.from, nil)), copied(entries(ctx, c.to, nil))
		for p, err := range instep.Pairs(source, destination) {
			at := pair{source: p.A, destination: p.B}
			if (err != nil || !at.expired()) && !yield(at, err) {
				return
			}
		}
	}
}

// expired reports whether it is no wonder that one side does not have the entry.
func (p pair) expired() bool {
	e := p.source
	switch {
	case p.source != nil && p.destination != nil:
		return false
	case e == nil:
		e = p.destination
	}
	return e.ExpiresAt != 0 && e.ExpiresAt <= uint64(time.Now().Unix())
}

// copied yields those of all that a copy has.
func copied(all iter.Seq2[item, error]) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range all {
			if err == nil && (e.kind == momentary || e.kind == copyRecord) {
				continue
			}
			if !yield(e.Entry, err) {
				return
			}
		}
	}
}

// An item is an entry and what becomes of it.
type item struct {
	store.Entry
	kind kind
}

// entries yields the entries of st from the key from on. It reads one snapshot if the
// store keeps it for so long, and otherwise goes on in a new one.
func entries(ctx context.Context, st store.Store, from []byte) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		var last []byte
		for {
			stopped, read := false, false
			err := st.View(ctx, func(r store.Reader) error {
				for e, err := range r.Scan(store.Scan{From: from}) {
					if err == nil {
						err = ctx.Err()
					}
					if err != nil {
						return err
					}
					kind, err := kindIn(r, e.Key)
					if err != nil {
						return err
					}
					last, read = append(last[:0], e.Key...), true
					if stopped = !yield(item{e, kind}, nil); stopped {
						return nil
					}
				}
				return nil
			})
			switch {
			case stopped || err == nil:
				return
			case store.Retriable(err) && read:
				from = after(bytes.Clone(last))
			default:
				yield(item{}, err)
				return
			}
		}
	}
}
