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

// open opens a View of base. ctx must last until close.
func open(ctx context.Context, base store.Store) (*snapshot, error) {
	s := &snapshot{end: make(chan struct{}), ended: make(chan error, 1)}
	ready := make(chan store.Reader)
	go func() {
		s.ended <- base.View(ctx, func(r store.Reader) error {
			ready <- r
			<-s.end
			return nil
		})
	}()
	select {
	case s.reader = <-ready:
		return s, nil
	case err := <-s.ended:
		return nil, err
	}
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
