package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// found is the state in which a run finds a schema.
type found struct {
	version uint32
	stored  bool // whether a version is stored at all

	progress *Progress // of the migration under way, or nil
}

// An inspection is the reading of one schema's state. What a View needs, the
// callback and what it fills in, would each be an allocation, so that they are
// kept for the next start-up check.
type inspection struct {
	runner *Runner
	target uint32
	found  found
	read   func(store.Reader) error
}

var inspections = sync.Pool{New: func() any {
	i := new(inspection)
	i.read = i.inspect
	return i
}}

// inspect reads the schema's state and refuses what this program must not touch.
func (r *Runner) inspect(ctx context.Context, target uint32) (found, error) {
	i := inspections.Get().(*inspection)
	i.runner, i.target = r, target
	err := r.store.View(ctx, i.read)
	f := i.found
	i.runner, i.found = nil, found{}
	inspections.Put(i)
	return f, err
}

func (i *inspection) inspect(s store.Reader) (err error) {
	f := &i.found
	f.version, f.stored, err = i.runner.readVersion(s)
	if err != nil {
		return err
	}
	if !f.stored {
		return i.runner.inspectUnversioned(s)
	}
	return i.inspectVersioned(s)
}

// inspectVersioned makes the checks of every start: identity, and no migration
// under way that this program does not know. Only if something is pending, and
// so about to be written, does it read the whole history.
func (i *inspection) inspectVersioned(s store.Reader) (err error) {
	r, f, target := i.runner, &i.found, i.target
	version := f.version
	latest := r.registry.Latest()
	if version > latest {
		return &DowngradeError{Schema: r.schema, Stored: version, Known: min(latest, target), WrittenBy: r.writtenBy(s, version)}
	}
	if err := i.inspectIdentity(s); err != nil {
		return err
	}
	if f.progress, err = r.readProgress(s, version); err != nil {
		return err
	}
	if f.progress != nil {
		if err := r.resumable(f.progress, target); err != nil {
			return err
		}
	}
	switch {
	case version > target:
		return &DowngradeError{Schema: r.schema, Stored: version, Known: target, WrittenBy: r.writtenBy(s, version)}
	case version < target:
		_, err := r.readHistory(s, version)
		return err
	}
	return nil
}

// inspectIdentity checks that the store came to its version by this program's
// migrations. The last record's fingerprint covers all before it.
func (i *inspection) inspectIdentity(s store.Reader) error {
	r, version := i.runner, i.found.version
	if version == 0 {
		return nil
	}
	want := r.identity(version)
	key := want.key
	e, err := s.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return r.corrupt(key, "its version is v%d but its history has no record of v%d", version, version)
	case err != nil:
		return r.unreadable(key, fmt.Sprintf("the history record of v%d", version), err)
	case !bytes.HasPrefix(e.Value, want.head):
		return r.identify(s, version)
	}
	return nil
}

// An identity is what the history record of a version must be. A Runner keeps the
// one it needed last: most of its checks are of one version.
type identity struct {
	ladder  *ladder
	version uint32
	key     []byte
	head    []byte // how the record starts
}

func (r *Runner) identity(version uint32) *identity {
	known := r.registry.ladder()
	if last := r.last.Load(); last != nil && last.version == version && last.ladder == known {
		return last
	}
	want := &identity{known, version, r.keys.historyOf(version), headOf(known.fingerprints[version-1])}
	r.last.Store(want)
	return want
}

// identify finds the first migration in history that is not this program's.
func (r *Runner) identify(s store.Reader, version uint32) error {
	history, err := r.readHistory(s, version)
	if err != nil {
		return err
	}
	for i, a := range history {
		if known := r.registry.ladder().entries[i]; a.Name != known.Name {
			return &RenamedError{Schema: r.schema, Version: a.Version, Stored: a.Name, Known: known.Name}
		}
	}
	return r.corrupt(r.keys.historyOf(version), "the fingerprint of v%d does not belong to the names in its history", version)
}

// writtenBy names the program that brought the store to version, if it says so.
func (r *Runner) writtenBy(s store.Reader, version uint32) string {
	e, err := s.Get(r.keys.historyOf(version))
	if err != nil {
		return ""
	}
	a, err := decodeApplied(e.Value)
	if err != nil {
		return ""
	}
	return a.Program
}

// inspectUnversioned decides what a store without a version of this schema is:
// damaged if it has other records of the schema, fresh if nothing in it is
// unaccounted for, and otherwise unversioned.
func (r *Runner) inspectUnversioned(s store.Reader) error {
	for _, orphan := range []struct {
		what   string
		prefix []byte
	}{
		{"a history", []byte(r.keys.history)},
		{"the progress of a migration", r.keys.progress},
		{"a catalog", r.keys.table},
	} {
		e, ok, err := first(s, orphan.prefix, nil)
		if err != nil {
			return r.unreadable(orphan.prefix, orphan.what, err)
		}
		if ok {
			return r.corrupt(e.Key, "it has %s but no version", orphan.what)
		}
	}
	if r.allowUnversioned {
		return nil
	}
	foreign, err := holdsForeignData(s)
	if err != nil {
		return fmt.Errorf("look for data of other programs: %w", err)
	}
	if foreign {
		return fmt.Errorf("%s schema: %w", r.schema, ErrUnversioned)
	}
	return nil
}

// first returns the first entry with prefix at or after from.
func first(s store.Reader, prefix, from []byte) (store.Entry, bool, error) {
	for e, err := range s.Scan(store.Scan{Prefix: prefix, From: from, KeysOnly: true}) {
		return store.Entry{Key: bytes.Clone(e.Key)}, err == nil, err
	}
	return store.Entry{}, false, nil
}

// holdsForeignData reports whether the store has a key that belongs to no schema
// with a version. It looks at two keys a schema and not at every key.
func holdsForeignData(s store.Reader) (bool, error) {
	var from []byte
	for {
		e, ok, err := first(s, nil, from)
		if err != nil || !ok {
			return false, err
		}
		end := bytes.IndexAny(e.Key, ":./")
		if end < 0 || checkSchema(string(e.Key[:end])) != nil {
			return true, nil
		}
		_, err = s.Get(newKeys(string(e.Key[:end])).version)
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		from = append(bytes.Clone(e.Key[:end]), e.Key[end]+1)
	}
}
