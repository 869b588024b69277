package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// batchRows is what migrate.Options say of the entries in a batch.
const batchRows = 4000

// resume counts the rows that are visited again after an interruption about half
// way, with one batch in memory and with as many as is usual.
func resume(ctx context.Context, b *bench) error {
	rows := b.pick(200_000, 50_000)
	for _, batches := range []int{1, workers()} {
		again, err := alternate(b.pick(7, 3), contestant[float64]{"again", func() (again float64, err error) {
			err = b.withRows(ctx, rows, func(dir string) error {
				calls, err := interruptedRun(ctx, dir, batches, rows*2/5+rand.IntN(rows/5))
				again = float64(calls-rows) / batchRows
				return err
			})
			return again, err
		}})
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("batches visited again, of %d in memory", batches), again["again"], atMost(float64(batches)))
	}
	return nil
}

var errInterrupted = errors.New("interrupted")

// interruptedRun migrates the store in dir, interrupts that at one call of the row
// function, and resumes it. It returns how often the row function was called.
func interruptedRun(ctx context.Context, dir string, batches, at int) (calls int, err error) {
	var n atomic.Int64
	o := rewriting(migrate.Rewrite(accounts, func(value []byte) ([]byte, error) {
		if n.Add(1) == int64(at) {
			return nil, errInterrupted
		}
		return addLogins(value)
	}))
	o.Batches = batches
	err = withStore(ctx, dir, func(st *badgerstore.Store) error {
		if _, err := migrate.Up(ctx, st, o); !errors.Is(err, errInterrupted) {
			return fmt.Errorf("the interrupted run: %w", err)
		}
		_, err := migrate.Up(ctx, st, o)
		return err
	})
	return int(n.Load()), err
}

// cancelling measures how long a migration goes on after its context is
// cancelled. Each run goes on where the one before it was cancelled.
func cancelling(ctx context.Context, b *bench) error {
	var delays []float64
	err := b.withRows(ctx, b.pick(1_000_000, 100_000), func(dir string) error {
		return withStore(ctx, dir, func(st *badgerstore.Store) error {
			for ctx.Err() == nil {
				delay, err := cancelled(ctx, st, time.Duration(20+rand.IntN(200))*time.Millisecond)
				if err == nil {
					return nil // the migration is done
				}
				if !errors.Is(err, context.Canceled) {
					return err
				}
				delays = append(delays, float64(delay.Microseconds())/1000)
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return err
	}
	b.add("until Up returns, in ms", delays, atMost(100))
	return nil
}

// cancelled cancels a migration after a while and returns how long it went on.
func cancelled(ctx context.Context, st *badgerstore.Store, after time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := migrateRows(ctx, st)
		done <- err
	}()
	time.Sleep(after)
	start := time.Now()
	cancel()
	err := <-done
	return time.Since(start), err
}
