package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

type (
	storesDiffJSON struct {
		Before     string          `json:"before"`
		After      string          `json:"after"`
		Partitions []partitionJSON `json:"partitions"`
	}
	versionsDiffJSON struct {
		Schema     string          `json:"schema"`
		From       uint32          `json:"from"`
		To         uint32          `json:"to"`
		Partitions []partitionJSON `json:"partitions"`
	}
)

// errDiffer is what diff returns if two stores do.
var errDiffer = errors.New("the stores differ")

// A diff is the command's flags.
type diff struct {
	*app
	prefix   string
	samples  uint16
	from, to uint32
}

func (a *app) diff() *cobra.Command {
	d := &diff{app: a}
	cmd := &cobra.Command{
		Use:   "diff [BEFORE] AFTER",
		Short: "Show how two stores differ, or what lies between two versions",
		Long: `Show how the store AFTER differs from BEFORE, which is --store if it is not
named: by partition, how many keys were added, changed and deleted, and samples
of them. Of the history only which migrations it has counts, and not when they
ran. The exit code is 3 if the stores differ. Nothing is changed.

With --from or --to instead of stores, show what the migrations between the two
versions change in a new, temporary store. What they would change in a store of
yours, up --dry-run shows. The exit code is 0.`,
		Example: a.example("diff OTHER") + fmt.Sprintf("\n  %[1]s diff DIR OTHER --prefix system.users/\n  %[1]s diff --from 1 --to 3", a.Name),
	}
	cmd.Flags().StringVar(&d.prefix, "prefix", "", "only keys that start with this")
	cmd.Flags().Uint16Var(&d.samples, "samples", 3, "show so many added, changed and deleted keys of each partition, secrets included")
	cmd.Flags().Uint32Var(&d.from, "from", 0, "the version before (default none)")
	cmd.Flags().Uint32Var(&d.to, "to", a.Options.Registry.Latest(), "the version after")
	cmd.ValidArgsFunction = first(2, completeDirectory)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("from") || cmd.Flags().Changed("to") {
			if len(args) > 0 || cmd.Flags().Changed("store") {
				return usage(errors.New("--from and --to are of a new store: name none, or see up --dry-run"))
			}
			return d.versions(cmd)
		}
		switch {
		case len(args) == 1 && a.store != "":
			return d.stores(cmd, a.store, args[0])
		case len(args) == 2:
			return d.stores(cmd, args[0], args[1])
		}
		return usage(errors.New("want two stores, or --from and --to"))
	}
	return a.withJSON(cmd)
}

func (d *diff) stores(cmd *cobra.Command, before, after string) error {
	one, other := *d.app, *d.app
	one.store, other.store = before, after
	one.reads, other.reads = true, true
	return one.withStore(cmd, true, func(ctx context.Context, a store.Store, _ migrate.Options) error {
		return other.withStore(cmd, true, func(ctx context.Context, b store.Store, _ migrate.Options) error {
			partitions, err := d.compare(ctx, a, b, func() error { return nil })
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			switch {
			case d.json:
				err = encode(w, storesDiffJSON{before, after, newPartitionsJSON(partitions)})
			case len(partitions) == 0:
				_, err = fmt.Fprintf(w, "%s holds what %s does\n", after, before)
			default:
				fmt.Fprintf(w, "%s -> %s\n", before, after)
				err = printPartitions(w, partitions)
			}
			if len(partitions) > 0 {
				err = errors.Join(err, errDiffer)
			}
			return err
		})
	})
}

// compare compares what before holds with what after holds once then was called.
func (d *diff) compare(ctx context.Context, before, after store.Store, then func() error) (partitions []migrate.PartitionDiff, err error) {
	err = before.View(ctx, func(was store.Reader) error {
		if err := then(); err != nil {
			return err
		}
		return after.View(ctx, func(is store.Reader) (err error) {
			partitions, err = migrate.Compare(was, is, []byte(d.prefix), int(d.samples))
			return err
		})
	})
	return partitions, err
}

// versions compares a store at one version with itself at another.
func (d *diff) versions(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	for _, version := range []uint32{d.from, d.to} {
		if latest := d.Options.Registry.Latest(); version > latest {
			return &migrate.UnknownTargetError{Schema: d.Options.Schema, Target: version, Latest: latest}
		}
	}
	if d.from > d.to {
		return usage(fmt.Errorf("no migration leads from v%d back to v%d", d.from, d.to))
	}
	o := d.Options
	trying := *d.app
	trying.quiet = !d.verbose // what happens to a temporary store is no news
	o.Logger = trying.logger(cmd.ErrOrStderr())
	o.AllowUnreleased, o.Backup, o.Reclaim, o.Observer, o.Heartbeat = true, nil, false, nil, -1
	dir, err := os.MkdirTemp("", "kvmigrate-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	badger := d.Badger
	badger.MustExist, badger.Logger = false, o.Logger
	st, err := badgerstore.Open(ctx, dir, badger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r, err := migrate.New(st, o)
	if err != nil {
		return err
	}
	if _, err := r.UpTo(ctx, d.from); err != nil {
		return err
	}
	partitions, err := d.compare(ctx, st, st, func() error {
		_, err := r.UpTo(ctx, d.to)
		return err
	})
	if err != nil {
		return err
	}
	return d.printVersions(cmd.OutOrStdout(), partitions)
}

func (d *diff) printVersions(w io.Writer, partitions []migrate.PartitionDiff) error {
	if d.json {
		return encode(w, versionsDiffJSON{d.Options.Schema, d.from, d.to, newPartitionsJSON(partitions)})
	}
	fmt.Fprintf(w, "%s schema: v%d -> v%d in a new store\n", d.Options.Schema, d.from, d.to)
	if len(partitions) == 0 {
		_, err := fmt.Fprintln(w, "nothing changes")
		return err
	}
	return printPartitions(w, partitions)
}
