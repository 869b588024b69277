package cluster

import (
	"context"
	"errors"

	"github.com/kvmigrate/kvmigrate/store"
)

// gated is the store of a node: each transaction first reads whether the node may read
// and write it.
type gated struct {
	store.Store
	member *Member
}

// Unwrap returns the store below; see [store.As].
func (g gated) Unwrap() store.Store { return g.Store }

// Member returns the node whose store it is.
func (g gated) Member() *Member { return g.member }

// View implements [store.Store].
func (g gated) View(ctx context.Context, fn func(store.Reader) error) error {
	return g.Store.View(ctx, func(r store.Reader) error {
		version, err := g.admit(r)
		if err != nil {
			return err
		}
		return fn(reader{r, version})
	})
}

// Update implements [store.Store].
func (g gated) Update(ctx context.Context, fn func(store.Txn) error) error {
	return g.Store.Update(ctx, func(t store.Txn) error {
		version, err := g.admit(t)
		if err != nil {
			return err
		}
		return fn(txn{t, version})
	})
}

func (g gated) admit(r store.Reader) (uint32, error) {
	version, err := g.member.keys.admit(r, g.member.node)
	switch {
	case err == nil:
		g.member.sees(version)
	case errors.Is(err, ErrOutOfRange):
		g.member.end(err)
	}
	return version, err
}

type reader struct {
	store.Reader
	version uint32
}

type txn struct {
	store.Txn
	version uint32
}

func (r reader) schemaVersion() uint32 { return r.version }
func (t txn) schemaVersion() uint32    { return t.version }

// Version returns the active version of the schema in a transaction of a
// [Member.Store], and whether r is of one.
func Version(r store.Reader) (version uint32, ok bool) {
	v, ok := r.(interface{ schemaVersion() uint32 })
	if !ok {
		return 0, false
	}
	return v.schemaVersion(), true
}
