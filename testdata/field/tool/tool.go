// Package tool has the contestants: ways to migrate an embedded database, one a
// file, behind one interface. A file that calls Register in its init function adds
// another.
package tool

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Tool is one way to migrate a database. Open, and what it returns, must be as the
// tool's own documentation recommends, and a migration that is reported done must be
// on the disk.
type Tool struct {
	Name   string // in results: lower case, no spaces, slashes or equals signs
	About  string // for people: what it is, and how it changes many rows
	Module string // whose version stands beside the results
	Engine string // tools of one engine open each other's databases

	// Open opens the database in dir, which exists, and creates it if need be. It is nil
	// if this program was built without what the tool needs.
	Open func(ctx context.Context, dir string) (Database, error)

	// Restore makes a database in dir, which is empty, of a backup. It is nil if the
	// tool's user does as another tool's of the same engine.
	Restore func(ctx context.Context, backup, dir string) error

	// CheckEdited has the tool's check of its source, if it has one, look at a released
	// migration that was edited, in a folder below dir, and returns what that says.
	CheckEdited func(dir string) (found, err error)

	// Variant says that it leaves what another does when things go wrong.
	Variant bool

	// Only are the scenarios that it takes part in; nil means all. Whatever they are, it
	// goes through the disasters unless it is a Variant.
	Only []string

	// Source is the file that has it.
	Source string
}

// A Database is an open database.
type Database interface {
	// Fill writes n new accounts, as a program does that migrates nothing.
	Fill(ctx context.Context, n int) error

	// Start returns the start-up of a program that knows the migrations of s. What it
	// returns makes the runner, looks what is pending and runs that, as often as it
	// is called.
	Start(s Schema) func(ctx context.Context) error

	// Accounts calls visit with the value of each account, in order.
	Accounts(ctx context.Context, visit func(value []byte) error) error

	// Entries returns how many entries the small migrations wrote, and the value of
	// the first of them.
	Entries(ctx context.Context) (n int, first string, err error)

	// State returns what the tool's own records say, in a few words.
	State(ctx context.Context) (string, error)

	Close() error
}

// A DryRunner is a Database whose tool can try migrations without making them. Users
// of others copy the closed database and migrate the copy.
type DryRunner interface {
	DryRun(ctx context.Context, s Schema) error
}

// A Backuper is a Database of which a backup can be taken while it is open. It is on
// the disk when Backup returns.
type Backuper interface {
	Backup(ctx context.Context, file string) error
}

// A Repairer is a Database that its user has to put in order after a migration that
// did not end, before the next start. It returns what it did, in a few words, "" if
// there was nothing to do.
type Repairer interface {
	Repair(ctx context.Context, s Schema) (string, error)
}

// A Schema is the migrations that a program knows: Small ones, and one more that
// changes every account if Rewrite is set.
type Schema struct {
	Small   int
	Rewrite bool

	// Change is what happens to the value of an account. Nil is AddLogins, which a
	// tool may do in its own language.
	Change func(value []byte) ([]byte, error)

	// Edited says that the first migration is not what it was when it was released.
	Edited bool
}

// latest returns the highest version.
func (s Schema) latest() int {
	if s.Rewrite {
		return s.Small + 1
	}
	return s.Small
}

// EditedValue is what the first migration writes once it is edited.
const EditedValue = "what it writes since it was edited"

// change returns Change or what stands for it.
func (s Schema) change() func([]byte) ([]byte, error) {
	if s.Change == nil {
		return AddLogins
	}
	return s.Change
}

// small returns the entry that the small migration of that version writes.
func (s Schema) small(version int) (key, value string) {
	value = "what a small migration writes"
	if s.Edited && version == 1 {
		value = EditedValue
	}
	return fmt.Sprintf("data/%04d", version), value
}

var all []Tool

// Register adds a tool. It is called by init functions.
func Register(t Tool) { all = append(all, t) }

// Floor is the tool that others are compared to, and Twin the same once more: how far
// that is from it is the noise.
const (
	Floor = "badger-by-hand"
	Twin  = "badger-by-hand-again"
)

// Known returns the tools, also those that this program was built without: the floor,
// its twin, ours, and the others by name.
func Known() []Tool {
	tools := slices.Clone(all)
	slices.SortFunc(tools, func(a, b Tool) int {
		return strings.Compare(rank(a.Name)+a.Name, rank(b.Name)+b.Name)
	})
	return tools
}

// All returns the tools that this program has, in the same order.
func All() []Tool {
	return slices.DeleteFunc(Known(), func(t Tool) bool { return t.Open == nil })
}

func rank(name string) string {
	switch {
	case name == Floor:
		return "0"
	case name == Twin:
		return "1"
	case strings.HasPrefix(name, "kvmigrate"):
		return "2"
	}
	return "3"
}

// Named returns the tool of that name.
func Named(name string) (Tool, error) {
	for _, t := range all {
		if t.Name == name {
			return t, nil
		}
	}
	return Tool{}, fmt.Errorf("no tool %q", name)
}
