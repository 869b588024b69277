package disaster

import "context"

// newer starts the program of the release before.
func newer(ctx context.Context, s scene) (out Outcome, err error) {
	if err := s.prepare(ctx, 100); err != nil {
		return out, err
	}
	if err := s.start(ctx, program{Small: 1, Rewrite: true}); err != nil {
		return out, err
	}
	startErr := s.start(ctx, released)
	left, err := s.look(ctx)
	if err != nil {
		return out, err
	}
	out.Left = left.State + "; " + left.rows()
	if startErr == nil {
		out.Verdict, out.Then, out.Must = "not noticed", "starts as if nothing were wrong", "see to it that an old program never starts"
		return out, nil
	}
	out.Verdict, out.Then, out.Must = "refused", "refuses: "+quote(startErr), "start the newer program"
	return out, nil
}
