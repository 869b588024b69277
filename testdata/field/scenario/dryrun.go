package scenario

import (
	"context"
	"fmt"

	"example.com/field/tool"
)

func init() { register(Scenario{"DryRun", trying}) }

// trying measures the dry run of a rewrite, each time in a process of its own.
func trying(ctx context.Context, b *Bench) error {
	rows := b.Sizes.DryRunRows
	which := fmt.Sprintf("rows=%d", rows)
	return b.alternate(ctx, which, 5, func(ctx context.Context, t tool.Tool) error {
		return b.withRows(ctx, t, rows, func(dir string) error {
			c, err := dryRunInChild.Run(ctx, work{Tool: t.Name, Dir: dir, Rows: rows})
			if err != nil {
				return err
			}
			return b.record(t, which, 1, ns(c.Seconds), peak(c.Peak))
		})
	})
}
