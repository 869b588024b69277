package backup

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// chunkBytes is how many bytes are read ahead at a time.
const chunkBytes = 256 << 10

// A chunk is entries and the room that they are in.
type chunk struct {
	entries []store.Entry
	data    []byte
}

func (c *chunk) add(e store.Entry) {
	e.Key, e.Value = c.copy(e.Key), c.copy(e.Value)
	c.entries = append(c.entries, e)
}

func (c *chunk) copy(p []byte) []byte {
	begin := len(c.data)
	c.data = append(c.data, p...)
	return c.data[begin:len(c.data):len(c.data)]
}

func (c *chunk) reset() { c.entries, c.data = c.entries[:0], c.data[:0] }

// An ahead reads the records of a file while those before are used.
type ahead struct {
	stop       context.CancelFunc
	reading    sync.WaitGroup
	full, free chan *chunk
	err        error // why there is no chunk after the last one; set before full is closed

	now  *chunk
	next int // in now
}

// ahead returns the records from the first one on. The caller closes it.
func (o *opened) ahead(ctx context.Context, key []byte) (*ahead, error) {
	r, err := o.records(ctx, key)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	const chunks = 4 // one in use, one being filled
	a := &ahead{stop: stop, full: make(chan *chunk, chunks), free: make(chan *chunk, chunks), now: new(chunk)}
	for range chunks - 1 {
		a.free <- new(chunk)
	}
	a.reading.Go(func() {
		defer r.close()
		defer close(a.full)
		a.err = a.read(ctx, r)
	})
	return a, nil
}

// read fills chunks until there is an error, which is io.EOF after the last record.
func (a *ahead) read(ctx context.Context, r *reader) error {
	for {
		var c *chunk
		select {
		case c = <-a.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		for err == nil && len(c.data) < chunkBytes {
			var e store.Entry
			if e, err = r.next(false); err == nil {
				c.add(e)
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		select {
		case a.full <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// entry returns the next record, which is valid until the call after it, or io.EOF after
// the last if all were there.
func (a *ahead) entry() (store.Entry, error) {
	for a.next == len(a.now.entries) {
		c, ok := <-a.full
		if !ok {
			return store.Entry{}, a.err
		}
		a.now.reset()
		a.free <- a.now
		a.now, a.next = c, 0
	}
	a.next++
	return a.now.entries[a.next-1], nil
}

func (a *ahead) close() {
	a.stop()
	a.reading.Wait()
}
