package main

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A liveHeap is what the library itself held at one moment.
type liveHeap struct {
	MiB     float64
	Batches float64 // the same, in batches of keys and values a worker
}

// heap measures the memory that is the library's own and not Badger's: the live
// objects that were allocated below package migrate and not below Badger. What
// the row function makes counts as well, while it is live.
func heap(ctx context.Context, b *bench) error {
	rows := b.pick(1_000_000, 100_000)
	r, err := b.runOverRows(ctx, "heap", rows)
	if err != nil {
		return err
	}
	b.add("live, in MiB", each(r.Heap, func(h liveHeap) float64 { return h.MiB }), atMost(32))
	b.add("live, in batches a worker", each(r.Heap, func(h liveHeap) float64 { return h.Batches }), atMost(2))
	return nil
}

// workers is how many batches are in memory if migrate.Options do not say.
func workers() int { return min(runtime.GOMAXPROCS(0)+1, 8) }

// measureHeap migrates the store in dir and looks at the heap from within its row
// function every now and then.
func measureHeap(ctx context.Context, dir string) (heap []liveHeap, err error) {
	runtime.MemProfileRate = 1 // every object: nothing is estimated

	const between = 9_901 // rows; prime, so that it meets batches at all places
	var calls atomic.Int64
	var mu sync.Mutex
	o := rewriting(migrate.Rewrite(accounts, func(value []byte) ([]byte, error) {
		if calls.Add(1)%between == 0 {
			mu.Lock()
			defer mu.Unlock()
			// In a goroutine of its own, which is not below migrate.
			var look sync.WaitGroup
			look.Go(func() { heap = append(heap, liveHeap{MiB: libraryMiB()}) })
			look.Wait()
		}
		return addLogins(value)
	}))
	o.Batches = workers()
	var batchMiB float64
	o.Observer = func(e migrate.Event) {
		if e.Kind == migrate.Batch && batchMiB == 0 {
			batchMiB = float64(e.Bytes) / (1 << 20)
		}
	}
	err = withStore(ctx, dir, func(st *badgerstore.Store) error {
		_, err := migrate.Up(ctx, st, o)
		return err
	})
	for i := range heap {
		heap[i].Batches = heap[i].MiB / batchMiB / float64(o.Batches)
	}
	return heap, err
}

// libraryMiB returns the live memory that was allocated below migrate and not
// below Badger.
func libraryMiB() float64 {
	for range 2 {
		runtime.GC() // the profile may be two collections old
	}
	var records []runtime.MemProfileRecord
	n, ok := runtime.MemProfile(nil, false)
	for !ok {
		records = make([]runtime.MemProfileRecord, n+100)
		n, ok = runtime.MemProfile(records, false)
	}
	var bytes int64
	for _, r := range records[:n] {
		if isLibrary(r.Stack()) {
			bytes += r.InUseBytes()
		}
	}
	return float64(bytes) / (1 << 20)
}

func isLibrary(stack []uintptr) (below bool) {
	frames := runtime.CallersFrames(stack)
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "github.com/dgraph-io/"):
			return false
		case strings.HasPrefix(f.Function, "github.com/kvmigrate/kvmigrate/migrate."):
			below = true
		}
		if !more {
			return below
		}
	}
}
