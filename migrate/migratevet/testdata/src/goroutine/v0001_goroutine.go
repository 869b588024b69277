package goroutine

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

type game struct{}

func (game) Go(func()) {}

func up(tx *migrate.Tx) error {
	go work()      // want `a Tx belongs to one goroutine, and what outlives the call finds it closed: do this in line, or keep the Tx out of it and wait for it here`
	go func() {}() // want `belongs to one goroutine`
	var wg sync.WaitGroup
	wg.Go(func() { count(tx) }) // want `belongs to one goroutine`
	wg.Go(work)
	wg.Wait()
	wg.Go(work) // want `belongs to one goroutine`
	var g errgroup.Group
	g.Go(func() error { return tx.Delete(nil) }) // want `belongs to one goroutine`
	g.TryGo(func() error { return nil })
	var other errgroup.Group
	other.TryGo(func() error { return nil }) // want `belongs to one goroutine`
	game{}.Go(work)
	defer work()
	return g.Wait()
}

func work() {}

func count(store.Reader) {}

type table struct{ tx *migrate.Tx }

func (table) read() {}

type groups struct{ wg sync.WaitGroup }

func notWaitedFor(tx *migrate.Tx, txn store.Txn, gs *groups, some bool) error {
	var wg, other sync.WaitGroup
	t := table{tx}
	closure := func() { count(tx) }
	wg.Go(t.read)                                   // want `belongs to one goroutine`
	wg.Go(func() { closure() })                     // want `belongs to one goroutine`
	wg.Go(func() { count(txn) })                    // want `belongs to one goroutine`
	go func() { defer wg.Done(); count(tx) }()      // want `belongs to one goroutine`
	go func() { defer other.Done() }()              // want `belongs to one goroutine`
	go func() {}()                                  // want `belongs to one goroutine`
	go func(r store.Reader) { defer wg.Done() }(tx) // want `belongs to one goroutine`
	gs.wg.Go(work)                                  // want `belongs to one goroutine`
	wg.Wait()
	wg.Go(work) // want `belongs to one goroutine`
	if some {
		return nil
	}
	wg.Wait()
	wg.Go(func() {
		other.Go(work) // want `belongs to one goroutine`
	})
	defer func() { wg.Wait() }()
	return nil
}

func waitedFor(ctx context.Context, tx *migrate.Tx, rows []string) error {
	out := make([]int, len(rows))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, row := range rows {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			out[i] = len(row)
		})
		wg.Add(1)
		go func(n int) {
			defer wg.Done()
			out[n]++
			return
		}(i)
	}
	wg.Wait()
	func() {
		defer wg.Wait()
		wg.Go(work)
		return
	}()
	g := new(errgroup.Group)
	g.Go(func() error { return ctx.Err() })
	if err := g.Wait(); err != nil {
		return err
	}
	g.Go(func() error {
		var inner errgroup.Group
		inner.Go(func() error { return nil })
		return inner.Wait()
	})
	return g.Wait()
}
