package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

func (a *app) baseline() *cobra.Command {
	var version uint32
	cmd := &cobra.Command{
		Use:   "baseline VERSION",
		Short: "Adopt a store that has no version, at the one that it is like",
		Long: `Adopt a store from before it had versions: record that its data are as the
migrations up to VERSION would have left them, and run none of them. The history
says that the store was adopted. up then runs the migrations after VERSION.

A store that has a version is left as it is. Nothing checks that its data are
what you say: look with dump first, and keep a backup.`,
		Example:           fmt.Sprintf("  %s --store OLD baseline 3", a.Name),
		ValidArgsFunction: first(1, a.completeVersion),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(errors.New("want one version"))
			}
			n, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil || n == 0 {
				return usage(fmt.Errorf("%q is no version: want a number from 1 on", args[0]))
			}
			version = uint32(n)
			if !slices.ContainsFunc(a.Options.Registry.Migrations(), func(m migrate.Migration) bool { return m.Version == version }) {
				return usage(fmt.Errorf("this program has no v%d", version))
			}
			return nil
		},
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.Options.Adopt = func(context.Context, store.Reader) (uint32, error) { return version, nil }
		return a.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
			status, err := r.Status(ctx)
			switch {
			case err != nil:
				return err
			case status.Stored:
				return fmt.Errorf("%s schema is at v%d already; nothing was changed", status.Schema, status.Version)
			case status.Version != version:
				return errors.New("the store is empty: there is nothing to adopt; nothing was changed. Run up, which creates the schema")
			}
			report, err := r.UpTo(ctx, version)
			return a.printReport(cmd.OutOrStdout(), report, err)
		})
	}
	return a.withJSON(cmd)
}
