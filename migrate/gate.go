package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
)

// ErrHeldBack is matched by every [*HeldBackError].
var ErrHeldBack = errors.New("upgrade held back by nodes")

// A HeldBackError says that a store which several processes share went only as far as
// all of its nodes can follow (see package cluster). All is well with the store; a
// program that supports Version goes on with it, and tries again later. It matches
// [ErrHeldBack].
type HeldBackError struct {
	Schema  string
	Version uint32         // the store's
	Target  uint32         // what was asked for
	Nodes   []cluster.Node // that are alive, or were when last heard of, and do not support Target
}

func (e *HeldBackError) Error() string {
	var nodes []string
	for _, n := range e.Nodes {
		nodes = append(nodes, n.String())
	}
	return fmt.Sprintf("%s schema: %v: it stays at v%d and does not go to v%d, because of %s. "+
		"The store is in order; upgrade or stop these nodes, and try again",
		e.Schema, ErrHeldBack, e.Version, e.Target, strings.Join(nodes, ", "))
}

// Is reports whether target is ErrHeldBack.
func (*HeldBackError) Is(target error) bool { return target == ErrHeldBack }

// refuseGated: a node's own store is closed to it while it migrates.
func refuseGated(st store.Store) error {
	if _, ok := store.As[interface{ Member() *cluster.Member }](st); ok {
		return fmt.Errorf("%w: the store of a member of a cluster cannot be migrated: pass the one that was passed to cluster.Join", store.ErrUnsupported)
	}
	return nil
}

// Nodes returns the nodes of a store that several processes share, and which of them
// hold it back from the latest version that the program knows. It watches them until
// each has given a sign of life, at most for patience; 0 is a little longer than it
// takes a node that is alive. It writes nothing, and works on any store with a version
// that can be read.
func (r *Runner) Nodes(ctx context.Context, patience time.Duration) (cluster.Status, error) {
	return r.gate().Observe(ctx, r.registry.Latest(), patience)
}

func (r *Runner) gate() *cluster.Gate {
	return &cluster.Gate{
		Store: r.store, Schema: r.schema, Program: r.programName(), Logger: r.log,
		Floor: func(version uint32) uint32 {
			_, writable := r.registry.ladder().floors(version)
			return writable
		},
	}
}

// advanceGated does what advance does, as far as the nodes of the store support it, and
// then says which do not.
func (r *Runner) advanceGated(ctx context.Context, f found, target uint32, report *Report) (err error) {
	if f.version >= target {
		return r.advance(ctx, f, target, report)
	}
	gate := r.gate()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer cancel()
		if withdrawErr := gate.Withdraw(ctx); withdrawErr != nil && err == nil {
			r.log.WarnContext(ctx, fmt.Sprintf("nodes find out by themselves that the upgrade is over: %v", withdrawErr))
		}
	}()
	open, holders, err := gate.Pass(ctx, f.version, target)
	if err != nil {
		return err
	}
	if open > f.version || f.adopted {
		if err := r.advance(ctx, f, open, report); err != nil {
			return err
		}
	}
	if open < target {
		return &HeldBackError{Schema: r.schema, Version: open, Target: target, Nodes: holders}
	}
	return nil
}
