package disaster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// kill has a process killed as kill -9 does when most rows are changed.
func kill(ctx context.Context, s scene) (out Outcome, err error) {
	if err := s.prepare(ctx, s.sizes.Rows); err != nil {
		return out, err
	}
	p := program{Small: 1, Rewrite: true, At: s.sizes.KillAt, Then: "kill"}
	var exit *exec.ExitError
	if err := s.start(ctx, p); !errors.As(err, &exit) {
		return out, fmt.Errorf("the program was not killed: %w", err)
	}
	left, err := s.look(ctx)
	if err != nil {
		return out, err
	}
	out.Left = left.State + "; " + left.rows()
	out.Verdict = "begins again"
	if left.Changed[1] > 0 {
		out.Verdict = "goes on"
	}
	return out, s.afterwards(ctx, program{Small: 1, Rewrite: true}, &out)
}
