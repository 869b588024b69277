package cluster

import (
	"context"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// A Status is what can be seen of the nodes of a store.
type Status struct {
	Schema  string
	Version uint32 // the active one, 0 if there is none yet
	Nodes   []NodeStatus

	// Target is the version that is being introduced, 0 if none is; Program does it,
	// or did when it was last heard of; Closed says that migrations may run, so that
	// nodes can neither read nor write.
	Target  uint32
	Program string
	Closed  bool
}

// A NodeStatus is what can be seen of a node.
type NodeStatus struct {
	Node

	// Silent says that the node gave no sign of life while it was watched.
	Silent bool

	// HoldsBack says that it does not support the version that was asked for, which
	// is beyond the active one.
	HoldsBack bool
}

// Observe watches the nodes of g.Store until each has given a sign of life, at most for
// patience, and says which of them hold it back from version to. Patience 0 is a little
// longer than it takes a node that is alive. It writes nothing, and needs no turn.
func (g *Gate) Observe(ctx context.Context, to uint32, patience time.Duration) (Status, error) {
	k := newKeys(g.Schema)
	g.begin()
	began := g.clock.Now()
	for {
		var nodes []sighting
		s := Status{Schema: k.schema}
		err := g.Store.View(ctx, func(r store.Reader) (err error) {
			nodes, err = k.observe(r, &s)
			return err
		})
		if err != nil {
			return s, err
		}
		g.watch.see(nodes)
		silent, pause := false, time.Duration(0)
		for _, n := range nodes {
			at := NodeStatus{Node: n.Node, Silent: !g.watch.nodes[n.ID].moved, HoldsBack: to > s.Version && !n.supports(to, g.Floor(to))}
			s.Nodes = append(s.Nodes, at)
			silent = silent || at.Silent
			pause = max(pause, n.TTL)
		}
		wait := patience
		if wait == 0 {
			wait = pause/3 + pause/polls
		}
		left := wait - g.clock.Now().Sub(began)
		if !silent || left <= 0 {
			return s, nil
		}
		if err := g.clock.Sleep(ctx, min(left, pause/polls)); err != nil {
			return s, err
		}
	}
}

// observe fills in s what one snapshot says of it, and returns the nodes.
func (k keys) observe(r store.Reader, s *Status) ([]sighting, error) {
	version, err := k.readVersion(r)
	if err != nil {
		return nil, err
	}
	in, _, err := k.readUpgrade(r, version)
	if err != nil {
		return nil, err
	}
	s.Version = version
	if in != nil {
		s.Target, s.Program, s.Closed = in.Target, in.Program, in.Closed
	}
	return k.readNodes(r)
}
