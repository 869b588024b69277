// Package fit finds the entries that a store cannot keep before they are written to it.
package fit

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// Why a store cannot keep an entry.
const (
	Expires     = "expiry"   // it has an expiry
	HasMeta     = "meta"     // it has a user meta
	LongKey     = "key"      // its key is too long
	ReservedKey = "reserved" // its key is one that the store has for itself
	LongValue   = "value"    // its value is too long for a transaction
)

// A Misfit says which entries of a group a store cannot keep, and why.
type Misfit struct {
	Group   string
	Reason  string
	Entries uint64
	First   []byte // the key of the first one
}

// A Check holds entries against what a store keeps.
type Check struct {
	limits       store.Limits
	expiry, meta bool // whether it keeps them
	misfits      []Misfit
}

// errTried ends a transaction that only tries what a store takes.
var errTried = errors.New("only tried")

// New returns a check of entries for st within limits. It asks st in transactions that
// write nothing whether its entries have an expiry and a user meta; key is one that st can
// have.
func New(ctx context.Context, st store.Store, limits store.Limits, key []byte) (*Check, error) {
	keeps := func(e store.Entry) (bool, error) {
		e.Key = key
		var refused error
		err := store.Update(ctx, st, func(tx store.Txn) error {
			refused = tx.Set(e)
			return errTried
		})
		switch {
		case !errors.Is(err, errTried):
			return false, err
		case errors.Is(refused, store.ErrUnsupported):
			return false, nil
		}
		return true, refused
	}
	const hour = 60 * 60
	expiry, err := keeps(store.Entry{ExpiresAt: uint64(time.Now().Unix()) + hour})
	if err != nil {
		return nil, err
	}
	meta, err := keeps(store.Entry{Meta: 1})
	if err != nil {
		return nil, err
	}
	return &Check{limits: limits, expiry: expiry, meta: meta}, nil
}

// Look notes of e, which is of group, why the store cannot keep it, if so. beside is how
// many of the bytes of its transaction other entries take.
func (c *Check) Look(group string, e store.Entry, beside int) {
	note := func(reason string) { c.note(group, reason, e.Key) }
	if e.ExpiresAt != 0 && !c.expiry {
		note(Expires)
	}
	if e.Meta != 0 && !c.meta {
		note(HasMeta)
	}
	switch {
	case len(e.Key) > c.limits.KeyBytes:
		note(LongKey)
	case c.limits.Reserved != "" && bytes.HasPrefix(e.Key, []byte(c.limits.Reserved)):
		note(ReservedKey)
	case len(e.Value) > c.limits.ValueBytes, c.limits.Charge(e)+beside > c.limits.TxnBytes:
		note(LongValue)
	}
}

func (c *Check) note(group, reason string, key []byte) {
	i := slices.IndexFunc(c.misfits, func(m Misfit) bool { return m.Group == group && m.Reason == reason })
	if i < 0 {
		i = len(c.misfits)
		c.misfits = append(c.misfits, Misfit{Group: group, Reason: reason, First: bytes.Clone(key)})
	}
	c.misfits[i].Entries++
}

// Misfits returns what was noted, by group and reason, in the order in which each was met
// first; nil if the store can keep all.
func (c *Check) Misfits() []Misfit { return c.misfits }
