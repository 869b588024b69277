package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/disk"
)

// What Replace leaves beside a directory if it is killed: a store that it is
// building, and on systems that cannot exchange two directories one that is complete.
const (
	building = ".restoring"
	complete = ".restored"
)

// least is the room that an empty store and its logs take.
const least = 16 << 20

// exchange is a variable so that a test can be a system that has none.
var exchange = disk.Exchange

// Replace puts a new store in the place of the one in dir, which it never opens: that
// may be damaged, or newer than the program. It builds the new one beside dir, opened
// with o; fill fills it, and after it was closed and opened again check reads it. Only
// when both return nil is it made durable and swapped with dir, in one step where the
// system can. If dir holds no store, or does not exist, the new one just takes its
// place.
//
// The old directory is kept, whole, under the name that is returned; "" if there was
// none. On an error dir is as it was. A process that is killed in between leaves dir
// with either the old store or the new one, and what is unfinished beside it is
// removed by the next Replace. The new directory has the permissions of the old one,
// and its owner if the process may give it away.
//
// The error is a [*store.LockedError] if the store is open, in this process or
// another, and still is after the time to wait. It matches [store.ErrNoSpace] if there
// is no room for a store beside it, and [store.ErrUnsupported] if dir holds files and no
// Badger store, is the root of a mounted file system, or o keeps values in another
// directory.
func Replace(ctx context.Context, dir string, o Options, fill, check func(context.Context, *Store) error) (old string, err error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	old, err = replace(ctx, dir, o, fill, check)
	if err != nil {
		return "", &store.Error{Op: "replace badger store " + dir, Err: err}
	}
	return old, nil
}

func replace(ctx context.Context, dir string, o Options, fill, check func(context.Context, *Store) error) (old string, err error) {
	if err := finishReplace(dir, o.Logger); err != nil {
		return "", err
	}
	created := false
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		created = true
		if err := disk.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
	}
	// A symbolic link keeps pointing to the same name.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	defer func() {
		if err != nil && created {
			_ = os.Remove(dir) // only if it is still empty
		}
	}()
	var release func() error
	err = waiting(ctx, dir, o.Wait, o.Logger, func() (err error) {
		release, err = disk.Lock(dir)
		return err
	})
	if errors.Is(err, disk.ErrLocked) {
		err = holder(dir)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	empty, err := replaceable(dir, o)
	if err != nil {
		return "", err
	}
	// Badger would die of a full disk as soon as it creates its files.
	if free, err := disk.Free(filepath.Dir(dir)); err == nil && free < least {
		return "", fmt.Errorf("%w: %d bytes are free beside it, a new store takes %d and what it is to hold; nothing was changed", store.ErrNoSpace, free, least)
	}
	fresh := dir + building
	for _, left := range []string{fresh, dir + complete} {
		if err := os.RemoveAll(left); err != nil {
			return "", err
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	if err := build(ctx, fresh, o, fill, check); err != nil {
		return "", fmt.Errorf("%w; the new store is removed, and what was there is as it was", err)
	}
	if err := disk.TakeAfter(fresh, dir); err != nil {
		return "", err
	}
	if err := disk.SyncTree(fresh); err != nil {
		return "", err
	}
	old, err = setAside(dir)
	if err != nil {
		return "", err
	}
	if err := swap(dir, fresh, old); err != nil {
		return "", err
	}
	if empty {
		return "", os.Remove(old)
	}
	return old, nil
}

// replaceable refuses a directory that Replace could not, or should not, put aside. It
// reports whether there is nothing in it.
func replaceable(dir string, o Options) (empty bool, err error) {
	if opts := options(dir, o, o.Logger); opts.Dir != dir || opts.ValueDir != dir || opts.InMemory || opts.ReadOnly {
		return false, fmt.Errorf("%w: the options keep values, or all, elsewhere; nothing was changed", store.ErrUnsupported)
	}
	if disk.IsMount(dir) {
		return false, fmt.Errorf("%w: it is the root of a mounted file system, which cannot be replaced; nothing was changed. "+
			"Restore into a directory below it", store.ErrUnsupported)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		return true, err
	}
	for _, f := range files {
		if holdsData(f.Name()) {
			return false, nil
		}
	}
	return false, fmt.Errorf("%w: it holds files but no Badger store; nothing was changed", store.ErrUnsupported)
}

// build makes the new store and has it checked as it is on the disk.
func build(ctx context.Context, dir string, o Options, fill, check func(context.Context, *Store) error) error {
	for i, use := range []func(context.Context, *Store) error{fill, check} {
		st, err := Open(ctx, dir, o)
		if err != nil {
			return err
		}
		st.building = i == 0
		if err := errors.Join(use(ctx, st), st.Close()); err != nil {
			return err
		}
		o.MustExist = true
	}
	return nil
}

// setAside returns a name beside dir that nothing has.
func setAside(dir string) (string, error) {
	name := dir + ".replaced-" + time.Now().UTC().Format("20060102T150405Z")
	for n := 2; ; n++ {
		_, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil || n > 1000 {
			return "", fmt.Errorf("find a name for the old files: %w", err)
		}
		name = fmt.Sprintf("%s.replaced-%s-%d", dir, time.Now().UTC().Format("20060102T150405Z"), n)
	}
}

// swap puts fresh in the place of dir, and dir under the name old, durably.
func swap(dir, fresh, old string) error {
	// The new store gets the name that the old one is to have before they are
	// exchanged: a kill in between must not leave the old one under a name that
	// the next Replace removes.
	if err := os.Rename(fresh, old); err != nil {
		return err
	}
	err := exchange(dir, old)
	if err == nil {
		return swapped(dir, old)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return errors.Join(err, os.Rename(old, fresh))
	}
	if err := os.Rename(old, dir+complete); err != nil {
		return err
	}
	if err := disk.Sync(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Rename(dir, old); err != nil {
		return errors.Join(err, os.RemoveAll(dir+complete))
	}
	// If it is gone, an Open that came in between has finished the work.
	if err := os.Rename(dir+complete, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Rename(old, dir), os.RemoveAll(dir+complete))
	}
	return swapped(dir, old)
}

// swapped makes the new names durable.
func swapped(dir, old string) error {
	if err := disk.Sync(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("the new store is in place and the old one is %s, but a power failure may undo that: %w", old, err)
	}
	return nil
}

// finishReplace completes a Replace that was killed between its two renames, when dir
// had no store at all.
func finishReplace(dir string, log *slog.Logger) error {
	if target, err := os.Readlink(dir); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(dir), target)
		}
		dir = target
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // and if it cannot be looked at, opening it will say so
	}
	err := os.Rename(dir+complete, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	log.Warn("finished putting a restored store in its place, which was interrupted", "dir", dir)
	return disk.Sync(filepath.Dir(filepath.Clean(dir)))
}
