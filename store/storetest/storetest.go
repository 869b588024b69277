// Package storetest is the conformance suite of package store: what every
// implementation of [store.Store] must pass before a migration may run on it.
//
// # Use
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store {
//			st := mystore.Open(t.TempDir())
//			t.Cleanup(func() { st.Close() })
//			return st
//		})
//	}
//
// # What it promises
//
// Every case opens a store of its own, checks one clause of the contract and says
// in its failure what the contract demands. The cases are deterministic: none
// sleeps, none measures time, and a rival transaction is run inside the one that
// it disturbs, so transactions of one store must not wait for each other. A store that keeps no expiry or no user meta says so with
// [store.ErrUnsupported]; it then passes those cases. What needs a power failure
// or a damaged disk is for the implementation's own tests.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
)

// Run checks the stores that open returns against the contract of package store,
// one subtest for each clause. Each subtest calls open once and needs a fresh,
// empty store; open registers the store's cleanup on the t it is given, and must
// expect that a subtest closed the store already.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, group := range [][]check{entryChecks, scanChecks, txnChecks, limitChecks, lifeChecks} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
		}
	}
}

// A check is one clause of the contract.
type check struct {
	name string
	run  func(t *testing.T, st store.Store)
}

// errCallback is an error that only a callback can have made.
var errCallback = errors.New("error of the callback")

// entry returns the entry of key with value.
func entry(key, value string) store.Entry {
	return store.Entry{Key: []byte(key), Value: []byte(value)}
}

// update runs fn in one attempt at a transaction, which must commit.
func update(t *testing.T, st store.Store, fn func(store.Txn) error) {
	t.Helper()
	if err := st.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update: %v; want it to commit", err)
	}
}

// view runs fn, which must return nil.
func view(t *testing.T, st store.Store, fn func(store.Reader) error) {
	t.Helper()
	if err := st.View(t.Context(), fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// setAll returns a callback that sets entries.
func setAll(entries ...store.Entry) func(store.Txn) error {
	return func(tx store.Txn) error {
		for _, e := range entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// put commits entries in one transaction.
func put(t *testing.T, st store.Store, entries ...store.Entry) {
	t.Helper()
	update(t, st, setAll(entries...))
}

// remove commits the deletion of key.
func remove(t *testing.T, st store.Store, key string) {
	t.Helper()
	update(t, st, func(tx store.Txn) error { return tx.Delete([]byte(key)) })
}

// collect returns "key=value" of every entry that s selects, quoted so that a
// diff shows every byte, or "key" alone for entries without a value.
func collect(r store.Reader, s store.Scan) ([]string, error) {
	var got []string
	for e, err := range r.Scan(s) {
		if err != nil {
			return got, err
		}
		got = append(got, line(e.Key, e.Value))
	}
	return got, nil
}

func line(key, value []byte) string {
	if value == nil {
		return fmt.Sprintf("%q", key)
	}
	return fmt.Sprintf("%q=%q", key, value)
}

// contents returns all that the store holds.
func contents(t *testing.T, st store.Store) []string {
	t.Helper()
	var got []string
	view(t, st, func(r store.Reader) (err error) {
		got, err = collect(r, store.Scan{})
		return err
	})
	return got
}

// wantContents fails the test unless the store holds exactly want, because of
// what clause demands.
func wantContents(t *testing.T, st store.Store, clause string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, contents(t, st)); diff != "" {
		t.Errorf("%s: contents (-want +got)\n%s", clause, diff)
	}
}

// wantError fails the test unless err matches want, because of what clause
// demands.
func wantError(t *testing.T, clause string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error = %v; want one that matches %q", clause, err, want)
	}
}

// get returns the value of key, which must exist.
func get(t *testing.T, r store.Reader, key string) string {
	t.Helper()
	e, err := r.Get([]byte(key))
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return string(e.Value)
}

// scanError returns the error that a scan yields, nil if none.
func scanError(r store.Reader) error {
	_, err := collect(r, store.Scan{})
	return err
}

// operations are all uses of a transaction, for the rules that hold for each.
var operations = []struct {
	name string
	run  func(tx store.Txn) error
}{
	{"Get", func(tx store.Txn) error { _, err := tx.Get([]byte("k")); return err }},
	{"Scan", func(tx store.Txn) error { return scanError(tx) }},
	{"Set", func(tx store.Txn) error { return tx.Set(entry("k", "operation")) }},
	{"Delete", func(tx store.Txn) error { return tx.Delete([]byte("k")) }},
}

// canceled returns a context that has ended.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
