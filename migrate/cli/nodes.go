package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
)

type nodesJSON struct {
	Schema  string       `json:"schema"`
	Version uint32       `json:"version"`
	Latest  uint32       `json:"latest"`
	Upgrade *upgradeJSON `json:"upgrade,omitempty"`
	Nodes   []nodeJSON   `json:"nodes"`
}

type upgradeJSON struct {
	Target  uint32 `json:"target"`
	Program string `json:"program"`
	Closed  bool   `json:"closed"`
}

type nodeJSON struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Program   string    `json:"program"`
	Min       uint32    `json:"min"`
	Max       uint32    `json:"max"`
	Since     time.Time `json:"since"`
	Silent    bool      `json:"silent"`
	HoldsBack bool      `json:"holds_back"`
}

func (a *app) nodes() *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the store, and which hold an upgrade back",
		Long: `List the processes that use the store together, the schema versions that they
support, and which of them hold it back from the latest version of this
program.

It watches them until each has given a sign of life, at most for --watch. A
node that gives none is dead, or was paused: an upgrade waits for it no longer
than the time that it allows itself, which is ten seconds unless its program
says otherwise.`,
		Example: a.example("nodes"),
		Args:    noArgs,
	}
	cmd.Flags().DurationVar(&patience, "watch", 0, "how long to watch for signs of life; 0 is a little longer than a node takes for one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if patience < 0 {
			return usage(fmt.Errorf("--watch %v: want no less than 0", patience))
		}
		a.reads = true
		return a.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
			status, err := r.Nodes(ctx, patience)
			if err != nil {
				return err
			}
			latest := a.Options.Registry.Latest()
			if a.json {
				return encode(cmd.OutOrStdout(), newNodesJSON(status, latest))
			}
			return printNodes(cmd.OutOrStdout(), status, latest)
		})
	}
	return a.withJSON(cmd)
}

func newNodesJSON(s cluster.Status, latest uint32) nodesJSON {
	out := nodesJSON{Schema: s.Schema, Version: s.Version, Latest: latest, Nodes: []nodeJSON{}}
	if s.Target > 0 {
		out.Upgrade = &upgradeJSON{s.Target, s.Program, s.Closed}
	}
	for _, n := range s.Nodes {
		out.Nodes = append(out.Nodes, nodeJSON{n.ID, n.Name, n.Program, n.Min, n.Max, n.Since, n.Silent, n.HoldsBack})
	}
	return out
}

func printNodes(w io.Writer, s cluster.Status, latest uint32) error {
	t := table(w)
	fmt.Fprintf(t, "schema\t%s\nversion\tv%d\nlatest\tv%d\n", s.Schema, s.Version, latest)
	if s.Target > 0 {
		how := "announced"
		if s.Closed {
			how = "under way, so that nodes wait"
		}
		fmt.Fprintf(t, "upgrade\tto v%d by %s, %s\n", s.Target, s.Program, how)
	}
	fmt.Fprintf(t, "nodes\t%d\n", len(s.Nodes))
	if err := t.Flush(); err != nil || len(s.Nodes) == 0 {
		return err
	}
	fmt.Fprintln(w)
	t = table(w)
	fmt.Fprintln(t, "NODE\tPROGRAM\tSUPPORTS\tSINCE\tIS")
	for _, n := range s.Nodes {
		is := "alive"
		if n.Silent {
			is = "silent"
		}
		if n.HoldsBack {
			is += fmt.Sprintf(", holds back v%d", latest)
		}
		fmt.Fprintf(t, "%s\t%s\tv%d to v%d\t%s\t%s\n", n.Name, n.Program, n.Min, n.Max, n.Since.Format(time.RFC3339), is)
	}
	return t.Flush()
}
