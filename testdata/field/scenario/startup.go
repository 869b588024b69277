package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"example.com/field/tool"
)

func init() {
	register(Scenario{"Startup", startup})
	register(Scenario{"Opening", opening})
}

// startup measures a start with nothing pending in a database that is open, which the
// program opened as it found it. Making the runner counts.
func startup(ctx context.Context, b *Bench) error {
	for _, versions := range b.Sizes.Versions {
		starts := map[string]func(context.Context) error{}
		var opened []tool.Database
		err := b.installed(ctx, versions, func(t tool.Tool, dir string) error {
			db, err := t.Open(ctx, dir)
			if err != nil {
				return err
			}
			opened = append(opened, db)
			starts[t.Name] = db.Start(tool.Schema{Small: versions})
			return starts[t.Name](ctx)
		})
		if err == nil {
			which := fmt.Sprintf("versions=%d", versions)
			err = b.alternate(ctx, which, 21, func(ctx context.Context, t tool.Tool) error {
				calls, seconds, err := repeat(ctx, starts[t.Name])
				if err != nil {
					return err
				}
				return b.record(t, which, calls, ns(seconds))
			})
		}
		for _, db := range opened {
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repeat calls start until the clock can tell how long it takes.
func repeat(ctx context.Context, start func(context.Context) error) (calls int, seconds float64, err error) {
	const long = 10 * time.Millisecond
	began := time.Now()
	for calls == 0 || time.Since(began) < long {
		for range max(calls, 1) {
			if err := start(ctx); err != nil {
				return 0, 0, err
			}
			calls++
		}
	}
	return calls, time.Since(began).Seconds() / float64(calls), nil
}

// opening measures the same with opening the database before and closing it after.
func opening(ctx context.Context, b *Bench) error {
	for _, versions := range b.Sizes.Versions {
		dirs := map[string]string{}
		err := b.installed(ctx, versions, func(t tool.Tool, dir string) error {
			dirs[t.Name] = dir
			return nil
		})
		if err != nil {
			return err
		}
		which := fmt.Sprintf("versions=%d", versions)
		err = b.alternate(ctx, which, 15, func(ctx context.Context, t tool.Tool) error {
			began := time.Now()
			err := with(ctx, t, dirs[t.Name], func(db tool.Database) error {
				return db.Start(tool.Schema{Small: versions})(ctx)
			})
			if err != nil {
				return err
			}
			return b.record(t, which, 1, ns(time.Since(began).Seconds()))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// installed calls use with a database of each tool that is at that version and closed.
func (b *Bench) installed(ctx context.Context, versions int, use func(t tool.Tool, dir string) error) error {
	for _, t := range b.contestants() {
		dir := filepath.Join(b.Dir, fmt.Sprintf("%s-at-%d", t.Name, versions))
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			if err := install(ctx, t, dir, versions, new(float64)); err != nil {
				return err
			}
		}
		if err := use(t, dir); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return nil
}
