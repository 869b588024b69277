package outside

import (
	crand "crypto/rand"
	"math/rand"
	randv2 "math/rand/v2"
	"net"
	"os"
	"os/exec"
	. "time"

	"github.com/kvmigrate/kvmigrate/migrate"
)

var zero Time

var clock = Now // want `time.Now differs between runs, and a migration may run twice: take the time from tx.Now`

func clocks() {
	_ = Since(zero)       // want `time.Since differs`
	_ = Until(zero)       // want `time.Until differs`
	<-After(Second)       // want `time.After differs`
	_ = Tick(Second)      // want `time.Tick differs`
	_ = NewTimer(Second)  // want `time.NewTimer differs`
	_ = NewTicker(Second) // want `time.NewTicker differs`
	Sleep(Second)         // want `time.Sleep differs`
	AfterFunc(1, clocks)  // want `time.AfterFunc differs`
	_ = zero.In(Local)    // want `time.Local differs`
}

func chance() {
	_ = rand.Int()                             // want `rand.Int depends on chance, and a migration may run twice: derive what it writes from tx alone`
	_ = randv2.IntN                            // want `rand.IntN depends on chance`
	crand.Read(make([]byte, 1))                // want `rand.Read depends on chance`
	var _ *rand.Rand                           // want `rand.Rand depends on chance`
	shuffle := map[int]func() int{0: rand.Int} // want `rand.Int depends on chance`
	_ = shuffle
}

func machine() {
	_ = os.Getenv("HOME")    // want `os.Getenv depends on the machine`
	_ = len(os.Args)         // want `os.Args depends on the machine`
	_ = exec.Command("date") // want `exec.Command depends on the machine`
	_, _ = net.Dial("", "")  // want `net.Dial depends on the machine`
}

// What only computes is no clock.
func fine(tx *migrate.Tx) bool {
	now := tx.Now()
	return now.After(zero) && now.Sub(zero) > Hour && Date(2026, 1, 1, 0, 0, 0, 0, UTC).Before(Unix(0, 0))
}
