package migrate

// A Plan is what has to be done to take a schema from one version to another.
type Plan struct {
	Schema  string
	From    uint32      // the stored version
	To      uint32      // the version after all of Pending
	Pending []Migration // in the order in which they run; empty if there is nothing to do
}

// Plan returns what a store of that schema at version stored still needs to
// reach target. It is a pure function: it looks at no store. The error is the
// registry's faults, a [*UnknownTargetError] or a [*DowngradeError].
func (r *Registry) Plan(schema string, stored, target uint32) (Plan, error) {
	l := r.ladder()
	if l.faults != nil {
		return Plan{}, l.faults
	}
	latest := uint32(len(l.entries))
	switch {
	case target > latest:
		return Plan{}, &UnknownTargetError{Schema: schema, Target: target, Latest: latest}
	case stored > target:
		return Plan{}, &DowngradeError{Schema: schema, Stored: stored, Known: target}
	}
	return Plan{Schema: schema, From: stored, To: target, Pending: migrations(l.entries[stored:target])}, nil
}
