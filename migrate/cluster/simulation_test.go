package cluster

import (
	"flag"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 0, "run this schedule of the simulation alone, and print it")

// trouble is how long a world is in trouble, and patience how long it then has to be
// well again.
const (
	trouble  = 2 * time.Minute
	patience = 2 * time.Minute
)

// simulate returns what went wrong with the world of that seed, or nil.
func simulate(seed uint64, g gap, traces bool) (*world, error) {
	w := newWorld(seed, g, traces)
	defer w.close()
	w.start(2)
	w.start(2)
	w.run(trouble)
	w.calm = true
	for _, p := range w.procs {
		p.paused = 0
	}
	w.run(trouble + patience)
	w.expectWork()
	for _, p := range w.alive() {
		w.kill(p)
	}
	w.newest = latestProgram
	w.start(latestProgram)
	w.start(latestProgram)
	w.run(trouble + 2*patience)
	w.expectWork()
	if w.version != latestProgram {
		w.failf("the store is at v%d and every process supports v%d", w.version, latestProgram)
	}
	return w, w.fault
}

// expectWork: nothing goes wrong any more, so that every process that can work does, and
// the version is as high as those let it be.
func (w *world) expectWork() {
	reach := uint32(latestProgram)
	known := uint32(0)
	for _, p := range w.alive() {
		known = max(known, p.program)
	}
	stuck := false
	if _, ok := w.store.data[string(simKeys.progress)]; ok {
		stuck = known <= w.version
		if !stuck {
			w.failf("a migration is under way, and a process that can finish it does not")
		}
	}
	for _, p := range w.alive() {
		if !p.fits(w.version) {
			continue
		}
		for reach > w.version && !p.fits(reach) {
			reach--
		}
		switch {
		case stuck:
		case p.member == nil:
			w.failf("%s supports v%d and is no node", p.name, w.version)
		case p.worked < w.now-patience/2:
			w.failf("%s supports v%d and has done nothing since %v", p.name, w.version, p.worked)
		}
	}
	if reach = min(reach, known); w.version < reach && !stuck {
		w.failf("the store is at v%d and every process supports v%d", w.version, reach)
	}
}

// search runs schedules until one has a fault or all are done, and returns the seed.
func search(g gap, schedules uint64) (uint64, error) {
	var next, found atomic.Uint64
	var failure error
	var mu sync.Mutex
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for s := next.Add(1); s <= schedules && found.Load() == 0; s = next.Add(1) {
				if _, err := simulate(s, g, false); err != nil {
					mu.Lock()
					if failure == nil || s < found.Load() {
						failure = err
						found.Store(s)
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return found.Load(), failure
}

// TestSimulation: whatever happens to the processes of a cluster, none is left behind by
// an upgrade, none works with a version that it does not support, no row is of another
// format than the version says, and nothing is stuck once all is well.
func TestSimulation(t *testing.T) {
	if *seed != 0 {
		w, err := simulate(*seed, "", true)
		t.Logf("schedule %d:\n%s", *seed, w.schedule())
		if err != nil {
			t.Error(err)
		}
		return
	}
	schedules := uint64(500)
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		schedules = 100_000
	}
	if s, err := search("", schedules); err != nil {
		w, _ := simulate(s, "", true)
		t.Errorf("schedule %d (-run TestSimulation -seed %d): %v\n%s", s, s, err, w.schedule())
	}
}

// TestSimulationFindsGaps: each part of the protocol is there for something that the
// simulation finds without it.
func TestSimulationFindsGaps(t *testing.T) {
	for _, g := range []gap{
		noGate, looksOnce, staysOpen, impatient, joinsBlindly, ungated, unfenced, unsettled, keepsIntent, keepsTurn,
	} {
		t.Run(string(g), func(t *testing.T) {
			s, err := search(g, 20000)
			if err == nil {
				t.Fatal("nothing went wrong")
			}
			t.Logf("schedule %d: %v", s, err)
		})
	}
}
