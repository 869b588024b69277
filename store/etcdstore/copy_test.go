package etcdstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

// openMemory opens an empty store in memory.
func openMemory(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// openSource opens a store in memory with a schema and rows.
func openSource(t *testing.T) store.Store {
	t.Helper()
	st := openMemory(t)
	put(t, st, rowsToMigrate()...)
	migrateRows(t, st)
	return st
}

func migrateRows(t *testing.T, st store.Store) {
	t.Helper()
	if _, err := migrate.Up(t.Context(), st, migrateOptions(rewriteLadder(func([]byte) {}))); err != nil {
		t.Fatal(err)
	}
}

func wantCopy(t *testing.T, from, to store.Store) {
	t.Helper()
	if diff := cmp.Diff(dumpOf(t, from), dumpOf(t, to)); diff != "" {
		t.Errorf("the copy (-source +destination):\n%s", diff)
	}
}

func dumpOf(t *testing.T, st store.Store) string {
	t.Helper()
	var text bytes.Buffer
	if err := st.View(t.Context(), func(r store.Reader) error { return dump.Write(&text, r, store.Scan{}) }); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestCopyLosesConnection cuts the connection at a batch of a copy: the copy goes on,
// and what arrives late changes nothing.
func TestCopyLosesConnection(t *testing.T) {
	from := openSource(t)
	for _, test := range []struct {
		name string
		rule rule
	}{
		{"request lost", dropRequest},
		{"response lost", dropResponse},
		{"request arrives after the copy", holdRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startProxy(t, sharedAddress(t))
			to := open(t, newPrefix(), etcdstore.Options{}, p.address())
			p.set(test.rule, "row 150 rewritten")
			if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			if r := p.left(); r != passOn {
				t.Error("the proxy has met no request to cut")
			}
			p.release()
			wantCopy(t, from, to)
		})
	}
}

// TestCopyLosesCluster: a copy whose cluster is gone ends with an error, and goes on when
// it is back.
func TestCopyLosesCluster(t *testing.T) {
	from := openSource(t)
	prefix := newPrefix()
	p := startProxy(t, sharedAddress(t))
	to := open(t, prefix, etcdstore.Options{Timeout: fair}, p.address())
	cut := stopping{to, func(e store.Entry) {
		if string(e.Value) == "row 200 rewritten" {
			p.cut()
		}
	}}
	_, err := transfer.Copy(t.Context(), from, cut, transfer.Options{})
	incomplete, ok := errors.AsType[*transfer.IncompleteError](err)
	if !ok || incomplete.Entries == 0 || !strings.Contains(err.Error(), "did not answer in time") {
		t.Fatalf("Copy = %v, want an IncompleteError that says why", err)
	}
	again := open(t, prefix, etcdstore.Options{}, sharedAddress(t))
	if _, err := migrate.Up(t.Context(), again, migrateOptions(rewriteLadder(func([]byte) {}))); !errors.Is(err, transfer.ErrRefused) {
		t.Errorf("Up on half a copy = %v, want ErrRefused", err)
	}
	report, err := transfer.Copy(t.Context(), from, again, transfer.Options{})
	if err != nil || report.Before < incomplete.Entries {
		t.Fatalf("Copy = %+v, %v; want one that goes on after %d entries", report, err, incomplete.Entries)
	}
	wantCopy(t, from, again)
}

// viewed counts the Views of a store.
type viewed struct {
	store.Store
	n int
}

func (v *viewed) View(ctx context.Context, fn func(store.Reader) error) error {
	v.n++
	return v.Store.View(ctx, fn)
}

// stopping tells of each entry that is written.
type stopping struct {
	store.Store
	tell func(store.Entry)
}

func (s stopping) Update(ctx context.Context, fn func(store.Txn) error) error {
	return s.Store.Update(ctx, func(tx store.Txn) error { return fn(stoppingTxn{tx, s.tell}) })
}

type stoppingTxn struct {
	store.Txn
	tell func(store.Entry)
}

func (t stoppingTxn) Set(e store.Entry) error {
	t.tell(e)
	return t.Txn.Set(e)
}

// TestCopyOutlivesSnapshot: a source in etcd that is compacted while it is read is read
// on, and a change of it is found.
func TestCopyOutlivesSnapshot(t *testing.T) {
	from := openShared(t)
	rows := rowsToMigrate()
	for _, e := range rows { // more than a page
		e.Value = append(e.Value, strings.Repeat(" ", 20_000)...)
		put(t, from, e)
	}
	client := newClient(t, sharedAddress(t))
	compact := func() {
		t.Helper()
		put(t, from, entry("rows/zzz", fmt.Sprint(len(rows)))) // there is something to compact
		resp, err := client.Get(t.Context(), "any")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
			t.Fatal(err)
		}
	}
	compact()
	to, compactions := openMemory(t), 0
	compacting := stopping{to, func(e store.Entry) {
		if bytes.HasPrefix(e.Value, []byte("row 100 ")) {
			compactions++
			compact()
		}
	}}
	views := &viewed{Store: from}
	if _, err := transfer.Copy(t.Context(), views, compacting, transfer.Options{}); err != nil || compactions != 1 {
		t.Fatalf("Copy = %v with %d compactions", err, compactions)
	}
	if views.n != 4 { // one for each stage, and one more
		t.Errorf("the source was read in %d snapshots, want 4: the compaction came at the wrong moment", views.n)
	}
	wantCopy(t, from, to)
	changing := stopping{openMemory(t), func(e store.Entry) {
		if bytes.HasPrefix(e.Value, []byte("row 100 ")) {
			put(t, from, entry("rows/new", "row"))
		}
	}}
	if _, err := transfer.Copy(t.Context(), from, changing, transfer.Options{}); !errors.Is(err, transfer.ErrSourceChanged) {
		t.Errorf("Copy of a source that changes = %v, want ErrSourceChanged", err)
	}
}
