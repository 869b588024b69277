package migrate

import (
	"context"
	"strconv"
)

// A Migration takes a schema from version Version-1 to Version.
type Migration struct {
	// Version is 1 for the first migration of a schema and one more for each
	// next.
	Version uint32

	// Name identifies the migration for good, together with its version:
	// lower-case words of letters and digits, joined by underscores, at most
	// 64 characters. The store keeps it, and a program with another migration
	// under the same number is refused.
	Name string

	// Description completes "migrating v1 -> v2: …" in the log. It may change
	// later. If empty, the log shows Name.
	Description string

	// Up makes the change.
	Up UpFunc
}

// An UpFunc makes the change of one migration by reading and writing through tx.
// All its writes commit in one transaction together with the new version, or
// none does. A change that does not fit in one transaction is made in steps: see
// [Tx.Continue]. It runs again from the start if the transaction met a conflict, so
// it must be a pure function of tx: no clock but [Tx.Now], no randomness, no
// effects elsewhere. It must not keep tx or use it from other goroutines. One that
// returns what a builder such as [Each] made is called for each batch, several at a
// time with different Txs.
type UpFunc func(ctx context.Context, tx *Tx) error

// ID returns the migration's number and name as its file has them, for example
// "v0002_add_system_metrics".
func (m Migration) ID() string { return string(m.appendID(nil)) }

// appendID appends the ID to b.
func (m Migration) appendID(b []byte) []byte {
	b = append(b, 'v')
	for limit := uint32(1000); limit > 1 && m.Version < limit; limit /= 10 {
		b = append(b, '0')
	}
	b = strconv.AppendUint(b, uint64(m.Version), 10)
	return append(append(b, '_'), m.Name...)
}

// describe returns what the log says about m.
func (m Migration) describe() string {
	if m.Description != "" {
		return m.Description
	}
	return m.Name
}
