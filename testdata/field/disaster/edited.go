package disaster

import (
	"context"

	"example.com/field/tool"
)

// edited starts a program whose first migration, which the database went through, now
// writes something else.
func edited(ctx context.Context, s scene) (out Outcome, err error) {
	if err := s.prepare(ctx, 100); err != nil {
		return out, err
	}
	p := released
	p.Edited = true
	startErr := s.start(ctx, p)
	left, err := s.look(ctx)
	if err != nil {
		return out, err
	}
	out.Left = left.State + " with what the migration wrote before it was edited"
	if left.First == "" || left.First == tool.EditedValue {
		out.Left = left.State + " with what the migration writes now"
	}
	if startErr != nil {
		out.Verdict, out.Then, out.Must = "refused", "refuses: "+quote(startErr), "take the edit back"
		return out, nil
	}
	out.Verdict, out.Then, out.Must = "not noticed", "starts as if nothing were wrong", "see to it in review that nobody edits one"
	if s.tool.CheckEdited == nil {
		return out, nil
	}
	found, err := s.tool.CheckEdited(s.dir)
	if err != nil {
		return out, err
	}
	out.Verdict, out.Must = "found by the tests", "take the edit back, or accept it by a command that shows in review"
	out.Then += ", but the tests of its source fail: " + quote(found)
	return out, nil
}
