package migrate

import "slices"

// A Plan is what has to be done to take a schema from one version to another.
type Plan struct {
	Schema  string
	From    uint32      // the stored version
	To      uint32      // the version after all of Pending
	Pending []Migration // in the order in which they run; empty if there is nothing to do
}

// Plan returns what a store of that schema at version stored still needs to
// reach target. It is a pure function: it looks at no store. The error is the
// registry's faults, an [*UnknownTargetError], a [*DowngradeError] or a
// [*TooOldError].
func (r *Registry) Plan(schema string, stored, target uint32) (Plan, error) {
	l := r.ladder()
	if l.faults != nil {
		return Plan{}, l.faults
	}
	switch {
	case target > l.latest(), target > 0 && target <= l.base:
		return Plan{}, &UnknownTargetError{Schema: schema, Target: target, Earliest: l.base + 1, Latest: l.latest()}
	case stored > target:
		return Plan{}, &DowngradeError{Schema: schema, Stored: stored, Known: target}
	case stored > 0 && stored <= l.base:
		return Plan{}, l.tooOld(schema, stored)
	}
	pending := l.migrations[max(stored, l.base)-l.base : max(target, l.base)-l.base]
	return Plan{Schema: schema, From: stored, To: target, Pending: slices.Clone(pending)}, nil
}

// tooOld is the error of a store below the baseline, which the ladder must have.
func (l *ladder) tooOld(schema string, stored uint32) error {
	return &TooOldError{Schema: schema, Stored: stored, Earliest: l.base + 1, Release: l.migrations[0].Baseline.Release}
}
