package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

type reclaimedJSON struct {
	SizeBefore uint64 `json:"size_before"`
	SizeAfter  uint64 `json:"size_after"`
}

func (a *app) reclaim() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reclaim",
		Short: "Give back the room of what was overwritten or deleted",
		Long: `Give back the room of what was overwritten or deleted. No entry changes, and
what is stopped on the way can be run again.

What the process that overwrote it still had in memory when it closed the store,
up --reclaim cannot give back; this command, run after it, can.`,
		Example: a.example("reclaim"),
		Args:    noArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withStore(cmd, true, func(ctx context.Context, st store.Store, _ migrate.Options) error {
			sizes, err := reclaim(ctx, st)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if a.json {
				return encode(w, sizes)
			}
			_, err = fmt.Fprintf(w, "the store takes %s, before it took %s\n", humanize.IBytes(sizes.SizeAfter), humanize.IBytes(sizes.SizeBefore))
			return err
		})
	}
	return a.withJSON(cmd)
}

// reclaim gives room of st back and returns what it took before and takes now.
func reclaim(ctx context.Context, st store.Store) (sizes reclaimedJSON, err error) {
	reclaimer, reclaims := store.As[store.Reclaimer](st)
	sizer, knows := store.As[store.Sizer](st)
	if !reclaims || !knows {
		return sizes, fmt.Errorf("%w: the store gives no room back, or does not know how much it takes: its own tools do that, if it has them", errors.ErrUnsupported)
	}
	if sizes.SizeBefore, err = sizer.Size(ctx); err != nil {
		return sizes, err
	}
	if err := reclaimer.Reclaim(ctx); err != nil {
		return sizes, err
	}
	sizes.SizeAfter, err = sizer.Size(ctx)
	return sizes, err
}
