package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/migrate/internal/pulse"
	"github.com/kvmigrate/kvmigrate/store"
)

// A Gate is what who migrates a store passes through, so that no node is left behind:
// migrate's runner does, in stores that several processes share. It must not be used
// concurrently.
type Gate struct {
	// Store is the store of the turn to migrate. None of its transactions commits once
	// the turn is lost, and none begins while one whose outcome is unknown may still
	// be committed.
	Store store.Store

	// Schema is the schema to migrate, Program who does it.
	Schema, Program string

	// Floor returns the oldest version whose programs may write a store at version.
	Floor func(version uint32) uint32

	// Logger receives what happens to nodes. Nil means slog.Default.
	Logger *slog.Logger

	clock clock
	watch watch
}

// Pass returns how far a store at version from may be brought on the way to version
// to, and which nodes are in the way of the rest: they are alive and do not support
// the next version. If open is beyond from the store is closed to nodes until it is
// at open, or until Withdraw.
//
// Whether a node that is in the way is alive Pass finds out by waiting for its next
// sign of life, at most for its TTL. Nodes that give none are removed.
func (g *Gate) Pass(ctx context.Context, from, to uint32) (open uint32, holders []Node, err error) {
	k := newKeys(g.Schema)
	g.begin()
	open, holders, err = g.survey(ctx, k, from, to, to)
	if err != nil {
		return from, nil, fmt.Errorf("%s schema: find out which nodes support v%d: %w", g.Schema, to, err)
	}
	for open > from {
		next := intent{Target: open, Floor: g.Floor(open), Program: g.Program}
		if err := certain.Update(ctx, g.Store, func(txn store.Txn) error { return k.announce(txn, next) }); err != nil {
			return from, nil, fmt.Errorf("%s schema: announce v%d to its nodes: %w", g.Schema, open, err)
		}
		// Who registered before the intent stood is seen now, who does so after it
		// supports the target.
		reached, again, err := g.survey(ctx, k, from, open, to)
		if err != nil {
			return from, nil, fmt.Errorf("%s schema: find out which nodes support v%d: %w", g.Schema, open, err)
		}
		if reached < open {
			open, holders = reached, again
			continue
		}
		if err := certain.Update(ctx, g.Store, func(txn store.Txn) error { return k.shut(txn, next) }); err != nil {
			return from, nil, fmt.Errorf("%s schema: close it to its nodes: %w", g.Schema, err)
		}
		return open, holders, nil
	}
	return from, holders, g.Withdraw(ctx)
}

// begin makes the zero clock one.
func (g *Gate) begin() {
	if g.clock == nil {
		g.clock = wallClock{}
	}
	g.watch.clock = g.clock
}

// Withdraw opens the store to nodes again, unless a migration is under way. It is
// called at the end of each turn in which Pass was.
func (g *Gate) Withdraw(ctx context.Context) error {
	k := newKeys(g.Schema)
	err := certain.Update(ctx, g.Store, k.withdraw)
	if err != nil {
		return fmt.Errorf("%s schema: open it to its nodes: %w", g.Schema, err)
	}
	return nil
}

// survey finds out how far on the way to version to the nodes that are alive let a store
// go, and which are in the way to goal, which may lie beyond that.
func (g *Gate) survey(ctx context.Context, k keys, from, to, goal uint32) (uint32, []Node, error) {
	for {
		var nodes []sighting
		err := g.Store.View(ctx, func(r store.Reader) (err error) {
			nodes, err = k.readNodes(r)
			return err
		})
		if err != nil {
			return from, nil, err
		}
		g.watch.see(nodes)
		open := from
		for open < to && !slices.ContainsFunc(nodes, g.unfit(open+1)) {
			open++
		}
		if open == to {
			return to, nil, nil
		}
		pause := time.Duration(0)
		next := g.unfit(open + 1)
		var dead int
		for _, n := range nodes {
			switch {
			case !next(n):
			case g.watch.proven(n):
				return open, g.holders(nodes, goal), nil
			case g.watch.dead(n):
				dead++
				if err := g.evict(ctx, k, n); err != nil {
					return from, nil, err
				}
			case pause == 0 || n.TTL < pause:
				pause = n.TTL
			}
		}
		if dead > 0 {
			continue
		}
		if err := g.clock.Sleep(ctx, pause/polls); err != nil {
			return from, nil, err
		}
	}
}

// polls is how often one looks for a sign of life within the time in which there has
// to be one.
const polls = 12

// unfit reports of a node whether it does not support version.
func (g *Gate) unfit(version uint32) func(sighting) bool {
	floor := g.Floor(version)
	return func(n sighting) bool { return !n.supports(version, floor) }
}

// holders are those of nodes that do not support version.
func (g *Gate) holders(nodes []sighting, version uint32) (holders []Node) {
	unfit := g.unfit(version)
	for _, n := range nodes {
		if unfit(n) {
			holders = append(holders, n.Node)
		}
	}
	return holders
}

func (g *Gate) evict(ctx context.Context, k keys, n sighting) error {
	err := certain.Update(ctx, g.Store, func(txn store.Txn) error { return k.evict(txn, n) })
	if err == nil {
		log := g.Logger
		if log == nil {
			log = slog.Default()
		}
		log.WarnContext(ctx, fmt.Sprintf("%s schema: node %s has given no sign of life for %v and is taken for dead: it does not hold back an upgrade any more", g.Schema, n, n.TTL))
	}
	return err
}

// A watch judges nodes by their beats.
type watch struct {
	clock clock
	nodes map[string]*watched // by ID
}

type watched struct {
	pulse pulse.Watch
	first []byte // the beat that it was first seen with
	alive bool
	moved bool // whether the beat has changed since
}

// see takes note of the beats of nodes.
func (w *watch) see(nodes []sighting) {
	if w.nodes == nil {
		w.nodes = map[string]*watched{}
	}
	for _, n := range nodes {
		at := w.nodes[n.ID]
		if at == nil {
			at = &watched{pulse: pulse.Watch{TTL: n.TTL, Now: w.clock.Now}, first: n.beat}
			w.nodes[n.ID] = at
		}
		at.alive = at.pulse.Alive("", n.beat)
		at.moved = at.moved || !bytes.Equal(at.first, n.beat)
	}
}

// proven reports whether n has given a sign of life since it was first seen.
func (w *watch) proven(n sighting) bool { at := w.nodes[n.ID]; return at.alive && at.moved }

// dead reports whether n was given the time for a sign of life and did not.
func (w *watch) dead(n sighting) bool { return !w.nodes[n.ID].alive }
