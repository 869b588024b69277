package migrate

import (
	"runtime/debug"
	"sync"
)

// gcPercent is the garbage collector's setting while batches run. What they make
// is garbage at once, and nearly all of the memory is the engine's: at Go's 100
// the process would hold a third more of it for hardly any speed
// (docs/performance.md).
const gcPercent = 25

// collector counts the runs that have asked for less garbage, because the setting
// is one for the whole process.
var collector struct {
	sync.Mutex
	runs     int
	original int
}

// saveMemory makes the garbage collector run more often until the function that
// it returns is called. A program that turned the collector off, or made it run
// more often still, keeps its setting.
func saveMemory() (restore func()) {
	collector.Lock()
	defer collector.Unlock()
	if collector.runs++; collector.runs == 1 {
		collector.original = debug.SetGCPercent(gcPercent)
		if collector.original < gcPercent {
			debug.SetGCPercent(collector.original)
		}
	}
	return func() {
		collector.Lock()
		defer collector.Unlock()
		if collector.runs--; collector.runs == 0 {
			debug.SetGCPercent(collector.original)
		}
	}
}
