package migrate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kvmigrate/kvmigrate/store"
)

// ErrRefused is matched by every error that means: this program must not touch
// this store as it is. Nothing was written.
var ErrRefused = errors.New("store refused")

// ErrUnversioned means that the store holds data, but no schema version and nothing else
// that kvmigrate writes. It is another program's store, or one from before
// kvmigrate; for the latter set Options.AllowUnversioned. It matches ErrRefused.
var ErrUnversioned error = refusal("the store holds data but no schema version, so it may belong to another program; nothing was changed. " +
	"If the data is from before this program used kvmigrate, allow unversioned stores and start again")

// ErrReservedKey means that a migration wrote to a key in which kvmigrate keeps the
// version, history, progress, lock or trail of a schema.
var ErrReservedKey = errors.New("key is reserved for the records of a schema")

// ErrTornValue means that a migration wrote a value so large that a power loss could
// empty it although the progress or version that vouches for it survives. Open
// the Badger store with SyncWrites.
var ErrTornValue = errors.New("the value is too large to be safe from a power loss while Badger's SyncWrites is off; open the store with SyncWrites on")

// ErrAhead means that a RowFunc wrote or deleted a key that the scan over its prefix
// has yet to reach, where it would be visited as if it had not been changed, or
// has been read already.
var ErrAhead = errors.New("the key lies ahead within the prefix that is being visited, and would be visited itself; move such entries out of the prefix in one phase and back in a second")

// ErrDuplicate means that two rows want the same key of an index.
var ErrDuplicate = errors.New("two rows have the same key in the index")

type refusal string

func (e refusal) Error() string      { return string(e) }
func (refusal) Is(target error) bool { return target == ErrRefused }

// A DowngradeError says that the store is at a version beyond the one that the program
// knows or was asked for. It matches [ErrRefused].
type DowngradeError struct {
	Schema    string
	Stored    uint32 // the store's version
	Known     uint32 // the program's latest version, or the target
	WrittenBy string // the program that brought the store to Stored, "" if unknown
}

func (e *DowngradeError) Error() string {
	by := ""
	if e.WrittenBy != "" {
		by = " by " + e.WrittenBy
	}
	return fmt.Sprintf("cannot downgrade %s schema from v%d to v%d: the store was written%s at v%d; nothing was changed. "+
		"Run the program version that knows v%d, or restore a backup taken at v%d or before",
		e.Schema, e.Stored, e.Known, by, e.Stored, e.Stored, e.Known)
}

// Is reports whether target is ErrRefused.
func (*DowngradeError) Is(target error) bool { return target == ErrRefused }

// An UnknownTargetError says that the version asked for is beyond the latest that the
// program knows. Nothing was written.
type UnknownTargetError struct {
	Schema string
	Target uint32
	Latest uint32
}

func (e *UnknownTargetError) Error() string {
	return fmt.Sprintf("no version v%d of %s schema: the latest this program knows is v%d; nothing was changed", e.Target, e.Schema, e.Latest)
}

// A CorruptError says that what the store keeps about its schema is damaged or
// contradicts itself. It matches [ErrRefused] and [store.ErrCorrupt].
type CorruptError struct {
	Schema string
	Key    []byte // the key in question
	Reason string // contains neither keys nor values
	Err    error  // the cause below, may be nil
}

func (e *CorruptError) Error() string {
	text := fmt.Sprintf("%s schema is corrupt: %s", e.Schema, e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + "; nothing was changed. Keep a copy of the store and restore a backup"
}

// Is reports whether target is ErrRefused or store.ErrCorrupt.
func (*CorruptError) Is(target error) bool {
	return target == ErrRefused || target == store.ErrCorrupt
}

// Unwrap returns Err.
func (e *CorruptError) Unwrap() error { return e.Err }

// A RenamedError says that the store had another migration applied under a number that
// the program knows, as when two branches took the same one. It matches
// [ErrRefused].
type RenamedError struct {
	Schema  string
	Version uint32
	Stored  string // the name in the store's history
	Known   string // the program's name for that version
}

func (e *RenamedError) Error() string {
	return fmt.Sprintf("%s schema v%d in the store is migration %q, in this program it is %q: they have different histories; nothing was changed. "+
		"Run the program that wrote the store, or restore a backup from before v%d", e.Schema, e.Version, e.Stored, e.Known, e.Version)
}

// Is reports whether target is ErrRefused.
func (*RenamedError) Is(target error) bool { return target == ErrRefused }

// An UnderWayError says that a migration of several transactions was interrupted,
// and that this program does not know it or was told to stop before it. It matches [ErrRefused].
type UnderWayError struct {
	Schema  string
	Version uint32 // of the migration under way
	Name    string
	Known   uint32 // the program's latest version, or the target
}

func (e *UnderWayError) Error() string {
	return fmt.Sprintf("%s schema is being upgraded to v%d (%s), which was interrupted, and this program goes only to v%d; nothing was changed. "+
		"Finish the upgrade with the program version that began it, or restore a backup", e.Schema, e.Version, e.Name, e.Known)
}

// Is reports whether target is ErrRefused.
func (*UnderWayError) Is(target error) bool { return target == ErrRefused }

// A MigrationError says that one migration failed. Its transaction was discarded:
// the store is at version Version-1, as the migration found it or, if it takes
// several transactions, as the last of them left it. Running again goes on there.
type MigrationError struct {
	Schema   string
	Version  uint32
	Name     string
	Progress *Progress // what is committed of it, also by runs before; nil if nothing
	Err      error
}

func (e *MigrationError) Error() string {
	hint := ""
	if errors.Is(e.Err, store.ErrTxnTooBig) && !errors.Is(e.Err, errRowTooBig) {
		hint = "; it writes more than one transaction holds: do it in batches: with Each or another builder, or with Tx.Continue"
	}
	left := fmt.Sprintf("the store is unchanged at v%d", e.Version-1)
	if e.Progress != nil {
		left = fmt.Sprintf("the store is at v%d and has %s; run again to go on from there", e.Version-1, e.Progress)
	}
	return fmt.Sprintf("migrate %s schema v%d -> v%d (%s): %v%s; %s", e.Schema, e.Version-1, e.Version, e.Name, e.Err, hint, left)
}

// Unwrap returns Err.
func (e *MigrationError) Unwrap() error { return e.Err }

// A PanicError is a panic of a migration, caught.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string {
	if err, ok := e.Value.(error); ok {
		return "panic: " + err.Error()
	}
	return "panic: " + strings.TrimSpace(fmt.Sprint(e.Value))
}

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
