package overlay

import (
	"context"
	"iter"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// A snapshot is a View of the base that is held open. A Reader is for one
// goroutine at a time, so mu is held whenever it works.
type snapshot struct {
	mu     sync.Mutex
	reader store.Reader
	end    chan struct{}
	ended  chan error
}

// open opens a View of base. ctx is for open alone.
func open(ctx context.Context, base store.Store) (*snapshot, error) {
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opened := context.AfterFunc(ctx, cancel)
	s := &snapshot{end: make(chan struct{}), ended: make(chan error, 1)}
	ready := make(chan store.Reader)
	go func() {
		defer cancel()
		s.ended <- base.View(within, func(r store.Reader) error {
			ready <- r
			<-s.end
			return nil
		})
	}()
	var err error
	select {
	case s.reader = <-ready:
		if opened() {
			return s, nil
		}
		err = s.close() // the View has ended with ctx
	case err = <-s.ended:
		opened()
	}
	if ctx.Err() != nil {
		err = &store.Error{Op: "open overlay", Err: ctx.Err()}
	}
	return nil, err
}

// close ends the View. Nothing may read any more.
func (s *snapshot) close() error {
	close(s.end)
	return <-s.ended
}

func (s *snapshot) get(key []byte) (store.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reader.Get(key)
}

// scan returns a scan as iter.Pull2 does, for use by any goroutine.
func (s *snapshot) scan(scan store.Scan) (next func() (store.Entry, error, bool), stop func()) {
	pull, end := iter.Pull2(s.reader.Scan(scan))
	next = func() (store.Entry, error, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return pull()
	}
	stop = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		end()
	}
	return next, stop
}
