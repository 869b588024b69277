package migrate

import (
	"context"
	"strconv"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Migration takes a schema from version Version-1 to Version; one with a Baseline
// takes an empty store there directly.
type Migration struct {
	// Version is 1 for the first migration of a schema, unless it is a baseline,
	// and one more for each next.
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

	// Check, if not nil, looks at what Up made. Its error, which then matches
	// ErrCheck, keeps the version as it was. If Up took one transaction, Check
	// reads in the same one, and nothing of Up remains. If it took several, Check
	// is a step of its own after all of them: they stay, and running again begins
	// with Check. Badger keeps eight bytes for each entry that Check reads; to look
	// at all rows of a large table, make [Each] the last of [Phases] instead.
	//
	// Check is a pure function of the reader as Up is of its Tx, and the same
	// holds of concurrency.
	Check func(ctx context.Context, r store.Reader) error

	// ReadableFrom and WritableFrom are the oldest versions whose programs may
	// still read, or read and write, a store at Version: because Up only added
	// what they do not look at, for example. Programs in between are then not
	// refused; see [Report.ReadOnly]. 0 means Version itself: no older program.
	// Whatever a later migration breaks, it breaks for these programs as well, as
	// long as it does not say otherwise, too.
	ReadableFrom, WritableFrom uint32

	// Unreleased marks a migration that may still change. It is refused with an
	// [*UnreleasedError] in a store that went only through released ones, unless
	// Options.AllowUnreleased is set.
	Unreleased bool

	// Baseline, if not nil, makes this the first migration of its registry,
	// whatever its Version: it stands for all versions up to there, whose
	// migrations are no longer part of the program.
	Baseline *Baseline
}

// A Baseline says of a migration that it creates the schema at its version
// directly, in a store that has none. A store at an earlier version is refused with
// a [*TooOldError].
type Baseline struct {
	// Fingerprint is the one that the migrations up to this version had, in
	// hexadecimal, as the history of a store that went through them has it:
	// Up goes on with such stores.
	Fingerprint string

	// Release names the last release of the program that has those migrations,
	// for the error that sends users there.
	Release string
}

// An UpFunc makes the change of one migration by reading and writing through tx.
// All its writes commit in one transaction together with the new version, or
// none does. A change that does not fit in one transaction is made in steps: see
// [Tx.Continue]. It runs again from the start if the transaction met a conflict, or
// was shared with a migration that turned out to need one of its own, so it must be a pure function of tx: no clock but [Tx.Now], no randomness, no
// effects elsewhere. It must not keep tx or use it from other goroutines. One that
// returns what a builder such as [Each] made is called for each batch, several at a
// time with different Txs.
type UpFunc func(ctx context.Context, tx *Tx) error

// from returns the version that the store is at when m runs.
func (m Migration) from() uint32 {
	if m.Baseline != nil {
		return 0
	}
	return m.Version - 1
}

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
