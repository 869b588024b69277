// Package frozen finds released migrations that were edited afterwards. Stores
// that went through the old version would differ from stores that go through the
// new one, and nothing in them would tell.
//
// # The file
//
// [SumFile] stands beside the migrations and has one line a version:
//
//	v0003 add_user_login_lockout h1:<sha256, base64>
//
// The hash covers
//
//   - v0003_add_user_login_lockout.go
//   - of the other files of the folder, those that are no version, the
//     declarations that it uses, directly or not
//   - the packages below the folder that these import, directly or not
//   - the files that any of them embeds
//
// It is a hash of their tokens: comments, line ends, formatting and the order of
// imports do not count, everything else does, also the comments that the go
// command reads (lines of //go:, and all in a file that imports "C"). Nothing
// else is covered, neither other packages, which go on changing, nor C and
// assembly: what a migration needs as it is today belongs in its folder or in a
// package below. What it uses of another version's file has that version's line.
//
// # Helpers
//
// In helpers.go, types.go and the like, a declaration counts for the versions
// that use it, so that a new one leaves all lines as they are. A version uses
// what it mentions, a type with all its methods, a group of constants as a whole
// if it counts with iota or repeats a value, and what has no name but mentions a
// variable that is used: an init function, a var _. The name of the file and its
// build constraint count too. Names are compared, not types: a local variable
// that is called like a helper is taken for a use of it. What changes a variable
// from elsewhere while the program runs is not seen.
//
// # Its life
//
// [Update] adds the lines of new versions and changes none; go generate runs it,
// warns of what [Check] finds and starts no version until that is mended.
// A line changes by [Accept] alone, one version a call, and so shows in review.
// Two branches that take one number both add a line at the end, which no merge
// resolves by itself.
package frozen

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// SumFile is the name of the file, in the folder of the migrations.
const SumFile = "migrations.sum"

// ErrEdited means that a version is not what it was when its line was written.
var ErrEdited = errors.New("it was edited after it was frozen")

// ErrGone means that a version has a line and no file of that name.
var ErrGone = errors.New("it is gone or renamed")

// ErrUnlisted means that a version has a file and no line.
var ErrUnlisted = errors.New("it has no line in " + SumFile)

// ErrDuplicate means that two files, or two lines, have one version.
var ErrDuplicate = errors.New("the version is taken twice")

// ErrMalformed means that a line of the file is none that this package writes.
var ErrMalformed = errors.New("malformed line")

// A VersionError says what is wrong with one version, and what to do. It matches
// Err: one of the errors above, or why the version's files could not be read.
type VersionError struct {
	Version uint32 // 0 if the fault is a line without one
	Name    string // "" likewise
	File    string // the migration, or SumFile if the fault is in it; starts with the folder
	Err     error
}

func (e *VersionError) Error() string { return e.File + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *VersionError) Unwrap() error { return e.Err }

// Check compares the migrations in dir with their lines. It returns every fault
// together, as a *multierror.Error of *VersionError in order of files and then
// lines, or nil if there is none; a folder without migrations needs no
// [SumFile]. An error of another type means that dir, SumFile or a file that is
// no version could not be read. Check writes nothing and may be called concurrently.
func Check(dir string) error {
	f, err := open(dir)
	if err != nil {
		return err
	}
	faults := multierror.Append(f.faults())
	listed := map[uint32]bool{}
	for _, l := range f.lines {
		listed[l.version] = true
	}
	there := map[string]bool{}
	for _, m := range f.migrations {
		there[m.id()] = true
		if !listed[m.version] {
			faults = multierror.Append(faults, f.fault(m, fmt.Errorf(
				"%w: run go generate in its folder, and commit that file too", ErrUnlisted)))
		}
	}
	for _, l := range f.lines {
		if !there[l.id()] {
			faults = multierror.Append(faults, f.fault(l.migration, fmt.Errorf(
				"%w, but has a line in %s: restore it; if it was never released, delete the line or, after a renaming, %s", ErrGone, SumFile, accept(l.version))))
			continue
		}
		hash, files, err := f.hash(l.migration)
		switch {
		case err != nil:
			faults = multierror.Append(faults, f.fault(l.migration, err))
		case hash != l.hash:
			which := ""
			if len(files) > 1 {
				which = " (it, or what it uses: " + strings.Join(files[1:], ", ") + ")"
			}
			faults = multierror.Append(faults, f.fault(l.migration, fmt.Errorf(
				"%w%s: undo the edit and write a new migration; if v%d was never released, or still does the same, %s", ErrEdited, which, l.version, accept(l.version))))
		}
	}
	return faults.ErrorOrNil()
}

// accept says how to call Accept.
func accept(version uint32) string {
	return fmt.Sprintf("run `go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -accept %d` in its folder", version)
}

// Update adds a line for each migration in dir whose version has none. It changes
// no line and does not compare any; it makes [SumFile] if there is a line to
// write, and writes nothing if there is not.
//
// It fails, and changes nothing, if a line is malformed or a version taken twice,
// or if a new version cannot be read; the errors are those of Check. The file is
// replaced in one step. Calls of Update and Accept for one folder should not
// overlap: the last one wins, and Check reports a line that is lost.
func Update(dir string) error {
	f, err := open(dir)
	if err != nil {
		return err
	}
	faults := multierror.Append(f.faults())
	listed := map[uint32]bool{}
	for _, l := range f.lines {
		listed[l.version] = true
	}
	text := f.text
	for _, m := range f.migrations {
		if listed[m.version] {
			continue
		}
		hash, _, err := f.hash(m)
		if err != nil {
			faults = multierror.Append(faults, f.fault(m, err))
			continue
		}
		if text == "" {
			text = header
		}
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += line{migration: m, hash: hash}.String() + "\n"
	}
	if err := faults.ErrorOrNil(); err != nil {
		return err
	}
	return f.write(text)
}

// Accept rewrites the line of one version after an edit, or a renaming, that is
// harmless: the version was never released, or does the same as before. It
// changes no other line, and writes nothing if the line is right.
//
// It fails as Update does, and with a [*VersionError] that matches [ErrUnlisted]
// if the version has no line or [ErrGone] if it has no file.
func Accept(dir string, version uint32) error {
	f, err := open(dir)
	if err != nil {
		return err
	}
	if err := f.faults().ErrorOrNil(); err != nil {
		return err
	}
	for _, l := range f.lines {
		if l.version != version {
			continue
		}
		for _, m := range f.migrations {
			if m.version != version {
				continue
			}
			hash, _, err := f.hash(m)
			if err != nil {
				return f.fault(m, err)
			}
			rows := strings.SplitAfter(f.text, "\n")
			rows[l.row] = strings.Replace(rows[l.row], l.String(), line{migration: m, hash: hash}.String(), 1)
			return f.write(strings.Join(rows, ""))
		}
		return f.fault(l.migration, fmt.Errorf("%w: there is nothing to accept", ErrGone))
	}
	return &VersionError{Version: version, File: f.path(SumFile), Err: fmt.Errorf(
		"v%d: %w to renew; go generate adds the lines of new versions", version, ErrUnlisted)}
}

// write replaces SumFile if text is not what it holds. A reader sees the old file
// or the new one.
func (f *folder) write(text string) (err error) {
	if text == f.text {
		return nil
	}
	temp, err := os.CreateTemp(f.dir, "."+SumFile+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.path(SumFile), err)
	}
	_, err = temp.WriteString(text)
	err = errors.Join(err, temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), f.path(SumFile))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.path(SumFile), errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f *folder) fault(m migration, err error) *VersionError {
	return &VersionError{Version: m.version, Name: m.name, File: f.path(m.id() + ".go"), Err: err}
}
