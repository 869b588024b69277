package migrate

import (
	"context"
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
// kvmigrate; for the latter set Options.Adopt or Options.AllowUnversioned. It matches
// ErrRefused.
var ErrUnversioned error = refusal("the store holds data but no schema version, so it may belong to another program; nothing was changed. " +
	"If the data is from before this program used kvmigrate, adopt it at the version that it is like, or allow unversioned stores, and start again")

// ErrReservedKey means that a migration wrote to a key in which kvmigrate keeps the
// version, history, progress, lock, turn or trail of a schema.
var ErrReservedKey = errors.New("key is reserved for the records of a schema")

// ErrTornValue means that a migration wrote a value so large that a power loss could
// empty it although the progress or version that vouches for it survives, or that this
// holds of what the runner itself keeps in the store. Open the Badger store with
// SyncWrites.
var ErrTornValue = errors.New("the value is too large to be safe from a power loss while Badger's SyncWrites is off; open the store with SyncWrites on")

// ErrAhead means that a RowFunc wrote or deleted a key that the scan over its prefix
// has yet to reach, where it would be visited as if it had not been changed, or
// has been read already.
var ErrAhead = errors.New("the key lies ahead within the prefix that is being visited, and would be visited itself; move such entries out of the prefix in one phase and back in a second")

// ErrDuplicate means that two rows want the same key of an index.
var ErrDuplicate = errors.New("two rows have the same key in the index")

// ErrCheck means that the Check of a migration failed: the version is as it was
// before the migration.
var ErrCheck = errors.New("its check failed")

// ErrBusy means that another process migrates the schema in a store that both share, and
// that this run was not to wait for it any longer; a [*BusyError] says which. The run
// changed nothing while it waited.
var ErrBusy = errors.New("schema is being migrated by another process")

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
	Readable  bool   // whether the program may read the store: see Options.AllowReadOnly
}

func (e *DowngradeError) Error() string {
	by := ""
	if e.WrittenBy != "" {
		by = " by " + e.WrittenBy
	}
	reads := ""
	if e.Readable {
		reads = ". This program may read the store, if it is started read-only"
	}
	return fmt.Sprintf("cannot downgrade %s schema from v%d to v%d: the store was written%s at v%d; nothing was changed. "+
		"Run the program version that knows v%d, or restore a backup taken at v%d or before%s",
		e.Schema, e.Stored, e.Known, by, e.Stored, e.Stored, e.Known, reads)
}

// Is reports whether target is ErrRefused.
func (*DowngradeError) Is(target error) bool { return target == ErrRefused }

// An UnknownTargetError says that the version asked for is none that the program's
// migrations lead to. Nothing was written.
type UnknownTargetError struct {
	Schema   string
	Target   uint32
	Earliest uint32 // the program's first version: 1, or that of its baseline
	Latest   uint32
}

func (e *UnknownTargetError) Error() string {
	if e.Target < e.Earliest {
		return fmt.Sprintf("no version v%d of %s schema: this program begins with v%d, and its latest is v%d; nothing was changed", e.Target, e.Schema, e.Earliest, e.Latest)
	}
	return fmt.Sprintf("no version v%d of %s schema: the latest this program knows is v%d; nothing was changed", e.Target, e.Schema, e.Latest)
}

// A TooOldError says that the store is from before the first version that the
// program's migrations go on from: those before it were squashed into a baseline.
// It matches [ErrRefused].
type TooOldError struct {
	Schema   string
	Stored   uint32 // the store's version, 0 if it has data and no version
	Earliest uint32 // the oldest that this program upgrades
	Release  string // the release of the program that leads there, "" if it is not known
}

func (e *TooOldError) Error() string {
	found, release := fmt.Sprintf("the store is at v%d", e.Stored), "the last release that upgrades from there"
	if e.Stored == 0 {
		found = "the store has data and no version"
	}
	if e.Release != "" {
		release = e.Release
	}
	return fmt.Sprintf("cannot upgrade %s schema: %s and this program upgrades from v%d on; nothing was changed. "+
		"Run %s first, which brings the store to v%d or beyond, and then this program", e.Schema, found, e.Earliest, release, e.Earliest)
}

// Is reports whether target is ErrRefused.
func (*TooOldError) Is(target error) bool { return target == ErrRefused }

// An UnreleasedError says that a migration which may still change was about to run in
// a store that released programs use. It matches [ErrRefused].
type UnreleasedError struct {
	Schema  string
	Stored  uint32 // the store's version, 0 if it has data and none
	Version uint32 // of the migration
	Name    string
}

func (e *UnreleasedError) Error() string {
	went := fmt.Sprintf("the store, at v%d, went only through released versions", e.Stored)
	if e.Stored == 0 {
		went = "the store has data of a released program"
	}
	return fmt.Sprintf("%s schema: v%d (%s) is not released and may still change, and %s; nothing was changed. "+
		"Run a released program, or try this one on a copy of the store, which you allow it to change", e.Schema, e.Version, e.Name, went)
}

// Is reports whether target is ErrRefused.
func (*UnreleasedError) Is(target error) bool { return target == ErrRefused }

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

// An UnderWayError says that a migration of several transactions was interrupted, and
// that this program cannot go on with it: it does not know it, was told to stop
// before it, or has a baseline where the other program has none. It matches
// [ErrRefused].
type UnderWayError struct {
	Schema  string
	Version uint32 // of the migration under way
	Name    string
	Known   uint32 // the program's latest version, or the target
}

func (e *UnderWayError) Error() string {
	goes := fmt.Sprintf("goes only to v%d", e.Known)
	if e.Known >= e.Version {
		goes = "gets there another way"
	}
	return fmt.Sprintf("%s schema is being upgraded to v%d (%s), which was interrupted, and this program %s; nothing was changed. "+
		"Finish the upgrade with the program version that began it, or restore a backup", e.Schema, e.Version, e.Name, goes)
}

// Is reports whether target is ErrRefused.
func (*UnderWayError) Is(target error) bool { return target == ErrRefused }

// A MigrationError says that one migration failed. Its transaction was discarded:
// the store is at version From, as the migration found it or, if it takes
// several transactions, as the last of them left it. Running again goes on there.
type MigrationError struct {
	Schema   string
	From     uint32 // the version before it
	Version  uint32
	Name     string
	Progress *Progress // what is committed of it, also by runs before; nil if nothing
	DryRun   bool      // whether it was tried by DryRun, so that the store is as it was all the same
	Err      error
}

func (e *MigrationError) Error() string {
	hint := ""
	if errors.Is(e.Err, store.ErrTxnTooBig) && !errors.Is(e.Err, errRowTooBig) {
		hint = "; it writes more than one transaction holds: do it in batches: with Each or another builder, or with Tx.Continue"
	}
	left := fmt.Sprintf("the store is unchanged at v%d; run again once that is mended", e.From)
	switch {
	case e.DryRun:
		left = "it was a dry run, so the store is unchanged"
	case errors.Is(e.Err, store.ErrUnknown):
		left = "the last transaction may be committed or not; run again to find out and go on from there"
	case e.Progress == nil && (errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded)):
		left = fmt.Sprintf("the store is unchanged at v%d; run again to do it", e.From)
	case e.Progress != nil:
		left = fmt.Sprintf("the store is at v%d and has %s; run again to go on from there", e.From, e.Progress)
	}
	return fmt.Sprintf("migrate %s schema v%d -> v%d (%s): %v%s; %s", e.Schema, e.From, e.Version, e.Name, e.Err, hint, left)
}

// Unwrap returns Err.
func (e *MigrationError) Unwrap() error { return e.Err }

// A BusyError says which process migrates the schema, and is alive, when a run has
// waited for it as long as Options.Wait allows. It matches [ErrBusy].
type BusyError struct {
	Schema   string
	Holder   Holder
	Version  uint32    // of the store
	Progress *Progress // of the migration under way, nil if none is
}

func (e *BusyError) Error() string {
	at := fmt.Sprintf("v%d", e.Version)
	if e.Progress != nil {
		at = fmt.Sprintf("v%d with %v", e.Version, e.Progress)
	}
	return fmt.Sprintf("%s schema is being migrated by %v: it is at %s; this run changed nothing while it waited. "+
		"Wait longer, or run again later: what that process leaves undone, another run takes over", e.Schema, e.Holder, at)
}

// Is reports whether target is ErrBusy.
func (*BusyError) Is(target error) bool { return target == ErrBusy }

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
