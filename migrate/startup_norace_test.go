//go:build !race

package migrate_test

import "testing"

// A start-up allocates what Badger does for its three reads, the reader over
// Badger's transaction, and the error for the progress that is not there. The
// race detector makes sync.Pool drop what it is given, so that this holds
// without it only.
func TestStartUpAllocates(t *testing.T) {
	for _, n := range []int{1, 1000} {
		db, r := started(t, n)
		raw := testing.AllocsPerRun(1000, rawCheck(t, db, uint32(n)))
		ours := testing.AllocsPerRun(1000, func() { check(t, r, uint32(n)) })
		if ours-raw > 2 {
			t.Errorf("start-up at v%d allocates %v times, Badger's reads alone %v; want at most 2 more", n, ours, raw)
		}
	}
}
