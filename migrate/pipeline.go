package migrate

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// maxInFlight bounds the batches in memory when Options do not.
const maxInFlight = 8

// inFlight is how many batches may be in memory at a time: one for each core
// that can work on rows, and one that is being committed.
func (r *Runner) inFlight() int {
	if r.batches > 0 {
		return r.batches
	}
	return min(runtime.GOMAXPROCS(0)+1, maxInFlight)
}

// pipelines reports whether what follows the step that tx made may run ahead of
// the commits.
func (u *run) pipelines(tx *Tx) bool {
	return tx.rows != nil && tx.batch.more && !tx.serial && u.inFlight() > 1
}

// pipeline runs the batches that follow after, to the end of the phase or the
// first error. Each is a transaction of its own, which reads and changes its
// rows while those before it are still under way and commits after them. Only
// reading is one after the other, because where a batch begins is known when the
// one before it is read.
//
// A batch does not see what those before it write unless they have committed. If
// it reads a key that one of them changes, the store reports a conflict; the
// pipeline then ends with errAgain, and the migration goes on from the last
// commit.
func (u *run) pipeline(ctx context.Context, after outcome) outcome {
	defer saveMemory()()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, u.inFlight())
	previous := make(chan outcome, 1)
	previous <- after
	for at := *after.progress; ; {
		slots <- struct{}{}
		b := &pipelined{run: u, at: at, previous: previous, read: make(chan *Progress, 1), done: make(chan outcome, 1)}
		go func() {
			defer func() { <-slots }()
			b.work(ctx, cancel)
		}()
		previous = b.done
		next := <-b.read
		if next == nil {
			break
		}
		at = *next
	}
	return <-previous
}

// A pipelined is one batch of a pipeline. It receives the outcome of the one
// before it from previous and sends its own to done.
type pipelined struct {
	*run
	at       Progress // the position; the counters are those of previous
	previous <-chan outcome
	read     chan *Progress // the position of the next batch, nil if there is none
	done     chan outcome
}

// work runs the batch. Its error counts only if those before it have none. cancel
// stops those after it.
func (b *pipelined) work(ctx context.Context, cancel func()) {
	var before *outcome
	wait := func() *outcome {
		if before == nil {
			o := <-b.previous
			before = &o
		}
		return before
	}
	out := outcome{err: errExited}
	announced := false
	announce := func(next *Progress) {
		if !announced {
			announced = true
			b.read <- next
		}
	}
	defer func() { // also if the row function ends the goroutine
		announce(nil)
		switch before := wait(); {
		case before.err != nil:
			out = *before
		case out.err != nil:
			out.progress, out.tx = before.progress, before.tx
		}
		if out.err != nil {
			cancel()
		}
		b.done <- out
	}()

	var tx *Tx
	began := time.Now()
	attempt := func(txn store.Txn) error {
		err := b.fence(txn)
		if err != nil {
			return err
		}
		tx, err = b.run.work(ctx, txn, b.at, 0, func(tx *Tx) {
			if tx.batch.more {
				next := b.at
				next.cursor, next.rows = tx.batch.last, tx.batch.nextLimit
				announce(&next)
			} else {
				announce(nil)
			}
		})
		if err != nil {
			return err
		}
		if tx.rows == nil {
			return errAgain
		}
		if wait().err != nil {
			return errAgain
		}
		out, err = b.conclude(ctx, txn, *before.progress, tx)
		return err
	}
	// Nobody else could recover from a panic here, be it of the store or the clock.
	err := call(func() error { return b.store.Update(ctx, attempt) })
	switch {
	case store.Retriable(err):
		out = outcome{err: errAgain}
	case err != nil:
		b.doubts.add(out.applied, err)
		out = outcome{err: tx.blame(err)}
	default:
		out.began = began
		out.tx.end()
		b.meter.committed(out)
	}
}

// errExited: the row function called runtime.Goexit, as t.FailNow does.
var errExited = errors.New("the row function ended its goroutine")
