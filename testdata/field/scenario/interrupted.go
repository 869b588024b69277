package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/perf/benchfmt"

	"example.com/field/tool"
)

func init() { register(Scenario{"Interrupted", interrupted}) }

// interrupted kills a rewrite after half of the time that the tool just took for all of
// it, and starts again. What is measured is the time of both, and that over the time
// without an interruption: 1 is that nothing is lost, 1.5 that all is.
func interrupted(ctx context.Context, b *Bench) error {
	rows := b.Sizes.InterruptRows
	which := fmt.Sprintf("rows=%d", rows)
	return b.alternate(ctx, which, 3, func(ctx context.Context, t tool.Tool) error {
		whole, err := b.rewriteOnce(ctx, t, rows)
		if err != nil {
			return err
		}
		half := time.Duration(whole.Seconds / 2 * float64(time.Second))
		for ; ; half /= 2 {
			total, err := b.resumed(ctx, t, rows, half)
			if errors.Is(err, errEnded) {
				continue // it was faster than the one before
			}
			if err != nil {
				return err
			}
			return b.record(t, which, 1, ns(total), benchfmt.Value{Value: total / whole.Seconds, Unit: "work/op"})
		}
	})
}

// resumed kills a rewrite some time after it began and starts again. It returns the
// time of both, in seconds.
func (b *Bench) resumed(ctx context.Context, t tool.Tool, rows int, after time.Duration) (total float64, err error) {
	err = b.withRows(ctx, t, rows, func(dir string) error {
		w := work{Tool: t.Name, Dir: dir, Rows: rows, Tell: true}
		first, err := killAfter(ctx, w, after)
		if err != nil {
			return err
		}
		w.Tell = false
		rest, err := resumeInChild.Run(ctx, w)
		total = first.Seconds() + rest.Seconds
		return err
	})
	return total, err
}

// errEnded means that a child was done before it was killed.
var errEnded = errors.New("the child ended before it was killed")

// killAfter kills a rewrite some time after it began, and returns how long it had.
func killAfter(ctx context.Context, w work, after time.Duration) (time.Duration, error) {
	p, err := rewriteInChild.Start(ctx, w)
	if err != nil {
		return 0, err
	}
	if !p.Paused() {
		_, err := p.Wait()
		return 0, errors.Join(err, errors.New("the child did not begin"))
	}
	began := time.Now()
	if err := p.Resume(); err != nil {
		return 0, err
	}
	time.Sleep(after)
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	ran := time.Since(began)
	var exit *exec.ExitError
	if _, err := p.Wait(); !errors.As(err, &exit) {
		return 0, errors.Join(err, errEnded)
	}
	return ran, nil
}
