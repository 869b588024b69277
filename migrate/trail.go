package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// trailLength is how many steps a volatile store may have beyond the last Sync.
const trailLength = 256

// A trail makes up for the syncs between steps in a store whose commits are
// volatile. A power loss there can take any step since the last Sync and leave a
// later one, whose progress then vouches for rows that are gone. So each batch of
// rows leaves a mark of the rows it made, in its own transaction. Where two marks
// do not meet, the batch between them was lost, its rows are as they were, and it
// is made again before the migration goes on.
//
// Only batches that can be made again out of order are left unsynced. Any other
// step waits for a Sync before it commits, and the one after it for another.
type trail struct {
	known  bool   // whether the fields below say what is stored
	synced uint64 // the steps that are durable
	oldest uint64 // the first step whose mark may be stored
	once   bool   // whether a step after synced cannot be made again
}

// A mark is what a step leaves on the trail: the rows after From, up to To.
type mark struct {
	From []byte `cbor:"from"` // null at the beginning of the phase
	To   []byte `cbor:"to"`

	step uint64 // its number, from the key
}

// leave makes durable what the step after at must not outlive, and leaves its
// mark. inPhase says that the phase goes on after it, from to.
func (u *run) leave(ctx context.Context, txn store.Txn, at Progress, tx *Tx, inPhase bool, to []byte) error {
	if at.Transactions == 0 && !inPhase {
		return nil // the only step
	}
	t := &u.trail
	volatile := u.store.Limits().Volatile
	marked := volatile && inPhase && tx.rows != nil
	if !marked || !t.known || t.once || !tx.repeatable() || at.Transactions-t.synced >= trailLength {
		// The step vouches for those before it, or may have written into their
		// rows: none of them must be made again after it.
		if err := u.store.Sync(ctx); err != nil {
			return err
		}
		t.synced, t.once = at.Transactions, false
	}
	if !volatile {
		return nil
	}
	first := !t.known
	if first {
		marks, err := u.readTrail(txn)
		if err != nil {
			return err
		}
		t.known, t.oldest = true, at.Transactions+1
		if len(marks) > 0 {
			t.oldest = marks[0].step
		}
	}
	keep := t.synced // the last durable step's mark is where the trail begins
	if !marked {
		keep = at.Transactions + 1
	}
	for ; t.oldest < keep; t.oldest++ {
		if err := txn.Delete(u.keys.markOf(t.oldest)); err != nil {
			return err
		}
	}
	if !marked {
		return nil
	}
	// The first of a trail must not be lost: it says where the trail begins.
	t.once = t.once || first || !tx.repeatable()
	return u.setMark(txn, mark{From: at.cursor, To: to, step: at.Transactions + 1})
}

func (u *run) setMark(txn store.Txn, m mark) error {
	data, err := value.Marshal(m)
	if err != nil {
		return err
	}
	return u.keep(txn, u.keys.markOf(m.step), data)
}

// readTrail reads the marks, in the order of the steps.
func (u *run) readTrail(s store.Reader) ([]mark, error) {
	var marks []mark
	for e, err := range s.Scan(store.Scan{Prefix: []byte(u.keys.trail)}) {
		if err != nil {
			return nil, err
		}
		var m mark
		if err := value.Unmarshal(e.Value, &m); err != nil {
			return nil, u.undecodable(e.Key, "the trail of a migration", err)
		}
		if _, err := fmt.Sscanf(string(e.Key[len(u.keys.trail):]), "%d", &m.step); err != nil {
			return nil, u.undecodable(e.Key, "the trail of a migration", err)
		}
		marks = append(marks, m)
	}
	return marks, nil
}

// mend makes the steps again that a power loss took out of the middle of an
// interrupted migration. It looks at the trail also if the store is no longer
// volatile: it may have been when the steps were made.
func (u *run) mend(ctx context.Context) error {
	limit := 0
	for told := false; ; {
		var overflow *overflowError
		gap, err := u.mendOnce(ctx, limit)
		switch {
		case errors.As(err, &overflow):
			limit = overflow.rows / 2
			continue
		case err != nil || !gap:
			return err
		case !told:
			told = true
			u.log.WarnContext(ctx, "steps of the interrupted migration are missing, as after a power failure without SyncWrites; making them again")
		}
		limit = 0
	}
}

// mendOnce makes one batch of the first steps that are missing. It reports
// whether there were any. A trail without gaps that nobody needs any more it
// erases.
func (u *run) mendOnce(ctx context.Context, limit int) (gap bool, err error) {
	var tx *Tx
	err = store.Update(ctx, u.store, func(txn store.Txn) error {
		marks, err := u.readTrail(txn)
		if err != nil || len(marks) == 0 {
			return err
		}
		i := 0
		for i+1 < len(marks) && bytes.Equal(marks[i].To, marks[i+1].From) {
			i++
		}
		if gap = i+1 < len(marks); !gap {
			if u.store.Limits().Volatile {
				return nil
			}
			if err := u.store.Sync(ctx); err != nil {
				return err
			}
			return u.eraseTrail(txn, marks)
		}
		// The mark is to vouch for what was made again before: that must not be lost
		// while the mark is not.
		if err := u.store.Sync(ctx); err != nil {
			return err
		}
		at, err := u.position(txn)
		if err != nil {
			return err
		}
		if err := u.takeLock(txn); err != nil {
			return err
		}
		at.cursor, at.rows, at.until = marks[i].To, 0, marks[i+1].From
		tx, err = u.work(ctx, txn, at, limit, nil)
		if err != nil {
			return err
		}
		if tx.rows == nil {
			return errors.New("it visited rows when it was interrupted and does not now: a migration that is under way must not change")
		}
		marks[i].To = at.until
		if tx.batch.more {
			marks[i].To = tx.batch.last
		}
		return u.setMark(txn, marks[i])
	})
	return gap, tx.blame(err)
}

func (u *run) eraseTrail(txn store.Txn, marks []mark) error {
	for _, m := range marks {
		if err := txn.Delete(u.keys.markOf(m.step)); err != nil {
			return err
		}
	}
	return nil
}
