package scenario

import (
	"context"
	"fmt"
	"time"

	"example.com/field/tool"
)

func init() { register(Scenario{"Install", installing}) }

// installing measures small migrations of a new database, which is open.
func installing(ctx context.Context, b *Bench) error {
	for _, versions := range b.Sizes.Install {
		which := fmt.Sprintf("migrations=%d", versions)
		err := b.alternate(ctx, which, 7, func(ctx context.Context, t tool.Tool) error {
			return b.inNew(func(dir string) error {
				var seconds float64
				if err := install(ctx, t, dir, versions, &seconds); err != nil {
					return err
				}
				return b.record(t, which, 1, ns(seconds))
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// install runs small migrations in a new database in dir, and verifies what they did.
func install(ctx context.Context, t tool.Tool, dir string, versions int, seconds *float64) error {
	return with(ctx, t, dir, func(db tool.Database) error {
		start := db.Start(tool.Schema{Small: versions})
		began := time.Now()
		if err := start(ctx); err != nil {
			return err
		}
		*seconds = time.Since(began).Seconds()
		n, _, err := db.Entries(ctx)
		if err == nil && n != versions {
			err = fmt.Errorf("%d entries; want %d", n, versions)
		}
		return err
	})
}
