// Package pulse tells the live from the dead among the processes that share a store.
// A process writes its record anew again and again, each time with another value, and
// the others judge by their own clocks how long it has not changed: clocks are never
// compared.
//
// A judgement can be wrong, of a process that was paused for example. What must not
// happen then is for transactions to prevent.
package pulse

import (
	"bytes"
	"time"
)

// A Watch judges the records of others. It must not be used concurrently.
type Watch struct {
	// TTL is how long a record may stand unchanged. Its writer renews it at
	// intervals of a third of that.
	TTL time.Duration

	// Now is a clock that does not jump. Nil means time.Now, of whose result only
	// the monotonic part counts.
	Now func() time.Time

	seen map[string]sight
}

// A sight is when a value was first seen.
type sight struct {
	value []byte
	since time.Time
}

// Alive reports whether the writer of the record at key is alive, as far as one who
// reads value now can tell. One that is seen for the first time is.
func (w *Watch) Alive(key string, value []byte) bool {
	now := time.Now
	if w.Now != nil {
		now = w.Now
	}
	at := now()
	last, ok := w.seen[key]
	if !ok || !bytes.Equal(last.value, value) {
		if w.seen == nil {
			w.seen = map[string]sight{}
		}
		w.seen[key] = sight{bytes.Clone(value), at}
		return true
	}
	return at.Sub(last.since) < w.TTL
}
