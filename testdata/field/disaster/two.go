package disaster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// two starts a second process while the first one is in the middle of its migration.
func two(ctx context.Context, s scene) (out Outcome, err error) {
	rows := min(s.sizes.Rows, 10_000)
	if err := s.prepare(ctx, rows); err != nil {
		return out, err
	}
	p := program{Small: 1, Rewrite: true}
	paused := p
	paused.At, paused.Then = rows/2, "pause"
	first, err := actInChild.Start(ctx, act{Tool: s.tool.Name, Dir: s.dir, Do: "start", Program: paused})
	if err != nil {
		return out, err
	}
	if !first.Paused() {
		_, err := first.Wait()
		return out, errors.Join(err, errors.New("the first process did not get to the middle"))
	}
	second, err := actInChild.Start(ctx, act{Tool: s.tool.Name, Dir: s.dir, Do: "start", Program: p})
	if err != nil {
		return out, err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := second.Wait()
		ended <- err
	}()
	waited := false
	var secondErr error
	select {
	case secondErr = <-ended:
	case <-time.After(s.sizes.Patience):
		waited = true
	}
	if err := first.Resume(); err != nil {
		return out, err
	}
	_, firstErr := first.Wait()
	if waited {
		secondErr = <-ended
	}
	return out, s.judgeTwo(ctx, p, firstErr, secondErr, waited, &out)
}

func (s scene) judgeTwo(ctx context.Context, p program, first, second error, waited bool, out *Outcome) error {
	left, err := s.look(ctx)
	if err != nil {
		return err
	}
	out.Left = left.State + "; " + left.rows()
	manner := "at once"
	if waited {
		manner = "after it waited"
	}
	switch {
	case first != nil:
		out.Verdict, out.Then = "the first fails", "the first one fails: "+quote(first)
	case second != nil:
		out.Verdict, out.Then = "the second is refused", fmt.Sprintf("the second one fails %s: %s", manner, quote(second))
	case waited:
		out.Verdict, out.Then, out.Must = "take turns", "the second one waits, and finds nothing to do", "nothing"
	default:
		out.Verdict, out.Then, out.Must = "run side by side", "the second one runs beside the first", "let only one start"
	}
	if first == nil && second == nil {
		if !left.eachOnce() {
			out.Verdict, out.Must = "damages rows", "restore a backup, and let only one start"
			if waited {
				out.Then = "the second one waits, and makes the same migration again"
			}
		}
		return nil
	}
	said := out.Then
	verdict := out.Verdict
	if err := s.afterwards(ctx, p, out); err != nil {
		return err
	}
	out.Then = said + "; started again: " + out.Then
	if out.Must == "start it again" {
		out.Must = "start the one that failed again"
		out.Verdict = verdict
	}
	return nil
}
