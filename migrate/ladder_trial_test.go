package migrate_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A trial is a ladder and what happens to the store on the way up.
type trial struct {
	seed             uint64
	ladder           []rung
	rows             int
	volatile, shared bool
	runs             []run
}

// A run is one program, or two at once, until they end. If loss is not negative the power
// then fails, and takes each commit that is not durable with that probability.
type run struct {
	seed     uint64
	programs []program
	loss     float64
}

// A program is what migrates the store, and what happens to it.
type program struct {
	known   int  // how many migrations it is to apply
	all     bool // whether it has the others as well
	broken  int  // the version of its that fails, 0 if none does
	after   int  // how many rows of that
	batches int
	entries int // of a transaction
	starts  time.Duration
	faults  []fault
}

// had reports whether one of those was to happen to p.
func (p program) had(kinds ...faultKind) bool {
	return slices.ContainsFunc(p.faults, func(f fault) bool { return slices.Contains(kinds, f.kind) })
}

func (tr trial) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "volatile %v, shared %v, %d rows", tr.volatile, tr.shared, tr.rows)
	for i, r := range tr.ladder {
		fmt.Fprintf(&b, "\nv%d: checks %v, slow %v", i+1, r.checks, r.slow)
		for _, p := range r.phases {
			fmt.Fprintf(&b, ", %s %q as %c", p.kind, p.prefix, p.mark)
		}
	}
	for i, r := range tr.runs {
		fmt.Fprintf(&b, "\nrun %d: loss %v, %+v", i+1, r.loss, r.programs)
	}
	return b.String()
}

// newRandom returns a source of chance for one purpose of a seed.
func newRandom(seed uint64, purpose byte) *rand.Rand {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	key[8] = purpose
	return rand.New(rand.NewChaCha8(key))
}

// randomTrial draws a trial.
func randomTrial(seed uint64) trial {
	random := newRandom(seed, 0)
	tr := trial{seed: seed, ladder: randomLadder(random), rows: random.IntN(250)}
	switch random.IntN(5) {
	case 0, 1:
		tr.volatile = true // and of no commit the outcome is unknown: there is no such store
	case 2, 3:
		tr.shared = true
	}
	for range 2 + random.IntN(12) {
		r := run{seed: random.Uint64(), loss: -1}
		r.programs = append(r.programs, tr.randomProgram(random))
		if random.IntN(4) == 0 || tr.shared && random.IntN(2) == 0 {
			r.programs = append(r.programs, tr.randomProgram(random))
		}
		if tr.volatile && random.IntN(6) > 0 {
			r.loss = []float64{0, 0.2, 0.5, 0.5, 0.9, 1}[random.IntN(6)]
		}
		tr.runs = append(tr.runs, r)
	}
	last := tr.randomProgram(random)
	last.known, last.broken, last.faults = len(tr.ladder), 0, nil
	tr.runs = append(tr.runs, run{seed: random.Uint64(), loss: -1, programs: []program{last}})
	return tr
}

func (tr trial) randomProgram(random *rand.Rand) program {
	p := program{
		known: len(tr.ladder), batches: 1 + random.IntN(4), entries: 12 + random.IntN(12<<random.IntN(3)),
		starts: time.Duration(random.IntN(10_000_000)),
	}
	switch random.IntN(8) {
	case 0:
		p.known, p.all = 1+random.IntN(p.known), random.IntN(2) == 0
	case 1:
		p.broken, p.after = 1+random.IntN(p.known), random.IntN(60)
	}
	kinds := []faultKind{kill, kill, fail, cancel, pause, killCommitted, conflict}
	if !tr.volatile {
		kinds = append(kinds, unknownLost, unknownDone, unknownLate, unknownLate)
	}
	for at := 0; len(p.faults) < 3; {
		at += 1 + random.IntN(16<<random.IntN(6))
		f := fault{kinds[random.IntN(len(kinds))], at}
		if p.had(pause) {
			f.kind = conflict // nobody has the patience for two
		}
		p.faults = append(p.faults, f)
	}
	// Most programs are killed at last.
	if random.IntN(4) > 0 {
		p.faults[2].kind = []faultKind{kill, killCommitted}[random.IntN(2)]
	}
	return p
}

// randomLadder draws some migrations.
func randomLadder(random *rand.Rand) []rung {
	names := slices.Sorted(maps.Keys(kinds))
	mark := byte('a')
	ladder := make([]rung, 1+random.IntN(7))
	for i := range ladder {
		r := rung{checks: random.IntN(3) == 0, slow: random.IntN(5) == 0}
		phases := 1
		if random.IntN(3) == 0 {
			phases += 1 + random.IntN(2)
		}
		for range phases {
			p := phase{kind: names[random.IntN(len(names))], prefix: []string{"a/", "b/", "a/0", "a/00", "", "c/"}[random.IntN(6)], mark: mark}
			switch random.IntN(8) {
			case 0, 1:
				p.kind = "whole" // which may share transactions
			case 2, 3:
				p.kind = "rewrite" // whose batches a power failure takes out of the middle
			}
			switch p.kind {
			case "move", "behind", "index", "indexes", "window":
				p.prefix = "a/"
			case "drop":
				p.prefix = []string{"b/0", "w/", "i"}[random.IntN(3)]
			case "steps", "count", "widen", "serial":
				p.prefix = []string{"a/", "a/0", "a/1"}[random.IntN(3)]
			}
			mark++
			r.phases = append(r.phases, p)
		}
		ladder[i] = r
	}
	return ladder
}

// shrinkTime is how long it takes to look for a smaller trial.
const shrinkTime = 10 * time.Second

// shrink returns the smallest trial that it finds to fail as well.
func shrink(t *testing.T, tr trial) (trial, []string, error) {
	trace, err := tr.attempt(t)
	began := time.Now()
	for smaller := true; smaller; {
		smaller = false
		for _, candidate := range tr.smaller() {
			if time.Since(began) > shrinkTime {
				break
			}
			if tried, e := candidate.attempt(t); e != nil {
				tr, trace, err, smaller = candidate, tried, e, true
				break
			}
		}
	}
	return tr, trace, err
}

// smaller returns trials with a little less.
func (tr trial) smaller() (all []trial) {
	for i := range len(tr.runs) - 1 {
		less := tr
		less.runs = slices.Delete(slices.Clone(tr.runs), i, i+1)
		all = append(all, less)
	}
	for i := range tr.ladder {
		if len(tr.ladder) == 1 {
			break
		}
		less := tr
		less.ladder = slices.Delete(slices.Clone(tr.ladder), i, i+1)
		less.runs = less.withPrograms(func(p program) program {
			p.known = max(1, min(p.known, len(less.ladder)))
			if p.broken > p.known {
				p.broken = 0
			}
			return p
		})
		all = append(all, less)
	}
	if tr.rows > 1 {
		less := tr
		less.rows = tr.rows * 2 / 3
		all = append(all, less)
	}
	for i, r := range tr.runs {
		for j, p := range r.programs {
			for k := range p.faults {
				less := tr
				less.runs = less.withPrograms(func(p program) program { return p })
				less.runs[i].programs[j].faults = slices.Delete(slices.Clone(p.faults), k, k+1)
				all = append(all, less)
			}
		}
		if len(r.programs) > 1 {
			less := tr
			less.runs = less.withPrograms(func(p program) program { return p })
			less.runs[i].programs = r.programs[:1]
			all = append(all, less)
		}
	}
	return all
}

// withPrograms returns the runs with other programs.
func (tr trial) withPrograms(change func(program) program) []run {
	runs := slices.Clone(tr.runs)
	for i := range runs {
		runs[i].programs = slices.Clone(runs[i].programs)
		for j, p := range runs[i].programs {
			runs[i].programs[j] = change(p)
		}
	}
	return runs
}
