package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
)

// A bar shows on a terminal how far the migration is that runs. What is written to
// it, the log, appears above it.
type bar struct {
	screen   *os.File
	progress *mpb.Progress
	bar      *mpb.Bar

	mu    sync.Mutex
	event migrate.Event // the last one
	began time.Time     // when its migration began
}

// newBar returns a bar on w, nil if w is no terminal, or one that cannot go back to a
// line to write it anew.
func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	b := &bar{screen: f, progress: mpb.New(mpb.WithOutput(f), mpb.WithWidth(24))}
	return b
}

// Write writes above the bar, and where it was once that has ended.
func (b *bar) Write(p []byte) (int, error) {
	if n, err := b.progress.Write(p); err == nil || n > 0 {
		return n, err
	}
	return b.screen.Write(p)
}

// home puts the cursor at the beginning of its line, from where the bar is written anew.
// The ^C that a terminal shows has moved it.
func (b *bar) home() { _, _ = b.screen.WriteString("\r") }

// observe is the observer of the run.
func (b *bar) observe(e migrate.Event) {
	b.mu.Lock()
	b.event, b.began = e, time.Now().Add(-e.Elapsed)
	if b.bar == nil {
		b.bar = b.progress.New(0, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
			mpb.BarFillerMiddleware(known),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.label() })),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.figures() })))
	}
	b.mu.Unlock()
	b.bar.SetTotal(int64(e.Total), false)
	b.bar.SetCurrent(int64(e.Done))
}

// known leaves the bar out as long as nobody knows how much there is to do.
func known(filler mpb.BarFiller) mpb.BarFiller {
	return mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		if s.Total <= 0 {
			return nil
		}
		return filler.Fill(w, s)
	})
}

// label is what stands before the bar.
func (b *bar) label() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	const width = 24
	name := fmt.Sprintf("v%d %s", b.event.Version, b.event.Name)
	switch {
	case b.event.Version == 0: // it is no migration
		name = b.event.Name
	case b.event.Kind == migrate.Waiting:
		name = "waiting for " + b.event.Holder.Host
	case b.event.Kind == migrate.BackingUp:
		name = fmt.Sprintf("backup (%d/%d)", b.event.Phase, b.event.Phases)
	case b.event.Phases > 1:
		name = fmt.Sprintf("v%d (%d/%d) %s", b.event.Version, b.event.Phase, b.event.Phases, b.event.Name)
	}
	return terminal.FillRight(terminal.Truncate(name, width, "…"), width) + " "
}

// figures is what stands behind the bar.
func (b *bar) figures() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.event
	switch {
	case e.ETA > 0:
		return fmt.Sprintf(" %3d %% %.0f/s, %v left", e.Done*100/e.Total, e.Rate, e.ETA.Round(time.Second))
	case e.Total > 0:
		return fmt.Sprintf(" %3d %%", e.Done*100/e.Total)
	case e.Done > 0:
		return fmt.Sprintf(" %d, %.0f/s", e.Done, e.Rate)
	}
	return fmt.Sprintf(" %v", time.Since(b.began).Truncate(time.Second))
}

// end removes the bar.
func (b *bar) end() {
	if b.bar != nil {
		b.bar.Abort(true)
	}
	b.progress.Wait()
}

// A watch shows how far something is that is no migration: on a bar until it is ended, or
// if there is none, once it has taken a while, in the log.
type watch struct {
	ctx  context.Context //nolint:containedctx // for the length of one command
	bar  *bar
	log  *slog.Logger // above the bar
	told time.Time
	end  func()
}

func (a *app) watch(cmd *cobra.Command) *watch {
	w := &watch{ctx: cmd.Context(), bar: a.anyBar(cmd.ErrOrStderr()), told: time.Now()}
	if w.bar == nil {
		w.log, w.end = a.logger(cmd.ErrOrStderr()), func() {}
		return w
	}
	w.log = a.logger(w.bar)
	restore := sayInterrupted(w.ctx, w.log, w.bar)
	w.end = func() {
		restore()
		w.bar.end()
	}
	return w
}

func (w *watch) observe(p backup.Progress) {
	switch {
	case w.bar != nil:
		w.bar.observeStage(string(p.Stage), p.Entries, p.Total, 0, p.Elapsed)
	case time.Since(w.told) >= logPause:
		w.told = time.Now()
		figures := []any{"entries", p.Entries}
		if p.Total > 0 {
			figures = append(figures, "total", p.Total)
		}
		if p.Bytes > 0 {
			figures = append(figures, "bytes", p.Bytes)
		}
		w.log.InfoContext(w.ctx, string(p.Stage), figures...)
	}
}
