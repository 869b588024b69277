package migrate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
)

// found is the state in which a run finds a schema.
type found struct {
	version uint32
	stored  bool // whether a version is stored at all

	adopted  bool // whether none is, and Options.Adopt found version
	readOnly bool // whether version is newer and the program must not write

	progress *Progress // of the migration under way, or nil
}

// settled reports whether there is nothing to do up to target.
func (f found) settled(target uint32) bool { return f.version >= target && !f.adopted }

// access says what a program may do with a newer store.
func (f found) access() string {
	if f.readOnly {
		return "read"
	}
	return "read and write"
}

// An inspection is the reading of one schema's state. What a View needs, the
// callback and what it fills in, would each be an allocation, so that they are
// kept for the next start-up check.
type inspection struct {
	ctx    context.Context //nolint:containedctx // for the length of one inspect
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
	i.ctx, i.runner, i.target = ctx, r, target
	err := r.store.View(ctx, i.read)
	f := i.found
	i.ctx, i.runner, i.found = nil, nil, found{}
	inspections.Put(i)
	if err != nil && !errors.Is(err, ErrRefused) {
		err = fmt.Errorf("read the version of %s schema: %w; nothing was changed", r.schema, err)
	}
	return f, err
}

func (i *inspection) inspect(s store.Reader) (err error) {
	f := &i.found
	f.version, f.stored, err = i.runner.readVersion(s)
	if err != nil {
		return err
	}
	if f.stored {
		err = i.inspectVersioned(s)
	} else {
		err = i.inspectUnversioned(s)
	}
	if err != nil { // which half a store is sure to give
		err = cmp.Or(i.runner.half(backup.UnderWay(s, i.runner.schema)), err)
	}
	return err
}

// inspectVersioned makes the checks of every start: identity, and no migration
// under way that this program does not know. Only if something is pending, and
// so about to be written, does it read the whole history.
func (i *inspection) inspectVersioned(s store.Reader) (err error) {
	r, f, target := i.runner, &i.found, i.target
	version, l := f.version, r.registry.ladder()
	switch {
	case version > l.latest():
		return i.inspectNewer(s)
	case version > 0 && version <= l.base:
		return l.tooOld(r.schema, version)
	case version > 0:
		if err := r.inspectIdentity(s, version); err != nil {
			return err
		}
	}
	if f.progress, err = r.readProgress(s, version); err != nil {
		return err
	}
	if f.progress != nil {
		if err := r.resumable(f.progress, version, target); err != nil {
			return err
		}
	}
	switch {
	case version > target:
		return &DowngradeError{Schema: r.schema, Stored: version, Known: target, WrittenBy: r.writtenBy(s, version)}
	case version < target:
		history, err := r.readHistory(s, version)
		if err != nil {
			return err
		}
		released := len(history) > 0 && !slices.ContainsFunc(history, func(a Applied) bool { return a.Unreleased })
		return i.inspectPending(released)
	}
	return nil
}

// inspectNewer decides about a store beyond the program's latest version: it is
// refused, unless all migrations that the program does not know say that it may
// read, or write, what they leave. Only its latest record is needed for that, and
// the one of the program's latest version to see that they have one history.
func (i *inspection) inspectNewer(s store.Reader) error {
	r, f := i.runner, &i.found
	latest := r.registry.Latest()
	downgrade := &DowngradeError{Schema: r.schema, Stored: f.version, Known: min(latest, i.target)}
	e, err := s.Get(r.keys.historyOf(f.version))
	if err != nil {
		return downgrade
	}
	newest, err := decodeApplied(e.Value)
	if err != nil {
		return downgrade
	}
	downgrade.WrittenBy = newest.Program
	if i.target < latest || latest < newest.ReadableFrom {
		return downgrade
	}
	if err := r.inspectIdentity(s, latest); err != nil {
		if _, renamed := errors.AsType[*RenamedError](err); renamed {
			return err
		}
		return downgrade // it was created or adopted beyond latest
	}
	if progress, err := r.readProgress(s, f.version); err != nil {
		return err
	} else if progress != nil {
		return &UnderWayError{Schema: r.schema, Version: progress.Version, Name: progress.Name, Known: latest}
	}
	f.readOnly = latest < newest.WritableFrom
	if f.readOnly && !r.allowReadOnly {
		downgrade.Readable = true
		return downgrade
	}
	return nil
}

// inspectPending refuses a store that went only through released migrations if one
// is about to run in it that is not.
func (i *inspection) inspectPending(released bool) error {
	r, f := i.runner, &i.found
	if r.allowUnreleased || !released {
		return nil
	}
	plan, err := r.registry.Plan(r.schema, f.version, i.target)
	if err != nil {
		return err
	}
	for _, m := range plan.Pending {
		if m.Unreleased {
			return &UnreleasedError{Schema: r.schema, Stored: f.version, Version: m.Version, Name: m.Name}
		}
	}
	return nil
}

// inspectIdentity checks that the store came to version by this program's
// migrations. The last record's fingerprint covers all before it.
func (r *Runner) inspectIdentity(s store.Reader, version uint32) error {
	want := r.identity(version)
	key := want.key
	e, err := s.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return r.corrupt(key, "its version is v%d but its history has no record of v%d", version, version)
	case err != nil:
		return r.unreadable(key, fmt.Sprintf("the history record of v%d", version), err)
	case !startsWith(e.Value, want.head):
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
	head    []byte // how the record starts after its first byte
}

func (r *Runner) identity(version uint32) *identity {
	known := r.registry.ladder()
	if last := r.last.Load(); last != nil && last.version == version && last.ladder == known {
		return last
	}
	want := &identity{known, version, r.keys.historyOf(version), headOf(known.fingerprint(version))}
	r.last.Store(want)
	return want
}

// identify finds the first migration in history that is not this program's.
func (r *Runner) identify(s store.Reader, version uint32) error {
	stored, _, err := r.readVersion(s)
	if err != nil {
		return err
	}
	history, err := r.readHistory(s, stored)
	if err != nil {
		return err
	}
	l := r.registry.ladder()
	for _, a := range history {
		if !l.has(a.Version) || a.Fingerprint == l.fingerprint(a.Version) {
			continue
		}
		known := l.at(a.Version)
		if known.Baseline != nil {
			known.Name += " (a baseline)" // which may have the name, and not the fingerprint, of what it stands for
		}
		if a.Name != known.Name {
			return &RenamedError{Schema: r.schema, Version: a.Version, Stored: a.Name, Known: known.Name}
		}
		break
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
func (i *inspection) inspectUnversioned(s store.Reader) error {
	r, l := i.runner, i.runner.registry.ladder()
	// The versions are the last that a copy writes.
	if err := transfer.UnderWay(s); err != nil {
		return cmp.Or(r.half(err), err)
	}
	if err := r.inspectOrphans(s); err != nil {
		return err
	}
	foreign, err := holdsForeignData(s)
	switch {
	case err != nil:
		return fmt.Errorf("look for data of other programs: %w", err)
	case !foreign:
		return nil
	case r.adopt == nil && !r.allowUnversioned:
		return fmt.Errorf("%s schema: %w", r.schema, ErrUnversioned)
	case r.adopt != nil:
		if err := i.inspectAdopted(s); err != nil {
			return err
		}
	}
	if i.found.version <= l.base && l.base > 0 {
		return l.tooOld(r.schema, i.found.version)
	}
	return i.inspectPending(true)
}

// half refuses the store of which err says that a copy into it or a restore is not
// finished. It returns nil if err says something else.
func (r *Runner) half(err error) error {
	_, copied := errors.AsType[*transfer.UnfinishedError](err)
	_, restored := errors.AsType[*backup.UnfinishedError](err)
	if !copied && !restored {
		return nil
	}
	return fmt.Errorf("%s schema: %w: %w; nothing was changed", r.schema, ErrRefused, err)
}

// inspectOrphans refuses a store without a version that has other records of the
// schema.
func (r *Runner) inspectOrphans(s store.Reader) error {
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
	return nil
}

// inspectAdopted asks Options.Adopt for the version of a store that has none.
func (i *inspection) inspectAdopted(s store.Reader) (err error) {
	r, f := i.runner, &i.found
	if err := call(func() error { f.version, err = r.adopt(i.ctx, s); return err }); err != nil {
		f.version = 0
		if errors.Is(err, ErrUnversioned) {
			return fmt.Errorf("%s schema: %w", r.schema, ErrUnversioned)
		}
		return &adoptError{schema: r.schema, err: err}
	}
	if latest := r.registry.Latest(); f.version > latest || f.version > i.target {
		return &adoptError{schema: r.schema, err: fmt.Errorf("it was found to be at v%d, and this program goes only to v%d", f.version, min(latest, i.target))}
	}
	if l := r.registry.ladder(); l.has(f.version) && l.at(f.version).Unreleased && !r.allowUnreleased {
		return &UnreleasedError{Schema: r.schema, Stored: f.version, Version: f.version, Name: l.at(f.version).Name}
	}
	f.adopted = f.version > 0
	return nil
}

// An adoptError says that Options.Adopt did not tell the version of a store. It
// matches ErrRefused and what Adopt returned.
type adoptError struct {
	schema string
	err    error
}

func (e *adoptError) Error() string {
	return fmt.Sprintf("%s schema: the store holds data but no schema version, and it was not adopted: %v; nothing was changed", e.schema, e.err)
}

func (e *adoptError) Unwrap() []error { return []error{ErrRefused, e.err} }

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
		k := newKeys(string(e.Key[:end]))
		_, err = s.Get(k.version)
		if errors.Is(err, store.ErrNotFound) {
			if bytes.Equal(e.Key, k.lock) || bytes.Equal(e.Key, k.turn) || bytes.Equal(e.Key, k.intent) {
				from = append(bytes.Clone(e.Key), 0) // a process is about to write the version
				continue
			}
			return true, nil
		}
		if err != nil {
			return false, err
		}
		from = append(bytes.Clone(e.Key[:end]), e.Key[end]+1)
	}
}
