package scenario

import (
	"context"
	"fmt"

	"example.com/field/tool"
)

func init() { register(Scenario{"Rewrite", rewrite}) }

// rewrite measures the change of every account, each time in a process of its own.
func rewrite(ctx context.Context, b *Bench) error {
	for _, rows := range b.Sizes.Rewrite {
		which := fmt.Sprintf("rows=%d", rows)
		rounds := 5
		if rows >= 1_000_000 {
			rounds = 3
		}
		err := b.alternate(ctx, which, rounds, func(ctx context.Context, t tool.Tool) error {
			c, err := b.rewriteOnce(ctx, t, rows)
			if err != nil {
				return err
			}
			return b.record(t, which, 1, ns(c.Seconds), peak(c.Peak))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Bench) rewriteOnce(ctx context.Context, t tool.Tool, rows int) (c cost, err error) {
	err = b.withRows(ctx, t, rows, func(dir string) error {
		c, err = rewriteInChild.Run(ctx, work{Tool: t.Name, Dir: dir, Rows: rows})
		return err
	})
	return c, err
}
