package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

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

// openWaiting opens the store of that name. While it waits for a process that has it open,
// it shows how far that is with upgrading it: on b, on a bar for the time if that is nil, or
// in the log.
func (a *app) openWaiting(cmd *cobra.Command, b *bar, name string, o OpenOptions) (store.Store, error) {
	ctx := cmd.Context()
	if b == nil && a.wait > 0 {
		if b = a.anyBar(cmd.ErrOrStderr()); b != nil {
			defer b.end()
			o.Logger = a.logger(b)
			defer sayInterrupted(ctx, o.Logger, b)()
		}
	}
	defer a.follow(ctx, b, o.Logger, name)()
	return a.Open(ctx, name, o)
}

// How often another process is looked at, and for how long it may say nothing new: it
// says something every second.
const (
	lookPause = 500 * time.Millisecond
	silence   = 5 * time.Second
)

// follow shows on b, or logs if that is nil, how far the process is that has the store of
// that name open, until stop is called: if it is waited for. What one that was killed said
// of itself does not change any more, and is not shown.
func (a *app) follow(ctx context.Context, b *bar, log *slog.Logger, name string) (stop func()) {
	if a.wait == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		began := time.Now()
		var changed, told time.Time
		last, _ := migrate.ReadLive(name, a.Options.Schema) // without one, the next is new
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookPause):
			}
			now := time.Now()
			live, err := migrate.ReadLive(name, a.Options.Schema)
			if err == nil && !live.Updated.Equal(last.Updated) {
				last, changed = live, now
			}
			alive := err == nil && now.Sub(changed) < silence
			switch {
			case b != nil && alive:
				b.observe(liveEvent(last))
			case b != nil:
				b.observe(migrate.Event{Migration: migrate.Migration{Name: "waiting"}, Elapsed: now.Sub(began)})
			case alive && now.Sub(told) >= logPause:
				told = now
				log.InfoContext(ctx, "the other process: "+last.Text)
			}
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}

// liveEvent is what a process says of itself as the event that the bar shows.
func liveEvent(l migrate.Live) migrate.Event {
	e := migrate.Event{
		Kind: migrate.Batch, Schema: l.Schema, Migration: migrate.Migration{Version: l.Version, Name: l.Name},
		Phase: l.Phase, Phases: l.Phases, Done: l.Done, Total: l.Total, Rate: l.Rate, Elapsed: l.Elapsed, ETA: l.ETA,
	}
	if l.BackingUp {
		e.Kind = migrate.BackingUp
	}
	return e
}
