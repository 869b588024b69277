package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Interruptible returns a context that ends when the process is interrupted, by
// Ctrl-C or SIGTERM, which it says on stderr; a command
// says it in its log, above the bar if it has one. A second interrupt ends the process at
// once, which is as safe: see package migrate. stop puts the signals back.
func Interruptible(parent context.Context, stderr io.Writer) (ctx context.Context, stop func()) {
	i := &interruption{say: func(text string) { fmt.Fprintln(stderr, text) }}
	ctx, cancel := context.WithCancel(context.WithValue(parent, interruptionKey{}, i))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			i.tell()
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

// An interruption is how it is said that the process was interrupted.
type interruption struct {
	mu  sync.Mutex
	say func(text string)
}

type interruptionKey struct{}

func (i *interruption) tell() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.say("interrupted: stopping; nothing is lost. Interrupt again to stop at once")
}

// sayInterrupted lets log, which is above b unless that is nil, say that the process was
// interrupted, if ctx is of Interruptible, until restore is called.
func sayInterrupted(ctx context.Context, log *slog.Logger, b *bar) (restore func()) {
	i, ok := ctx.Value(interruptionKey{}).(*interruption)
	if !ok {
		return func() {}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.say
	i.say = func(text string) {
		if b != nil {
			b.home()
		}
		log.WarnContext(ctx, text)
	}
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.say = before
	}
}
