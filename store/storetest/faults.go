package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/kvmigrate/kvmigrate/store"
)

// ErrFault is the error of an operation that a [Faulty] store failed.
var ErrFault = errors.New("fault injected by storetest")

// A Fault is a way in which a store fails.
type Fault int

const (
	// Error fails one operation and does it not. The next ones work again.
	Error Fault = iota

	// Stop is a process that dies: the operation is not done and fails, as
	// do all after it.
	Stop

	// StopAfterCommit is Stop, but if the operation is a commit, it is done
	// first: its caller dies without knowing.
	StopAfterCommit
)

// Faults are all ways in which a store fails.
var Faults = []Fault{Error, Stop, StopAfterCommit}

// String returns the fault's name.
func (f Fault) String() string {
	switch f {
	case Error:
		return "Error"
	case Stop:
		return "Stop"
	case StopAfterCommit:
		return "StopAfterCommit"
	}
	return "Fault(?)"
}

// A Faulty is a store that fails at a chosen operation, for tests of what goes on
// after a crash. Operations are the beginning of each View, Update and Scan, each
// entry that a Scan yields, each Get, Set and Delete, each commit, and each Sync;
// they are numbered from 1 in the order in which they begin. Its methods may be
// called concurrently.
type Faulty struct {
	store.Store
	fault Fault
	at    int

	mu      sync.Mutex
	seen    int
	commits []int
	failed  string
}

// Fail returns st with fault at its operation number at; 0 fails none. Close
// closes st.
func Fail(st store.Store, at int, fault Fault) *Faulty {
	return &Faulty{Store: st, fault: fault, at: at}
}

// Unwrap returns the store below; see [store.As].
func (f *Faulty) Unwrap() store.Store { return f.Store }

// Operations returns how many operations have begun.
func (f *Faulty) Operations() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// Commits returns the numbers of the operations that were commits: those at which
// StopAfterCommit is not the same as Stop.
func (f *Faulty) Commits() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commits)
}

// Failed names the operation that was chosen, and its key if it has one, such as
// `set "app/1"`; "" if it has not begun.
func (f *Faulty) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// operation counts one and returns its error, if it is to have one.
func (f *Faulty) operation(name string, key []byte) error {
	_, err := f.count(name, key)
	return err
}

const commit = "commit"

// count counts one operation. chosen says that it is the one that fails first.
func (f *Faulty) count(name string, key []byte) (chosen bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if name == commit {
		f.commits = append(f.commits, f.seen)
	}
	chosen = f.seen == f.at
	if chosen {
		f.failed = name
		if key != nil {
			f.failed += fmt.Sprintf(" %q", key)
		}
	}
	if chosen || f.at > 0 && f.seen > f.at && f.fault != Error {
		err = ErrFault
	}
	return chosen, err
}

// View implements [store.Store].
func (f *Faulty) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := f.operation("view", nil); err != nil {
		return err
	}
	return f.Store.View(ctx, func(r store.Reader) error { return fn(&faultyReader{r, f}) })
}

// Update implements [store.Store].
func (f *Faulty) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := f.operation("update", nil); err != nil {
		return err
	}
	var after error // of a commit that is done all the same
	err := f.Store.Update(ctx, func(txn store.Txn) error {
		t := &faultyTxn{faultyReader: faultyReader{txn, f}, txn: txn}
		if err := fn(t); err != nil {
			return err
		}
		if t.poison != nil {
			return t.poison
		}
		chosen, err := f.count(commit, nil)
		if chosen && f.fault == StopAfterCommit {
			after = err
			return nil
		}
		return err
	})
	if err == nil {
		err = after
	}
	return err
}

// Sync implements [store.Store].
func (f *Faulty) Sync(ctx context.Context) error {
	if err := f.operation("sync", nil); err != nil {
		return err
	}
	return f.Store.Sync(ctx)
}

type faultyReader struct {
	store.Reader
	faults *Faulty
}

func (r *faultyReader) Get(key []byte) (store.Entry, error) {
	if err := r.faults.operation("get", key); err != nil {
		return store.Entry{}, err
	}
	return r.Reader.Get(key)
}

func (r *faultyReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := r.faults.operation("scan", s.Prefix); err != nil {
			yield(store.Entry{}, err)
			return
		}
		for e, err := range r.Reader.Scan(s) {
			if err == nil {
				err = r.faults.operation("scan to", e.Key)
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

type faultyTxn struct {
	faultyReader
	txn    store.Txn
	poison error // the first injected error of a write: nothing may commit after it
}

func (t *faultyTxn) write(name string, key []byte, do func() error) error {
	if t.poison == nil {
		t.poison = t.faults.operation(name, key)
	}
	if t.poison != nil {
		return t.poison
	}
	return do()
}

func (t *faultyTxn) Set(e store.Entry) error {
	return t.write("set", e.Key, func() error { return t.txn.Set(e) })
}

func (t *faultyTxn) Delete(key []byte) error {
	return t.write("delete", key, func() error { return t.txn.Delete(key) })
}
