package goroutine

import (
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kvmigrate/kvmigrate/migrate"
)

type game struct{}

func (game) Go(func()) {}

func up(tx *migrate.Tx) error {
	go work()      // want `a Tx belongs to one goroutine, and what outlives the call finds it closed: do this in line`
	go func() {}() // want `belongs to one goroutine`
	var wg sync.WaitGroup
	wg.Go(work) // want `belongs to one goroutine`
	wg.Wait()
	var g errgroup.Group
	g.Go(func() error { return nil })    // want `belongs to one goroutine`
	g.TryGo(func() error { return nil }) // want `belongs to one goroutine`
	game{}.Go(work)
	defer work()
	return g.Wait()
}

func work() {}
