package backup

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
)

const extension = ".kvbackup"

// fileName is the form of the names that Take gives. No other file in the directory is
// ever looked into or removed.
var fileName = regexp.MustCompile(`^([a-z][a-z0-9_-]*)-v([0-9]{4,10})-([0-9a-f]{16})\` + extension + `$`)

// A Listed is a file of a directory of backups.
type Listed struct {
	Info       // of a file that cannot be read only Path
	Err  error // what is wrong with it; nil if nothing is
}

// List reads all backups of a schema in dir, whole, and returns them newest first; those
// that cannot be read come last. Without the key of an encrypted one it checks all that
// can be checked without. A directory that does not exist has none.
func List(ctx context.Context, dir, schema string, key []byte) ([]Listed, error) {
	paths, err := paths(dir, schema, nil)
	if err != nil {
		return nil, err
	}
	list := make([]Listed, 0, len(paths))
	for _, path := range paths {
		info, err := verifyOwn(ctx, path, key)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		info.Path = path
		list = append(list, Listed{info, err})
	}
	slices.SortStableFunc(list, func(a, b Listed) int { return newestFirst(a.Info, b.Info) })
	return list, nil
}

// Find returns the good backup in dir of schema that is closest to version and not beyond
// it, the newest of several, and whether there is one. Others are passed over whatever is
// wrong with them; only if no good one is left does the error say what, with a
// [*FileError] for each, several in a *multierror.Error.
func Find(ctx context.Context, dir, schema string, version uint32, key []byte) (Info, bool, error) {
	paths, err := paths(dir, schema, nil)
	if err != nil {
		return Info{}, false, err
	}
	var faults *multierror.Error
	var candidates []Info
	for _, path := range paths {
		switch info, err := Inspect(path); {
		case err == nil && info.Version <= version:
			candidates = append(candidates, info)
		case isFileError(err) && versionOf(path) <= version:
			faults = multierror.Append(faults, err)
		}
	}
	slices.SortFunc(candidates, func(a, b Info) int { return cmp.Or(cmp.Compare(b.Version, a.Version), newestFirst(a, b)) })
	for _, c := range candidates {
		info, err := verifyOwn(ctx, c.Path, key)
		if ctx.Err() != nil {
			return Info{}, false, ctx.Err()
		}
		if err == nil {
			return info, true, nil
		}
		if !errors.Is(err, os.ErrNotExist) { // another process removed it
			faults = multierror.Append(faults, err)
		}
	}
	if len(faults.WrappedErrors()) == 1 {
		return Info{}, false, faults.Errors[0]
	}
	return Info{}, false, faults.ErrorOrNil()
}

func newestFirst(a, b Info) int {
	return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.Path, b.Path))
}

// paths returns the files that Take gave names to, of schema and, if it is not nil, at
// version.
func paths(dir, schema string, version *uint32) ([]string, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, f := range files {
		m := fileName.FindStringSubmatch(f.Name())
		if m == nil || m[1] != schema || !f.Type().IsRegular() {
			continue
		}
		if v, err := strconv.ParseUint(m[2], 10, 32); err != nil || version != nil && uint32(v) != *version {
			continue
		}
		paths = append(paths, filepath.Join(dir, f.Name()))
	}
	return paths, nil
}

// versionOf returns the version in the name of a path that paths returned.
func versionOf(path string) uint32 {
	v, _ := strconv.ParseUint(fileName.FindStringSubmatch(filepath.Base(path))[2], 10, 32) // paths has seen that it is one
	return uint32(v)
}

// openOwn opens a file of a directory of backups, whose name must be that of its
// content, and reads it for its seal.
func openOwn(ctx context.Context, path string) (*opened, error) {
	o, err := open(path)
	if err != nil {
		return nil, err
	}
	err = o.checkSeal(ctx, newMeter(nil))
	if err == nil && o.info.name(o.info.Content) != filepath.Base(path) {
		err = &FileError{path, errors.New("its name is not that of its content")}
	}
	if err != nil {
		return nil, errors.Join(err, o.file.Close())
	}
	return o, nil
}

// verifyOwn verifies a file of a directory of backups.
func verifyOwn(ctx context.Context, path string, key []byte) (Info, error) {
	o, err := openOwn(ctx, path)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = o.file.Close() }() // it is only read
	if o.info.Encrypted && key == nil {
		return o.info, nil
	}
	return o.info, o.readAll(ctx, key, newMeter(nil), nil)
}

// findSame returns the newest backup in dir that holds what s does, and what is wrong
// with those that it could not read.
func findSame(ctx context.Context, s store.Reader, dir string, h Header, key []byte, m *meter) (same *Info, damaged, err error) {
	paths, err := paths(dir, h.Schema, &h.Version)
	if err != nil {
		return nil, nil, err
	}
	var faults *multierror.Error
	for _, path := range paths {
		info, yes, err := isSame(ctx, s, path, key, m)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case errors.Is(err, os.ErrNotExist): // another process removed it
		case isFileError(err):
			faults = multierror.Append(faults, err)
		case err != nil:
			return nil, nil, err
		case yes && (same == nil || newestFirst(info, *same) < 0):
			same = &info
		}
	}
	return same, faults.ErrorOrNil(), nil
}

func isFileError(err error) bool {
	_, ok := errors.AsType[*FileError](err)
	return ok
}

// isSame reports whether the file at path can be used again for what s holds.
func isSame(ctx context.Context, s store.Reader, path string, key []byte, m *meter) (Info, bool, error) {
	o, err := openOwn(ctx, path)
	if err != nil {
		return Info{}, false, err
	}
	defer func() { _ = o.file.Close() }() // it is only read
	if o.info.Encrypted != (key != nil) {
		return Info{}, false, nil
	}
	same, err := o.compare(ctx, s, key, m)
	return o.info, same, err
}

// prune removes the oldest good backups of kept's schema, so that o.Keep are left. It
// never removes kept and the way back from the last upgrade.
func prune(ctx context.Context, o Options, kept Info) (removed []string, err error) {
	paths, err := paths(o.Dir, kept.Schema, nil)
	if err != nil {
		return nil, err
	}
	var faults *multierror.Error
	var others []Info
	for _, path := range paths {
		if path == kept.Path {
			continue
		}
		o, err := openOwn(ctx, path)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				faults = multierror.Append(faults, err)
			}
			continue
		}
		others = append(others, o.info)
		if err := o.file.Close(); err != nil {
			faults = multierror.Append(faults, err)
		}
	}
	slices.SortFunc(others, newestFirst)
	back := wayBack(append(others[:len(others):len(others)], kept), o.UpgradedFrom)
	for _, old := range others[min(o.Keep-1, len(others)):] {
		if old.Path == back {
			continue
		}
		if err := os.Remove(old.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			faults = multierror.Append(faults, err)
			continue
		}
		removed = append(removed, old.Path)
	}
	return removed, faults.ErrorOrNil()
}

// wayBack returns the path of the newest backup of the lowest version that is not below
// from, "" if there is none.
func wayBack(all []Info, from *uint32) string {
	if from == nil {
		return ""
	}
	all = slices.DeleteFunc(all, func(i Info) bool { return i.Version < *from })
	if len(all) == 0 {
		return ""
	}
	return slices.MinFunc(all, func(a, b Info) int { return cmp.Or(cmp.Compare(a.Version, b.Version), newestFirst(a, b)) }).Path
}

// appendNew appends those of err to warnings that are of no file that has one already.
func appendNew(warnings *multierror.Error, err error) *multierror.Error {
	for _, fault := range multierror.Append(nil, err).Errors {
		f, ok := errors.AsType[*FileError](fault)
		if ok && slices.ContainsFunc(warnings.WrappedErrors(), func(w error) bool {
			seen, ok := errors.AsType[*FileError](w)
			return ok && seen.Path == f.Path
		}) {
			continue
		}
		warnings = multierror.Append(warnings, fault)
	}
	return warnings
}

// quoteGlob makes a path a pattern that matches itself.
func quoteGlob(path string) string {
	return strings.NewReplacer(`[`, `[[]`, `*`, `[*]`, `?`, `[?]`).Replace(path)
}
