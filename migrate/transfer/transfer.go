// Package transfer copies all entries of a store into another, as when a program
// moves from Badger to etcd, or back.
//
// # How it goes
//
// [Copy] reads the source three times. First it looks at every entry: what the
// destination cannot keep is refused before anything is written, all of it together.
// Then it writes the entries in batches, in the order of their keys. At last it
// compares both sides, and only then is the destination a store: the versions of its
// schemas are written in one transaction with the end of the copy.
//
// Until then the destination holds a record of the copy, under a key that belongs to
// no schema and no partition, and no version. Every program that uses it through
// kvmigrate refuses it: see [UnderWay].
//
// # Going on
//
// The record is written in the same transaction as each batch. A copy that was stopped
// or killed goes on from there when it is called again. The record has a fingerprint of
// the source's entries, so that neither another source nor one that has changed is
// mixed with what is there.
//
// # What is not copied
//
// Records of who uses a store at the moment stay behind: whose turn it is to migrate,
// which nodes there are, and what they intend. The progress of a migration that was
// interrupted goes along, with its lock and intent; the migration goes on in the
// destination.
//
// # The source must not change
//
// Stop the programs that write it. A Badger store that is opened read-only has no
// writer. Of a store that several processes share, a change is found by the comparison
// at the end, and the copy fails.
package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/migrate/internal/fit"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/migrate/internal/space"
	"github.com/kvmigrate/kvmigrate/store"
)

// Options say how a copy is made.
type Options struct {
	// Plaintext lets the entries of an encrypted source ([store.Encrypter]) go into
	// a destination that does not encrypt them.
	Plaintext bool

	// Observer, if not nil, is told how far the copy is: at the beginning and the
	// end of each stage and about once a second, by one goroutine.
	Observer func(Progress)
}

// A Stage is a pass over the entries.
type Stage string

// The stages, in their order.
const (
	Counting  Stage = "counting"  // of the source, with a look at each entry
	Copying   Stage = "copying"   // into the destination
	Comparing Stage = "comparing" // both sides
)

// A Progress is how far a stage has come.
type Progress struct {
	Stage   Stage
	Entries uint64        // so far, those of an interrupted copy included
	Bytes   uint64        // of their keys and values
	Total   uint64        // entries of the stage; 0 if that is not known
	Before  uint64        // of Entries, those that an interrupted copy had done
	Elapsed time.Duration // since the stage began
	Ended   bool
}

// A Report says what was copied.
type Report struct {
	Partitions []Sum  // what both sides have, in the order of their names
	Entries    uint64 // of all partitions
	Bytes      uint64 // of their keys and values
	Before     uint64 // of Entries, those that an interrupted copy had copied
	LeftOut    uint64 // records of who uses the source, which are not copied

	// Already says that the destination was a copy of the source before the
	// call: nothing was written.
	Already bool
}

// Copy copies all entries of from into to, which must be empty, or hold an interrupted
// copy of the same entries. It returns once they are durable there and both sides were
// found to be the same. If to is a finished copy already, it only compares the two.
//
// Nothing was written if the error is no [*IncompleteError]: one of the two could not be
// read, or the error matches [ErrRefused]: with [ErrNotEmpty] to holds
// something else, with [ErrEncrypted] to would leave the entries in the clear, with
// [ErrOtherSource] an interrupted copy of other entries, and a
// [*RefusalError] says what to cannot keep; several of them are a *multierror.Error.
// After an [*IncompleteError] the same call goes on from there, unless it matches
// [ErrSourceChanged] or [ErrDifferent].
//
// Memory is bounded by the limits of a transaction of to. Two copies into one store at
// once do no harm: one of them fails.
func Copy(ctx context.Context, from, to store.Store, o Options) (Report, error) {
	c := &transfer{from: from, to: to, limits: to.Limits(), meter: meter{observer: o.Observer}}
	if !o.Plaintext && encrypts(from) && !encrypts(to) {
		return Report{}, unwritten(refused(ErrEncrypted))
	}
	if err := c.count(ctx); err != nil {
		return Report{}, unwritten(fmt.Errorf("look at the source: %w", err))
	}
	if err := c.fits(ctx); err != nil {
		return Report{}, err
	}
	switch already, err := c.begin(ctx); {
	case errors.Is(err, store.ErrUnknown):
		return Report{}, &IncompleteError{Entries: c.record.Entries, Total: c.total(), Err: err}
	case err != nil:
		return Report{}, unwritten(fmt.Errorf("look at the destination: %w", err))
	case already:
		r := c.report()
		r.Already = true
		return r, nil
	}
	before := c.record.Entries
	err := c.run(ctx)
	if err != nil {
		return Report{}, &IncompleteError{Entries: c.record.Entries, Total: c.total(), Err: err}
	}
	r := c.report()
	r.Before = before
	return r, nil
}

func encrypts(st store.Store) bool {
	e, ok := store.As[store.Encrypter](st)
	return ok && len(e.EncryptionKey()) > 0
}

// A transfer is one call of Copy.
type transfer struct {
	from, to store.Store
	limits   store.Limits
	meter    meter

	source   *tally        // what the source holds, without versions
	versions []store.Entry // of its schemas
	leftOut  uint64
	fit      *fit.Check // of them all, for the destination

	record record // as it is in the destination
	stored []byte // its encoding
	most   int    // entries in a batch; less once the destination refused some
}

// A batch is what one transaction writes at most, the store's own limits apart.
const (
	batchEntries = 1000
	batchBytes   = 1 << 20
)

// run copies what is left, compares, and makes the destination a store.
func (c *transfer) run(ctx context.Context) error {
	if err := c.copyAll(ctx); err != nil {
		return err
	}
	if err := c.to.Sync(ctx); err != nil {
		return err
	}
	if err := c.verify(ctx); err != nil {
		return err
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	return c.to.Sync(ctx)
}

// count looks at every entry of the source.
func (c *transfer) count(ctx context.Context) error {
	var err error
	if c.fit, err = fit.New(ctx, c.to, c.limits, recordKey); err != nil {
		return fmt.Errorf("ask what the destination keeps: %w", err)
	}
	c.source = newTally()
	c.meter.begin(Counting, 0, 0)
	for e, err := range entries(ctx, c.from, nil) {
		if err != nil {
			return err
		}
		switch e.kind {
		case momentary:
			c.leftOut++
			continue
		case copyRecord:
			r, err := decode(e.Value)
			if err != nil {
				return err
			}
			return r.unfinished()
		case version:
			if len(c.versions) == c.limits.TxnEntries-1 {
				return fmt.Errorf("it has more than %d schemas, which do not fit in one transaction of the destination", len(c.versions))
			}
			c.versions = append(c.versions, clone(e.Entry))
		}
		sum := c.source.add(e.Entry)
		c.fit.Look(sum.Partition, e.Entry, c.recordCost(e.Key))
		c.meter.add(e.Entry)
	}
	c.meter.end()
	return nil
}

// recordCost is what the record takes of a transaction, at most, when last is the last
// key that was copied.
func (c *transfer) recordCost(last []byte) int {
	const fields = 256 // those beside the last key
	return len(recordKey) + fields + len(last) + c.limits.EntryOverhead
}

// fits refuses what the destination cannot keep, or has no room for.
func (c *transfer) fits(ctx context.Context) error {
	if err := refusal(c.fit.Misfits()); err != nil {
		return err
	}
	need, free, err := space.For(ctx, c.to, c.source.entries, c.source.bytes)
	if err != nil {
		return unwritten(fmt.Errorf("look at the destination: %w", err))
	}
	if free < need {
		return unwritten(refused(fmt.Errorf("%w of the destination: about %s are needed and %s are free; make room, and run it again",
			store.ErrNoSpace, humanize.IBytes(need), humanize.IBytes(free))))
	}
	return nil
}

// begin writes the record of the copy into an empty destination, or takes over the one
// of an interrupted copy. already says that the destination is a copy of the source.
func (c *transfer) begin(ctx context.Context) (already bool, err error) {
	c.most = batchEntries
	fingerprint := c.source.fingerprint()
	token := make([]byte, 16)
	_, _ = rand.Read(token) // never fails
	started := time.Now().UnixMilli()
	inUse := false
	err = certain.Update(ctx, c.to, func(tx store.Txn) error {
		inUse = false
		next := record{Fingerprint: fingerprint, Started: started, Total: c.total()}
		old, err := readRecord(tx)
		switch {
		case err != nil:
			return err
		case old != nil && !bytes.Equal(old.Fingerprint, fingerprint):
			return refused(fmt.Errorf("%w (%d of %s)", ErrOtherSource, old.Entries, plural.Of(old.Total, "entry")))
		case old != nil:
			next = *old
		default:
			if inUse, err = holds(tx); err != nil || inUse {
				return err
			}
		}
		next.Token = token
		return c.put(tx, next)
	})
	if err != nil || !inUse {
		return false, err
	}
	same, err := c.isCopy(ctx)
	if err == nil && !same {
		err = refused(ErrNotEmpty)
	}
	return same, err
}

// holds reports whether s has an entry that a copy would write.
func holds(s store.Reader) (bool, error) {
	for e, err := range s.Scan(store.Scan{KeysOnly: true}) {
		if err != nil {
			return false, err
		}
		if kindOf(e.Key) != momentary {
			return true, nil
		}
	}
	return false, nil
}

// copyAll copies the entries after the last one that the record has.
func (c *transfer) copyAll(ctx context.Context) error {
	c.meter.begin(Copying, c.total(), c.record.Entries)
	c.meter.now.Bytes = c.record.Bytes
	var batch []store.Entry
	held, charged := 0, c.recordCost(nil)
	flush := func() error {
		err := c.commit(ctx, batch)
		clear(batch)
		batch, held, charged = batch[:0], 0, c.recordCost(nil)
		return err
	}
	for e, err := range entries(ctx, c.from, after(c.record.Last)) {
		if err != nil {
			return err
		}
		if e.kind != data {
			continue
		}
		bytes, charge := len(e.Key)+len(e.Value), c.limits.Charge(e.Entry)
		full := len(batch) >= min(c.most, c.limits.TxnEntries-1) || held+bytes > batchBytes || charged+charge+len(e.Key) > c.limits.TxnBytes
		if full && len(batch) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, clone(e.Entry))
		held, charged = held+bytes, charged+charge
	}
	if len(batch) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	c.meter.end()
	return nil
}

// commit writes a batch with the record, in halves if the destination finds it too big.
func (c *transfer) commit(ctx context.Context, batch []store.Entry) error {
	next := c.record
	for _, e := range batch {
		next.Entries++
		next.Bytes += uint64(len(e.Key) + len(e.Value))
	}
	next.Last = batch[len(batch)-1].Key
	want, err := next.encode()
	if err != nil {
		return err
	}
	before, stored := c.record, c.stored
	err = certain.Update(ctx, c.to, func(tx store.Txn) error {
		found, err := get(tx, recordKey)
		switch {
		case err != nil:
			return err
		case bytes.Equal(found, want): // by a commit that was not confirmed
			c.record, c.stored = next, want
			return nil
		case !bytes.Equal(found, stored):
			return errOvertaken
		}
		for _, e := range batch {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return c.put(tx, next)
	})
	if err != nil {
		c.record, c.stored = before, stored
	}
	if half := len(batch) / 2; errors.Is(err, store.ErrTxnTooBig) && half > 0 {
		c.most = min(c.most, half)
		if err := c.commit(ctx, batch[:half]); err != nil {
			return err
		}
		return c.commit(ctx, batch[half:])
	}
	if err == nil {
		for _, e := range batch {
			c.meter.add(e)
		}
	}
	return err
}

// errOvertaken: the record is not as this copy left it.
var errOvertaken = errors.New("another copy into the same store took over, or the store was changed")

// put writes the record.
func (c *transfer) put(tx store.Txn, r record) error {
	encoded, err := r.encode()
	if err != nil {
		return err
	}
	c.record, c.stored = r, encoded
	return tx.Set(store.Entry{Key: recordKey, Value: encoded})
}

// finish makes the destination a store: it writes the versions and removes the record.
func (c *transfer) finish(ctx context.Context) error {
	return certain.Update(ctx, c.to, func(tx store.Txn) error {
		found, err := get(tx, recordKey)
		if err != nil {
			return err
		}
		if found == nil {
			return c.finished(tx) // by a commit that was not confirmed
		}
		if !bytes.Equal(found, c.stored) {
			return errOvertaken
		}
		for _, e := range c.versions {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return tx.Delete(recordKey)
	})
}

// finished returns nil if the versions are there.
func (c *transfer) finished(s store.Reader) error {
	for _, want := range c.versions {
		if found, err := get(s, want.Key); err != nil {
			return err
		} else if !bytes.Equal(found, want.Value) {
			return errOvertaken
		}
	}
	return nil
}

// total is how many entries are copied in batches.
func (c *transfer) total() uint64 { return c.source.entries - uint64(len(c.versions)) }

func (c *transfer) report() Report {
	return Report{Partitions: c.source.sums(), Entries: c.source.entries, Bytes: c.source.bytes, LeftOut: c.leftOut}
}

// get returns the value of key, nil if there is none.
func get(s store.Reader, key []byte) ([]byte, error) {
	e, err := s.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return e.Value, err
}

func clone(e store.Entry) store.Entry {
	e.Key, e.Value = bytes.Clone(e.Key), append([]byte{}, e.Value...)
	return e
}

// after returns the first key after last, nil for the first of all.
func after(last []byte) []byte {
	if last == nil {
		return nil
	}
	return append(slices.Clip(last), 0)
}
