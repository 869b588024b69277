// Package scaffold writes the file of a schema's next migration, the stub of its
// golden fixture, its line in migrations.sum (package frozen) and, if there is none
// yet, the test of all migrations. The command newmigration is its front end.
//
// # Names
//
// A migration's number comes from the files vNNNN_name.go that its folder holds.
// Its function is named after the number alone (up0005), so that two branches
// that take one number do not compile after the merge.
//
// # At once
//
// Calls for one folder, from any number of processes, take turns: each holds the
// file .newmigration.lock while it looks and writes. So versions are distinct and
// leave no gap, also when a call fails and takes back what it wrote.
package scaffold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

// ErrName means that no migration can have that name. The text says what is wanted.
var ErrName = errors.New("bad name for a migration")

// ErrExists means that a migration has that name already, or a file or folder is where a
// new one should go. The text says which.
var ErrExists = errors.New("already exists")

// lockName is the file that a call holds in the migrations folder. The go command
// passes over names that start with a dot.
const lockName = ".newmigration.lock"

// lockPoll is how long a call waits before it tries for the lock again. Holders
// keep it for a few milliseconds.
const lockPoll = 5 * time.Millisecond

// Options say what to make and where.
type Options struct {
	// Dir is the folder of the migrations, which must exist. "" is the working
	// directory.
	Dir string

	// Golden is the folder of the golden fixtures, absolute or relative to Dir.
	// It is made if it does not exist. "" is testdata/golden.
	Golden string

	// Name is the name of the new migration: lower-case words of letters and
	// digits, joined by underscores, at most 64 characters. A last word that
	// the go command reads as a condition is refused: v0002_drop_windows.go
	// would be part of the program on Windows alone, v0002_add_test.go nowhere.
	Name string

	// Schema is the name of the schema, for the test and for the example in the fixture. "" is
	// migrate.DefaultSchema.
	Schema string
}

// Created is what New made. The paths start with Options.Dir, or with
// Options.Golden if that is absolute.
type Created struct {
	Version uint32
	File    string // the migration, <Dir>/vNNNN_name.go
	Fixture string // the stub, <Golden>/vNNNN_name/fixture.txt
	Test    string // <Dir>/migrations_test.go, "" if a test of the migrations is there
}

// New creates the migration after the last one in o.Dir, and its fixture. The
// file compiles and registers a migration, which fails until it is filled in. If no
// test in o.Dir uses package migratetest and there is no migrations_test.go, New
// creates that as well, with the test of all migrations. The package of both is
// that of the other files in the folder, or is named after the folder
// if there are none. The last thing that New does is [frozen.Update], which adds
// the line of this version and of others that have none.
//
// New overwrites nothing. If it returns an error it has removed what it made; if
// it could not, the error says so. The error matches [ErrName] or [ErrExists]
// where they apply, and [fs.ErrNotExist] if there is no o.Dir. New also refuses a
// folder whose versions have gaps or duplicates, one whose files belong to
// several packages, and one that has a version that is not what its line in
// migrations.sum says: the error then matches those of [frozen.Check], and
// [frozen.Accept] is for a version that was done since its line was written.
//
// New may be called concurrently, also by several processes: each call gets a
// version of its own, and of several calls with one name one succeeds. A call
// waits for the others until ctx ends; the error then matches ctx.Err(). If a
// process was killed inside New, it names the file to delete.
func New(ctx context.Context, o Options) (Created, error) {
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Golden == "" {
		o.Golden = filepath.Join("testdata", "golden")
	}
	if !filepath.IsAbs(o.Golden) {
		o.Golden = filepath.Join(o.Dir, o.Golden)
	}
	if err := checkName(o.Name); err != nil {
		return Created{}, err
	}
	if err := checkDir(o.Dir); err != nil {
		return Created{}, err
	}

	// The lock is the first thing made, so undo gives it up last: nobody else
	// sees a version that is about to be taken back.
	var made created
	lockPath, err := lock(ctx, o.Dir, &made)
	if err != nil {
		return Created{}, errors.Join(err, made.undo())
	}
	c, err := write(o, &made)
	if err == nil {
		err = frozen.Update(o.Dir)
	}
	if err == nil {
		if err = os.Remove(lockPath); err != nil {
			err = fmt.Errorf("the line of v%d in %s stays, delete it: %w", c.Version, frozen.SumFile, err)
		}
	}
	if err != nil {
		return Created{}, errors.Join(err, made.undo())
	}
	return c, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the migrations folder %s does not exist: create it, or name another: %w", dir, fs.ErrNotExist)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file: want the migrations folder", dir)
	}
	return nil
}

// lock creates the lock file of dir as soon as there is none.
func lock(ctx context.Context, dir string, made *created) (path string, err error) {
	path = filepath.Join(dir, lockName)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	for {
		err := made.file(path, nil)
		if !errors.Is(err, fs.ErrExist) {
			return path, err
		}
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("another process is adding a migration; if none is, it was killed: delete %s and try again: %w", path, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lockPoll):
		}
	}
}

// write makes the migration and its fixture, under the lock.
func write(o Options, made *created) (Created, error) {
	version, err := nextVersion(o.Dir, o.Name)
	if err != nil {
		return Created{}, err
	}
	if err := checkFrozen(o.Dir, version); err != nil {
		return Created{}, err
	}
	pkg, err := packageName(o.Dir)
	if err != nil {
		return Created{}, err
	}
	stub := stub{Package: pkg, Version: version, Name: o.Name}
	source, err := stub.source()
	if err != nil {
		return Created{}, err
	}

	if err := made.parents(o.Golden); err != nil {
		return Created{}, err
	}
	folder := filepath.Join(o.Golden, stub.ID())
	c := Created{
		Version: version,
		File:    filepath.Join(o.Dir, stub.ID()+".go"),
		Fixture: filepath.Join(folder, "fixture.txt"),
	}
	if err := made.dir(folder); err != nil {
		return Created{}, inTheWay(folder, err)
	}
	if err := made.file(c.Fixture, stub.fixture(o.Schema)); err != nil {
		return Created{}, inTheWay(c.Fixture, err)
	}
	if c.Test, err = writeTest(o, stub, made); err != nil {
		return Created{}, err
	}
	if err := made.file(c.File, source); err != nil {
		return Created{}, inTheWay(c.File, err)
	}
	return c, nil
}

// checkFrozen holds the versions before the next one to their lines. That they
// have none yet is no fault.
func checkFrozen(dir string, next uint32) error {
	err := frozen.Check(dir)
	all, ok := errors.AsType[*multierror.Error](err)
	if !ok {
		return err
	}
	var faults *multierror.Error
	for _, fault := range all.WrappedErrors() {
		if !errors.Is(fault, frozen.ErrUnlisted) {
			faults = multierror.Append(faults, fault)
		}
	}
	if err := faults.ErrorOrNil(); err != nil {
		return fmt.Errorf("v%d was not started, because the versions before it are not what %s says: %w", next, frozen.SumFile, err)
	}
	return nil
}

// writeTest makes the test of all migrations, unless there is one.
func writeTest(o Options, stub stub, made *created) (path string, err error) {
	tests, err := filepath.Glob(filepath.Join(o.Dir, "*_test.go"))
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.Dir, "migrations_test.go")
	for _, test := range tests {
		source, err := os.ReadFile(test)
		if err != nil {
			return "", err
		}
		if test == path || bytes.Contains(source, []byte("migratetest.")) {
			return "", nil
		}
	}
	golden, err := filepath.Rel(o.Dir, o.Golden)
	if err != nil {
		golden = o.Golden // on another drive
	}
	source, err := stub.test(o.Schema, filepath.ToSlash(golden))
	if err != nil {
		return "", err
	}
	return path, made.file(path, source)
}

// inTheWay makes an error that matches ErrExists of one that says that path is
// there.
func inTheWay(path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w: it belongs to no migration here; move or delete it and try again", path, ErrExists)
	}
	return err
}

// created lists the files and folders that a call made, in order.
type created []string

// file makes a file that must not exist yet.
func (c *created) file(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	*c = append(*c, path)
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// dir makes a folder that must not exist yet.
func (c *created) dir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	*c = append(*c, path)
	return nil
}

// parents makes path and the folders above it that are missing. It is not
// os.MkdirAll, which does not tell what it made.
func (c *created) parents(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is a file: want the folder of the golden fixtures", path)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if up := filepath.Dir(path); up != path {
		if err := c.parents(up); err != nil {
			return err
		}
	}
	// Calls for another migrations folder may share these and be faster.
	if err := c.dir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// undo removes everything that was made, last things first.
func (c created) undo() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		if err := os.Remove(c[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("taking back what was made: %w", err))
		}
	}
	return errors.Join(errs...)
}
