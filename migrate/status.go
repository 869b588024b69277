package migrate

import (
	"context"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Status is what a store and a program know of a schema.
type Status struct {
	Schema  string
	Version uint32      // the stored version, 0 if there is none
	Stored  bool        // whether a version is stored
	Latest  uint32      // the program's latest version
	Pending []Migration // what Up would run

	// Adopted says that Options.Adopt found Version in a store that has none yet.
	Adopted bool

	// ReadOnly is as Report.ReadOnly would say.
	ReadOnly bool

	// Progress is that of the migration under way, which is the first of
	// Pending; nil if none is.
	Progress *Progress

	// Holder is the process whose turn it is to migrate a store that several share;
	// nil if none has taken it or the store is not shared. One that has died keeps it
	// until another takes over.
	Holder *Holder
}

// Status reads the schema's state in one snapshot, and Holder in another, and writes
// nothing. If Up
// would refuse the store, Status returns the same error, and beside it what it
// could read.
func (r *Runner) Status(ctx context.Context) (Status, error) {
	latest := r.registry.Latest()
	found, err := r.inspect(ctx, latest)
	status := Status{Schema: r.schema, Version: found.version, Stored: found.stored, Latest: latest, Progress: found.progress}
	if err != nil {
		return status, err
	}
	status.Adopted, status.ReadOnly = found.adopted, found.readOnly
	if status.Holder, err = r.holder(ctx); err != nil {
		return status, err
	}
	plan, err := r.plan(found, latest)
	status.Pending = plan.Pending
	return status, err
}

// holder returns the process whose turn it is, nil if there is none.
func (r *Runner) holder(ctx context.Context) (holder *Holder, err error) {
	if !r.shared {
		return nil, nil
	}
	err = r.store.View(ctx, func(s store.Reader) error {
		t, data, err := r.readTurn(s)
		if data != nil {
			h := holderOf(t)
			holder = &h
		}
		return err
	})
	return holder, err
}

// Plan returns what UpTo(ctx, target) would run, and its error if it would
// refuse. It writes nothing. Of a newer store that the program may use, To is From.
func (r *Runner) Plan(ctx context.Context, target uint32) (Plan, error) {
	found, err := r.inspect(ctx, target)
	if err != nil {
		return Plan{}, err
	}
	return r.plan(found, target)
}

// plan is what has to be done with a store that is not refused.
func (r *Runner) plan(f found, target uint32) (Plan, error) {
	if f.version > target {
		return Plan{Schema: r.schema, From: f.version, To: f.version}, nil
	}
	return r.registry.Plan(r.schema, f.version, target)
}

// History returns the records of all applied migrations, oldest first. It works
// on any undamaged store, also one that is newer than the program or was written
// by another; damage is a [*CorruptError].
func (r *Runner) History(ctx context.Context) (history []Applied, err error) {
	err = r.store.View(ctx, func(s store.Reader) error {
		version, _, err := r.readVersion(s)
		if err != nil {
			return err
		}
		history, err = r.readHistory(s, version)
		return err
	})
	return history, err
}
