package migrate

import (
	"context"
	"errors"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// togetherTime is how long the migrations of one transaction may take together
// before it is committed, so that little is lost if it is not.
const togetherTime = 50 * time.Millisecond

// together applies the first of the pending migrations in one transaction, as many
// as take one step, fit and are quick. Each has its own record in history. A commit
// that waits for the disk takes longer than a small migration, so that this is what
// a fresh store waits for. It returns none if the first one, or anything else about
// them, needs a closer look, and in a dry run, which compares version by version:
// then each is applied alone.
func (up *upgrade) together(ctx context.Context, pending []Migration) []Applied {
	defer up.heart.meter.Store(nil)
	if len(pending) < 2 || up.afterEach != nil || pending[0].Version == up.solo || up.store.Sync(ctx) != nil {
		return nil
	}
	for n := len(pending); n > 1; {
		g := group{upgrade: up, pending: pending[:n]}
		err := store.Update(ctx, up.store, func(txn store.Txn) error { return g.run(ctx, txn) })
		switch {
		case err == nil:
			return g.done(ctx)
		case errors.Is(err, errAlone):
			n = len(g.outcomes) // what ran before it fits
			up.solo = pending[n].Version
		case errors.Is(err, store.ErrTxnTooBig):
			n = len(g.outcomes) / 2
		default:
			for _, out := range g.outcomes {
				up.doubts.add(out.applied, err)
			}
			return nil
		}
	}
	return nil
}

// A group is the migrations that share a transaction.
type group struct {
	*upgrade
	pending  []Migration
	outcomes []outcome // of those that ran
}

// errAlone: a migration must have a transaction of its own, and nothing of the
// group can be committed.
var errAlone = errors.New("migration of more than one step, or one that fails")

// run runs migrations of the group in txn until one asks for more than a step or
// the time is up.
func (g *group) run(ctx context.Context, txn store.Txn) error {
	g.outcomes = g.outcomes[:0]
	for began := time.Now(); len(g.outcomes) < len(g.pending) && time.Since(began) < togetherTime; {
		u := g.begin(g.pending[len(g.outcomes)], nil)
		at := u.beginning(true) // after those before it
		if len(g.outcomes) == 0 {
			var err error
			if at, err = u.position(txn); err != nil {
				return err
			}
			if at.Transactions > 0 {
				return errAlone // a rival has begun it
			}
		}
		stepped := time.Now()
		tx, err := u.callUp(ctx, txn, at)
		switch {
		case err != nil || tx.failed != nil || tx.continues:
			return alone(err)
		case tx.rows != nil || tx.phases > 1:
			if tx.written+tx.deleted > 0 || len(g.outcomes) == 0 {
				return errAlone
			}
			return nil // it has done nothing yet
		}
		out, err := u.conclude(ctx, txn, at, tx)
		if err != nil {
			return alone(err)
		}
		out.tx.end() // the transaction is now that of the next one
		out.began = stepped
		g.outcomes = append(g.outcomes, out)
	}
	return nil
}

// alone marks an error as that of one migration, unless the whole group is too much.
func alone(err error) error {
	if errors.Is(err, store.ErrTxnTooBig) {
		return err
	}
	return errAlone
}

// done says that the group is committed.
func (g *group) done(ctx context.Context) []Applied {
	applied := make([]Applied, len(g.outcomes))
	for i, out := range g.outcomes {
		applied[i] = *out.applied
		m := g.pending[i]
		g.logBegin(ctx, m)
		g.meters[m.Version].committed(out)
		g.meters[m.Version].tell(Finished, nil)
		g.logDone(ctx, m)
	}
	return applied
}
