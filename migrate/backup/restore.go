package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/migrate/internal/fit"
	"github.com/kvmigrate/kvmigrate/migrate/internal/space"
	"github.com/kvmigrate/kvmigrate/store"
)

// Inspect reads what a file says of itself. It does not read the entries, so that a
// damaged one can pass; see [Verify]. The error is a [*FileError], or of the file
// system.
func Inspect(path string) (Info, error) {
	o, err := open(path)
	if err != nil {
		return Info{}, err
	}
	return o.info, o.file.Close()
}

// Verify reads a whole file, and each entry in it, in bounded memory. The error is a
// [*FileError] that matches [ErrForeign], [ErrDamaged], [ErrFormat] or [ErrKey], or one of
// the file system.
func Verify(ctx context.Context, path string, ro RestoreOptions) (Info, error) {
	o, key, err := ro.open(path, nil)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = o.file.Close() }() // it is only read
	return o.info, o.verify(ctx, key, newMeter(ro.Observer), nil)
}

// verify checks the seal before it believes anything else.
func (o *opened) verify(ctx context.Context, key []byte, m *meter, fits *fit.Check) error {
	if err := o.checkSeal(ctx, m); err != nil {
		return err
	}
	return o.readAll(ctx, key, m, fits)
}

// readAll reads all records, and has fits, unless it is nil, look at those that a restore
// would write.
func (o *opened) readAll(ctx context.Context, key []byte, m *meter, fits *fit.Check) error {
	r, err := o.records(ctx, key)
	if err != nil {
		return err
	}
	defer r.close()
	m.begin(Verifying, o.info.Entries)
	before := uint64(0)
	for {
		e, err := r.next(fits == nil)
		if errors.Is(err, io.EOF) {
			m.end()
			return nil
		}
		if err != nil {
			return err
		}
		o.marks.note(e.Key)
		if fits != nil && !expired(e, time.Now()) {
			fits.Look("", e, 0)
		}
		m.count(r.read.Bytes - before)
		before = r.read.Bytes
	}
}

// RestoreOptions say how a backup is read and restored.
type RestoreOptions struct {
	// Schema is what the backup must have been taken for. Empty means any.
	Schema string

	// Key is that of an encrypted backup. Nil means that of the store, if there is
	// one that has one.
	Key []byte

	// Uncompared leaves it to the caller to [Compare] the two, which is more worth once
	// the store was closed and opened again.
	Uncompared bool

	// Observer, if not nil, is told how far it is, about once a second and at
	// the end of each stage, by one goroutine.
	Observer func(Progress)
}

// Restore fills the empty store st with the entries of a backup, but for those that have
// expired. It reads the whole file before it writes, makes what it wrote durable, and
// compares the two.
//
// The error is a [*FileError] for a file that cannot be used, one with entries that st
// cannot keep ([*RefusalError]) included, matches [ErrNotEmpty] for a store that holds
// something, is a [*NoSpaceError] if the store says that it has no room, and an
// [*UnfinishedError] if another backup was restored into it by half; then nothing was
// written. After any other error, or a kill, st is incomplete, and every program that
// uses a schema of it through kvmigrate refuses it: Restore of the same backup begins
// anew and finishes it. Of several at once the last to begin goes on. An error of
// comparing the two says that all is written; it matches [ErrDifferent] if they differ.
func Restore(ctx context.Context, path string, st store.Store, ro RestoreOptions) (Info, error) {
	o, key, err := ro.open(path, st)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = o.file.Close() }() // it is only read
	m := newMeter(ro.Observer)
	limits := st.Limits()
	if _, ok := store.As[store.Loader](st); ok {
		limits.TxnBytes = math.MaxInt // what is loaded is in no transaction
	}
	fits, err := fit.New(ctx, st, limits, mark(o.info.Schema))
	if err != nil {
		return o.info, fmt.Errorf("restore backup %s: ask what the store keeps: %w; nothing was written", path, err)
	}
	if err := o.verify(ctx, key, m, fits); err != nil {
		return o.info, err
	}
	if err := refusal(path, fits.Misfits()); err != nil {
		return o.info, err
	}
	if err := checkRoom(ctx, st, o.info); err != nil {
		return o.info, err
	}
	begun := false
	loaded, err := o.load(ctx, st, key, m)
	if !loaded {
		err = o.restore(ctx, st, key, m, &begun)
	}
	if err == nil && !ro.Uncompared {
		if err = o.compareWith(ctx, st, key, m); err != nil && begun {
			return o.info, fmt.Errorf("restore backup %s: all of it is written and durable, but comparing the two failed: %w", path, err)
		}
	}
	switch {
	case errors.Is(err, errOvertaken):
		err = fmt.Errorf("restore backup %s: %w", path, err)
	case err != nil && begun:
		err = fmt.Errorf("restore backup %s: %w; the store that it was to fill is incomplete, and refused until the same file is restored into it again", path, err)
	}
	return o.info, err
}

// Compare reads st and a backup and returns nil if they hold the same entries, but for
// those that have expired since. The error matches [ErrDifferent] if they do not, and is
// a [*FileError] if the file cannot be used.
func Compare(ctx context.Context, path string, st store.Store, ro RestoreOptions) error {
	o, key, err := ro.open(path, st)
	if err != nil {
		return err
	}
	defer func() { _ = o.file.Close() }() // it is only read
	m := newMeter(ro.Observer)
	if err := o.checkSeal(ctx, m); err != nil {
		return err
	}
	return o.compareWith(ctx, st, key, m)
}

// open opens the file and finds its key, which can be that of st unless it is nil.
func (ro RestoreOptions) open(path string, st store.Store) (*opened, []byte, error) {
	key, err := keyOf(ro.Key, st)
	if err != nil {
		return nil, nil, err
	}
	o, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	if ro.Schema != "" && o.info.Schema != ro.Schema {
		err := &FileError{path, fmt.Errorf("%w: it is of schema %q and not of %q", ErrForeign, o.info.Schema, ro.Schema)}
		return nil, nil, errors.Join(err, o.file.Close())
	}
	return o, key, nil
}

// checkRoom looks for room before anything is written: an engine that meets a full disk
// may end the process.
func checkRoom(ctx context.Context, st store.Store, i Info) error {
	need, free, err := space.For(ctx, st, i.Entries, i.Bytes)
	if err == nil && free < need {
		err = &NoSpaceError{Need: need, Free: free}
	}
	return err
}

// A batch is what one transaction of a restore writes at most, the store's own limits
// apart. Some commit while the next is read.
const (
	batchEntries = 4000
	batchBytes   = 1 << 20
	committing   = 3
)

// load has st load all entries, if it can. That needs no mark: whoever has such a store
// throws it away if it is not filled.
func (o *opened) load(ctx context.Context, st store.Store, key []byte, m *meter) (loaded bool, err error) {
	l, ok := store.As[store.Loader](st)
	if !ok {
		return false, nil
	}
	err = l.Load(ctx, func(yield func(store.Entry, error) bool) {
		m.begin(Restoring, o.info.Entries)
		a, err := o.ahead(ctx, key)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		defer a.close()
		for {
			e, err := a.entry()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				m.add(e)
				if expired(e, time.Now()) {
					continue
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	})
	if errors.Is(err, store.ErrUnsupported) {
		return false, nil
	}
	if err == nil {
		m.end()
	}
	return true, err
}

// restore writes all entries, between the marks and their removal. begun is set once st
// may be no longer empty.
func (o *opened) restore(ctx context.Context, st store.Store, key []byte, m *meter, begun *bool) error {
	o.marks.add(o.info.Schema)
	schema, now := o.info.Schema, newMarker(o.info)
	err := certain.Update(ctx, st, func(tx store.Txn) error { return now.begin(tx, schema, o.marks) })
	*begun = err == nil || errors.Is(err, store.ErrUnknown)
	if err != nil {
		return err
	}
	m.begin(Restoring, o.info.Entries)
	if err := o.fill(ctx, st, key, m, now); err != nil {
		return err
	}
	// The store is whole only once all of it is durable.
	if err := st.Sync(ctx); err != nil {
		return err
	}
	tried := false
	err = certain.Update(ctx, st, func(tx store.Txn) error {
		if there, err := readMarker(tx, schema); err != nil || tried && there == nil {
			return err // nil if a commit that was not confirmed has removed it
		}
		tried = true
		if err := now.holds(tx, schema); err != nil {
			return err
		}
		return o.marks.remove(tx)
	})
	if err != nil {
		return err
	}
	m.end()
	return st.Sync(ctx)
}

// fill writes all entries but those under marks, which it keeps. The marks make the order
// in which they commit of no account. When it returns, nothing is under way.
func (o *opened) fill(ctx context.Context, st store.Store, key []byte, m *meter, now *marker) (err error) {
	commits, ctx := errgroup.WithContext(ctx)
	defer func() { // an error of a commit is why there is one of reading
		if failed := commits.Wait(); failed != nil {
			err = failed
		}
	}()
	r, err := o.records(ctx, key)
	if err != nil {
		return err
	}
	defer r.close()
	free := make(chan *batch, committing+1) // whose room is used again
	for range cap(free) {
		free <- &batch{limits: st.Limits()}
	}
	commit := func(b *batch) {
		commits.Go(func() error {
			defer func() { free <- b }()
			return b.commit(ctx, st, func(tx store.Txn) error { return now.holds(tx, o.info.Schema) })
		})
	}
	b := <-free
	for {
		e, err := r.next(false)
		if errors.Is(err, io.EOF) {
			commit(b)
			return nil
		}
		if err != nil {
			return err
		}
		m.add(e)
		switch {
		case o.marks.keep(e), expired(e, time.Now()):
			continue
		case !b.holds(e):
			commit(b)
			b = <-free
		}
		b.add(e)
	}
}

func expired(e store.Entry, now time.Time) bool {
	return e.ExpiresAt != 0 && e.ExpiresAt <= uint64(now.Unix())
}

// A batch is what the next transaction is to write.
type batch struct {
	limits store.Limits
	chunk
	bytes int
}

// holds reports whether e fits beside what the batch has.
func (b *batch) holds(e store.Entry) bool {
	return len(b.entries) == 0 ||
		len(b.entries) < min(batchEntries, b.limits.TxnEntries) &&
			b.bytes+b.limits.Cost(e) <= min(batchBytes, b.limits.TxnBytes)
}

func (b *batch) add(e store.Entry) {
	b.bytes += b.limits.Cost(e)
	b.chunk.add(e)
}

// commit writes the entries, if allowed lets it.
func (b *batch) commit(ctx context.Context, st store.Store, allowed func(store.Txn) error) error {
	if len(b.entries) == 0 {
		return nil
	}
	err := certain.Update(ctx, st, func(tx store.Txn) error {
		if err := allowed(tx); err != nil {
			return err
		}
		for _, e := range b.entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	})
	b.reset()
	b.bytes = 0
	return err
}

// compareWith returns nil if st holds what the backup does.
func (o *opened) compareWith(ctx context.Context, st store.Store, key []byte, m *meter) error {
	return st.View(ctx, func(s store.Reader) error {
		same, err := o.compare(ctx, s, key, m)
		if err == nil && !same {
			err = fmt.Errorf("%w %s", ErrDifferent, o.info.Path)
		}
		return err
	})
}

// compare reports whether s holds what the backup does, but for entries that have
// expired since it was taken. It stops at the first difference.
func (o *opened) compare(ctx context.Context, s store.Reader, key []byte, m *meter) (same bool, err error) {
	r, err := o.ahead(ctx, key)
	if err != nil {
		return false, err
	}
	defer r.close()
	m.begin(Comparing, o.info.Entries)
	saved, err := r.entry()
	for e, scanErr := range s.Scan(store.Scan{}) {
		if scanErr != nil {
			return false, scanErr
		}
		for err == nil && expired(saved, time.Now()) && bytes.Compare(saved.Key, e.Key) < 0 {
			saved, err = r.entry()
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !equal(saved, e) {
			return false, nil
		}
		m.add(e)
		saved, err = r.entry()
	}
	for err == nil {
		if !expired(saved, time.Now()) {
			return false, nil
		}
		saved, err = r.entry()
	}
	if !errors.Is(err, io.EOF) {
		return false, err
	}
	m.end()
	return true, nil
}

func equal(a, b store.Entry) bool {
	return a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}
