package transfer

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/internal/fit"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/store"
)

// ErrRefused is matched by every error that means: this source is not copied into this
// destination. Nothing was written.
var ErrRefused = errors.New("copy refused")

// What is refused. Each matches [ErrRefused] as well.
var (
	// ErrNotEmpty means that the destination holds entries that are not those of
	// the source.
	ErrNotEmpty = errors.New("the destination is in use: it holds entries that are not the source's. Name one that is empty, or remove what is there")

	// ErrEncrypted means that the source is encrypted and the destination is not; see
	// Options.Plaintext.
	ErrEncrypted = errors.New("the source is encrypted, and the destination would have its entries in the clear. Open the destination with a key, or allow it (Options.Plaintext, --plaintext)")

	// ErrOtherSource means that the destination holds an interrupted copy of other
	// entries: of another store, or of this one before it was changed.
	ErrOtherSource = errors.New("the destination holds an interrupted copy of another source, or of this one before it changed. Go on from the same source, or remove what is there and begin anew")
)

// ErrSourceChanged means that the source was written while it was copied. The
// destination is no store; what is there must be removed before the next copy.
var ErrSourceChanged = errors.New("the source was changed while it was copied: stop the programs that write it, remove what is in the destination and copy again")

// ErrDifferent means that the destination does not hold what was written there. It comes
// with a [*MismatchError] for each partition that differs. The destination is no store;
// what is there must be removed before the next copy.
var ErrDifferent = errors.New("both sides differ after the copy: see that nothing else writes the destination, remove what is in it and copy again")

func refused(err error) error { return fmt.Errorf("%w: %w", ErrRefused, err) }

func unwritten(err error) error { return fmt.Errorf("%w; nothing was written", err) }

// An IncompleteError says how far a copy came that did not reach its end. What is in the
// destination every program refuses, and the same copy goes on from there.
type IncompleteError struct {
	Entries uint64 // that are in the destination
	Total   uint64 // that are to be copied
	Err     error
}

func (e *IncompleteError) Error() string {
	text := fmt.Sprintf("copied %d of %s: %v", e.Entries, plural.Of(e.Total, "entry"), e.Err)
	if errors.Is(e.Err, ErrSourceChanged) || errors.Is(e.Err, ErrDifferent) {
		return text + ". Nothing was lost: the source is as it is, and every program refuses the destination"
	}
	return text + "; nothing is lost, and every program refuses the destination until the copy is finished. Run the same copy again to go on from there"
}

// Unwrap returns Err.
func (e *IncompleteError) Unwrap() error { return e.Err }

// An UnfinishedError says that a store is the destination of a copy that is not finished.
// It matches [ErrRefused].
type UnfinishedError struct {
	Entries uint64    // that were copied
	Total   uint64    // that are to be copied
	Started time.Time // UTC, milliseconds

	// Err, if not nil, is why the record of the copy cannot be read; the other
	// fields are zero then.
	Err error
}

func (e *UnfinishedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the store is a copy that is not finished, and its record is damaged: %v: "+
			"remove what is in it and copy again, or use the store that it is copied from", e.Err)
	}
	return fmt.Sprintf("the store is a copy that is not finished: it has %d of %s, and was begun at %s. "+
		"Run the same copy again to finish it, or use the store that it is copied from", e.Entries, plural.Of(e.Total, "entry"), e.Started.Format(time.RFC3339))
}

// Is reports whether target is ErrRefused.
func (*UnfinishedError) Is(target error) bool { return target == ErrRefused }

// Unwrap returns Err.
func (e *UnfinishedError) Unwrap() error { return e.Err }

// A Reason is why a store cannot keep an entry.
type Reason string

// The reasons.
const (
	Expires     Reason = fit.Expires     // it has an expiry
	HasMeta     Reason = fit.HasMeta     // it has a user meta
	LongKey     Reason = fit.LongKey     // its key is too long
	ReservedKey Reason = fit.ReservedKey // its key is one that the store has for itself
	LongValue   Reason = fit.LongValue   // its value is too long for a transaction
)

var reasons = map[Reason]string{
	Expires:     "with an expiry, which the destination cannot keep: wait until they are gone, delete them, or write them without one",
	HasMeta:     "with a user meta, which the destination does not keep: write them without one",
	LongKey:     "with a key too long for the destination: move them to shorter ones",
	ReservedKey: "with a key that the destination reserves for itself: move them to others",
	LongValue:   "with a value too long for the destination: make them smaller, or raise the destination's limits",
}

// A RefusalError says which entries of a partition the destination cannot keep. It
// matches [ErrRefused], and [store.ErrUnsupported].
type RefusalError struct {
	Partition string // as in [Sum]
	Reason    Reason
	Entries   uint64
	First     []byte // the key of the first one; keys can be secret, and are not in the text
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("%s: %s %s", partitionName(e.Partition), plural.Of(e.Entries, "entry"), reasons[e.Reason])
}

// Is reports whether target is ErrRefused or store.ErrUnsupported.
func (*RefusalError) Is(target error) bool {
	return target == ErrRefused || target == store.ErrUnsupported
}

// refusal returns an error for each of what was found, nil if there is none.
func refusal(found []fit.Misfit) error {
	var faults *multierror.Error
	for _, m := range found {
		faults = multierror.Append(faults, &RefusalError{m.Group, Reason(m.Reason), m.Entries, m.First})
	}
	if faults == nil {
		return nil
	}
	return fmt.Errorf("the destination cannot keep what the source has; nothing was written: %w", faults)
}

// A MismatchError says that both sides have different entries in a partition after the
// copy. It comes with [ErrDifferent].
type MismatchError struct {
	Source, Destination Sum
	Different           uint64 // entries that one side has otherwise, or alone
	First               []byte // the key of the first one; keys can be secret, and are not in the text
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: a difference of %s; the source has %s of %d bytes with checksum %x, the destination %d of %d with %x", partitionName(e.Source.Partition), plural.Of(e.Different, "entry"),
		plural.Of(e.Source.Entries, "entry"), e.Source.Bytes, e.Source.Checksum[:8], e.Destination.Entries, e.Destination.Bytes, e.Destination.Checksum[:8])
}

// partitionName is how people are told of the partition of a [Sum] or an error.
func partitionName(name string) string {
	switch name {
	case "":
		return "(outside)"
	case "*":
		return "(others)"
	}
	return name
}
