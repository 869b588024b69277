package migrate

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/overlay"
)

// DryRunOptions say how DryRun works.
type DryRunOptions struct {
	// Scratch takes what the migrations write, so that the memory stays bounded
	// whatever they do. It must be empty and have room in a transaction for one
	// of the Runner's store: badgerstore.OpenTemp makes such a store.
	Scratch store.Store

	// Samples is how many of the added, of the changed and of the deleted keys
	// of each partition come with their values, in each version. Those may be
	// secret; 0 is none.
	Samples int
}

// A DryRun says what a run would do.
type DryRun struct {
	// Report is what the run would report. Its times are those of the dry run.
	Report

	// Diffs are the changes that each version would make to the one before, in
	// order. The adoption of a store counts with the first.
	Diffs []Diff

	// DiskBytes estimates by how much the store would grow on the disk, at the
	// most, until its engine has tidied up: see docs/decisions/dryrun.md.
	DiskBytes uint64

	// RoomBytes is what must stay free on the disk beside DiskBytes, because the
	// store needs it to put its files in order: a run stops when no more is left.
	// It is 0 if the store, which must be a [store.Spacer], cannot say it, and if
	// there is nothing to write.
	RoomBytes uint64
}

// A Diff is what a version changes, in the order of the partitions' names. Keys
// that hold again what they did before it are not counted.
type Diff struct {
	Version    uint32
	Name       string
	Partitions []PartitionDiff
}

// A PartitionDiff is what a version changes in a partition.
type PartitionDiff struct {
	// Partition is the partition's name; that of a schema and a colon for keys
	// that a schema keeps outside partitions, such as its version; "" for other
	// keys outside partitions; and "*" for keys of all partitions beyond the
	// first thousand that a version changes.
	Partition string

	Added, Changed, Deleted Tally
}

// A Tally counts keys to which the same happened.
type Tally struct {
	Keys        uint64
	BytesBefore uint64 // of those keys and their values, 0 if they were added
	BytesAfter  uint64 // 0 if they were deleted
	Samples     []Sample
}

// A Sample is one change. Before and After are in the notation of package dump, ""
// if there is no such entry; of a long value they show the beginning.
type Sample struct {
	Key           []byte
	Before, After string
}

// DryRun runs the pending migrations up to target as [Runner.UpTo] does, over a
// snapshot of the store, and returns what they would change. The store is not
// written: it may be open read-only, and others may go on using it. There is no
// backup, and no room to give back. The observer is
// told of the migrations as of any, and the lines of the log have dry_run=true.
//
// The errors are those of UpTo. If a migration fails, the DryRun tells of those
// before it; the [*MigrationError] has DryRun set.
func (r *Runner) DryRun(ctx context.Context, target uint32, o DryRunOptions) (result DryRun, err error) {
	result.Schema = r.schema
	if o.Scratch == nil {
		return result, errors.New("dry run: there is no scratch store to write to; the store was not touched")
	}
	over, err := overlay.New(ctx, r.store, o.Scratch)
	if err != nil {
		return result, fmt.Errorf("dry run: %w", err)
	}
	defer func() { err = errors.Join(err, over.Close()) }()
	options := r.options
	options.Logger, options.Backup, options.Reclaim = r.log.With("dry_run", true), nil, false
	trial, err := New(over, options)
	if err != nil {
		return result, err
	}
	trial.afterEach = func(ctx context.Context, m Migration) error {
		diff, err := diffOf(ctx, over, m, o.Samples)
		if err == nil {
			result.Diffs = append(result.Diffs, diff)
			if m.Version != target {
				err = over.Settle(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("dry run: compare v%d (%s) with what was before it: %w; the store is unchanged", m.Version, m.Name, err)
		}
		return nil
	}
	result.Report, err = trial.UpTo(ctx, target)
	if err == nil && result.Adopted && len(result.Diffs) == 0 {
		err = trial.afterEach(ctx, r.registry.ladder().at(result.To))
	}
	if w := over.Written(); w.Transactions > 0 {
		result.DiskBytes, result.RoomBytes = diskBytes(w, over.Limits()), r.roomBytes(ctx)
	}
	if e, ok := errors.AsType[*MigrationError](err); ok {
		e.DryRun = true
		if errors.Is(err, store.ErrNoSpace) {
			e.Err = fmt.Errorf("scratch store: %w", e.Err)
		}
	}
	return result, err
}

// roomBytes returns what the store needs to put its files in order, 0 if it cannot say.
func (r *Runner) roomBytes(ctx context.Context) uint64 {
	spacer, ok := store.As[store.Spacer](r.store)
	if !ok {
		return 0
	}
	_, needed, err := spacer.Free(ctx)
	if err != nil {
		return 0
	}
	return needed
}

// diskBytes estimates what writing takes: every byte twice, once in the engine's
// log and once where it sorts it or while it merges it with what is there, and a
// value that is kept apart once. What is fixed is for the files of an engine that
// begins to write.
func diskBytes(w overlay.Written, l store.Limits) uint64 {
	const fixed = 4 << 20
	return fixed + 2*(w.Bytes+(w.Sets+w.Deletes)*uint64(l.EntryOverhead)) + w.ApartBytes
}

// The bounds of a Diff, so that its size does not depend on the data.
const (
	maxPartitions  = 1000
	maxSampleBytes = 1 << 20 // of all samples
	maxSampleValue = 4 << 10 // shown in full
)

// A differ adds up a Diff.
type differ struct {
	partitions map[string]*PartitionDiff
	samples    int // of a kind in a partition
	room       int // bytes of samples that may still come
}

func newDiffer(samples int) *differ {
	return &differ{partitions: map[string]*PartitionDiff{}, samples: samples, room: maxSampleBytes}
}

func diffOf(ctx context.Context, over *overlay.Store, m Migration, samples int) (Diff, error) {
	d := newDiffer(samples)
	err := over.Changes(ctx, func(c overlay.Change) error {
		d.add(c.Key, c.Before, c.After)
		return nil
	})
	return Diff{m.Version, m.Name, d.partitionDiffs()}, err
}

// partitionDiffs returns what was added up, in the order of the names.
func (d *differ) partitionDiffs() (diffs []PartitionDiff) {
	for _, name := range slices.Sorted(maps.Keys(d.partitions)) {
		diffs = append(diffs, *d.partitions[name])
	}
	return diffs
}

// add counts the change of an entry, which is nil where there was or is none.
func (d *differ) add(key []byte, before, after *store.Entry) {
	p := d.partition(key)
	t := &p.Changed
	switch {
	case before == nil:
		t = &p.Added
	case after == nil:
		t = &p.Deleted
	}
	t.Keys++
	t.BytesBefore += size(before)
	t.BytesAfter += size(after)
	if len(t.Samples) >= d.samples {
		return
	}
	s := Sample{Key: bytes.Clone(key), Before: sampleOf(before), After: sampleOf(after)}
	if need := len(s.Key) + len(s.Before) + len(s.After); need <= d.room {
		d.room -= need
		t.Samples = append(t.Samples, s)
	}
}

// partition returns the group that key is counted in.
func (d *differ) partition(key []byte) *PartitionDiff {
	name := groupOf(key)
	if d.partitions[name] == nil {
		if len(d.partitions) >= maxPartitions {
			name = "*"
		}
		if d.partitions[name] == nil {
			d.partitions[name] = &PartitionDiff{Partition: name}
		}
	}
	return d.partitions[name]
}

func groupOf(key []byte) string {
	if name, _, ok := bytes.Cut(key, []byte("/")); ok {
		if p, err := store.NewPartition(string(name)); err == nil {
			return p.Name()
		}
	}
	if schema, _, ok := bytes.Cut(key, []byte(":")); ok && checkSchema(string(schema)) == nil {
		return string(schema) + ":"
	}
	return ""
}

func size(e *store.Entry) uint64 {
	if e == nil {
		return 0
	}
	return uint64(len(e.Key) + len(e.Value))
}

func sampleOf(e *store.Entry) string {
	switch {
	case e == nil:
		return ""
	case len(e.Value) <= maxSampleValue:
		return dump.Text(*e)
	}
	const head = 32
	return fmt.Sprintf("hex:%s… (%d bytes)", hex.EncodeToString(e.Value[:head]), len(e.Value))
}
