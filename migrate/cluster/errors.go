package cluster

import (
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/store"
)

// ErrOutOfRange is matched by every [*RangeError].
var ErrOutOfRange = errors.New("version out of the node's range")

// ErrUpgrading is matched by every [*UpgradingError].
var ErrUpgrading = errors.New("schema is being upgraded")

// A RangeError says that a node cannot work with a schema: the active version, or the
// one that is being introduced, is not among those that it supports. Nothing was
// written. It matches [ErrOutOfRange].
type RangeError struct {
	Schema  string
	Version uint32 // the active one, 0 if there is none yet
	Target  uint32 // the one that is being introduced, if that is the reason; 0 otherwise
	Node    Node
	Program string // that introduces Target, "" if it is not known
	Stuck   bool   // whether a migration to Target was begun and nobody is at work on it
}

func (e *RangeError) Error() string {
	supports := fmt.Sprintf("node %s (%s) supports v%d to v%d", e.Node.Name, e.Node.Program, e.Node.Min, e.Node.Max)
	if e.Node.Min == e.Node.Max {
		supports = fmt.Sprintf("node %s (%s) supports v%d only", e.Node.Name, e.Node.Program, e.Node.Max)
	}
	by := "another program"
	if e.Program != "" {
		by = e.Program
	}
	var why string
	switch {
	case e.Version == 0 && e.Target == 0:
		why = "the store has no version yet; bring it to one first (migrate.Up)"
	case e.Stuck:
		why = fmt.Sprintf("the store is on its way from v%d to v%d, and nobody is at work on that; start %s, which finishes it, or restore a backup", e.Version, e.Target, by)
	case e.Target != 0:
		why = fmt.Sprintf("%s is bringing the store from v%d to v%d; start a program that supports v%d", by, e.Version, e.Target, e.Target)
	case e.Version > e.Node.Max:
		why = fmt.Sprintf("the store is at v%d; start a program that supports it", e.Version)
	default:
		why = fmt.Sprintf("the store is at v%d; upgrade it first (migrate.Up), which other nodes may hold back", e.Version)
	}
	return fmt.Sprintf("%s schema: %v: %s; nothing was changed: %s", e.Schema, ErrOutOfRange, supports, why)
}

// Is reports whether target is ErrOutOfRange.
func (*RangeError) Is(target error) bool { return target == ErrOutOfRange }

// An UpgradingError says that nodes may not read or write the store now, because
// migrations run. It matches [ErrUpgrading] and [store.ErrBusy], so that
// [store.Update] tries again for some seconds.
type UpgradingError struct {
	Schema  string
	Version uint32 // the active one
	Target  uint32
	Program string // that does it, or did when it was last heard of
}

func (e *UpgradingError) Error() string {
	return fmt.Sprintf("%s schema is being upgraded from v%d to v%d by %s; nothing was changed: try again", e.Schema, e.Version, e.Target, e.Program)
}

// Is reports whether target is ErrUpgrading or store.ErrBusy.
func (*UpgradingError) Is(target error) bool {
	return target == ErrUpgrading || target == store.ErrBusy
}
