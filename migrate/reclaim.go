package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/kvmigrate/kvmigrate/store"
)

// overwrites reports whether room may be given back after a run: somebody asks for it,
// and the store is not new, so that there is something to overwrite.
func (r *Runner) overwrites(ctx context.Context) (yes bool) {
	if !r.reclaims {
		return false
	}
	err := r.store.View(ctx, func(s store.Reader) (err error) {
		_, yes, err = first(s, nil, nil)
		return err
	})
	return yes || err != nil // giving back nothing does no harm
}

// size returns the bytes that the store takes, 0 if nobody is to know or it does not.
func (r *Runner) size(ctx context.Context) uint64 {
	sizer, ok := store.As[store.Sizer](r.store)
	if !ok || !r.reclaims {
		return 0
	}
	bytes, err := sizer.Size(ctx)
	if err != nil {
		r.log.WarnContext(ctx, fmt.Sprintf("the size of the store is not known: %v", err))
	}
	return bytes
}

// reclaim gives back the room of what a run overwrote, and adds to the record of its
// last migration what the store takes now and took before. The run is done: what
// fails here is no failure of it.
func (r *Runner) reclaim(ctx context.Context, before uint64, report *Report) {
	reclaimer, ok := store.As[store.Reclaimer](r.store)
	if !ok || len(report.Applied) == 0 {
		return
	}
	r.log.InfoContext(ctx, "giving back the room of what was overwritten; the upgrade is done")
	if err := reclaimer.Reclaim(ctx); err != nil {
		r.log.WarnContext(ctx, fmt.Sprintf("room of what was overwritten was not given back, or not all: %v", err))
		return
	}
	last := &report.Applied[len(report.Applied)-1]
	last.SizeBefore, last.SizeAfter = before, r.size(ctx)
	r.log.InfoContext(ctx, fmt.Sprintf("the store takes %s, before the upgrade it took %s", humanize.IBytes(last.SizeAfter), humanize.IBytes(last.SizeBefore)))
	if err := r.recordSizes(ctx, *last); err != nil {
		r.log.WarnContext(ctx, fmt.Sprintf("history does not say how large the store was: %v", err))
	}
}

// recordSizes adds the sizes of a to its record.
func (r *Runner) recordSizes(ctx context.Context, a Applied) error {
	return store.Update(ctx, r.store, func(txn store.Txn) error {
		key := r.keys.historyOf(a.Version)
		e, err := txn.Get(key)
		if err != nil {
			return err
		}
		stored, err := decodeApplied(e.Value)
		if err != nil {
			return err
		}
		if stored.Fingerprint != a.Fingerprint {
			return errors.New("its record has changed")
		}
		stored.SizeBefore, stored.SizeAfter = a.SizeBefore, a.SizeAfter
		data, err := stored.encode()
		if err != nil {
			return err
		}
		return r.keep(txn, key, data)
	})
}
