package pulse_test

import (
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/pulse"
)

func TestAlive(t *testing.T) {
	now := time.Unix(0, 0)
	w := pulse.Watch{TTL: 3 * time.Second, Now: func() time.Time { return now }}
	for _, look := range []struct {
		after time.Duration
		key   string
		value string
		want  bool
	}{
		{0, "a", "1", true},
		{2 * time.Second, "a", "1", true},
		{0, "b", "1", true}, // seen for the first time
		{time.Second, "a", "1", false},
		{0, "a", "2", true}, // renewed
		{2 * time.Second, "a", "2", true},
		{0, "b", "1", false},
		{time.Second, "a", "2", false},
		{0, "a", "1", true}, // another value is another sign of life, even an old one
	} {
		now = now.Add(look.after)
		if got := w.Alive(look.key, []byte(look.value)); got != look.want {
			t.Errorf("Alive(%s, %s) at %v = %v, want %v", look.key, look.value, now.Sub(time.Unix(0, 0)), got, look.want)
		}
	}
}
