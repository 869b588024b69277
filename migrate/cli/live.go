package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// liveJSON is what status says of a store that another process is upgrading.
type liveJSON struct {
	Schema string       `json:"schema"`
	InUse  holderJSON   `json:"in_use"`
	Live   migrate.Live `json:"live"`
}

type holderJSON struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// liveStatus prints how far the process that has the store open is with upgrading
// it, or returns err, which says that the store is locked, if it is not at that.
func (a *app) liveStatus(w io.Writer, locked *store.LockedError, err error) error {
	live, readErr := migrate.ReadLive(a.store, a.Options.Schema)
	if readErr != nil || live.PID != locked.PID || locked.Gone {
		return err // a file of another process is what a run that was killed left
	}
	if a.json {
		return encode(w, liveJSON{live.Schema, holderJSON{locked.PID, locked.Command, locked.Since.UTC()}, live})
	}
	t := sheet(w)
	fmt.Fprintf(t, "schema\t%s\nin use by\tPID %d, %s, since %s\nupgrading\tv%d -> v%d, since %s\nnow\t%s\n",
		live.Schema, locked.PID, live.Program, locked.Since.UTC().Format(time.RFC3339),
		live.From, live.To, live.Started.Format(time.RFC3339), live.Text)
	return t.Flush()
}
