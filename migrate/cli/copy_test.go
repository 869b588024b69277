package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A remote store stands for one at the other end of a network: it keeps no expiry and
// no user meta. It calls before each of its transactions.
type remote struct {
	store.Store
	before func()
}

func (r remote) Limits() store.Limits {
	l := r.Store.Limits()
	l.TxnEntries = 10
	return l
}

func (r remote) Update(ctx context.Context, fn func(store.Txn) error) error {
	if r.before != nil {
		r.before()
	}
	return r.Store.Update(ctx, func(tx store.Txn) error { return fn(remoteTxn{tx}) })
}

type remoteTxn struct{ store.Txn }

func (t remoteTxn) Set(e store.Entry) error {
	if e.ExpiresAt != 0 || e.Meta != 0 {
		return store.ErrUnsupported
	}
	return t.Txn.Set(e)
}

// withRemote is a program whose names of stores may begin with "remote:".
func withRemote(dir string, before func()) cli.Config {
	return cli.Config{
		Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes(), AllowUnversioned: true},
		Badger: badgerstore.Options{Configure: badgerstore.Small},
		Stores: map[string]cli.Opener{"remote": func(ctx context.Context, name string, o cli.OpenOptions) (store.Store, error) {
			st, err := badgerstore.Open(ctx, filepath.Join(dir, "remote", name), badgerstore.Options{Configure: badgerstore.Small, MustExist: o.MustExist})
			return remote{st, before}, err
		}},
	}
}

func fillDir(t *testing.T, dir string, entries ...store.Entry) {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Update(t.Context(), st, func(tx store.Txn) error {
		for _, e := range entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCopyIsInterrupted: a copy that is stopped says how to go on, and does.
func TestCopyIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	local := filepath.Join(dir, "local")
	var rows []store.Entry
	for i := range 100 {
		rows = append(rows, store.Entry{Key: fmt.Appendf(nil, "rows/%03d", i)})
	}
	fillDir(t, local, rows...)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	cfg := withRemote(dir, func() {
		if n++; n == 8 {
			cancel()
		}
	})
	code, _, stderr := runIn(t.Context(), t, cfg, local, "up", "--quiet")
	if code != cli.ExitDone {
		t.Fatal(stderr)
	}
	code, stdout, stderr := runIn(ctx, t, cfg, local, "copy", "--to", "remote:a")
	const want = "notes: copied 36 of 102 entries: update: context canceled; nothing is lost, and every program refuses the destination until the copy is finished. Run the same copy again to go on from there\n"
	if _, text, _ := strings.Cut(stderr, "notes: "); code != cli.ExitFailed || stdout != "" || "notes: "+text != want {
		t.Errorf("exit code %d, stdout %q, stderr %q; want %q", code, stdout, stderr, want)
	}
	if code, _, stderr := runIn(t.Context(), t, cfg, "remote:a", "up"); code != cli.ExitRefused {
		t.Errorf("up on half a copy: exit code %d, %s", code, stderr)
	}
	code, stdout, stderr = runIn(t.Context(), t, cfg, local, "copy", "--to", "remote:a", "--json")
	var out map[string]any
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || code != cli.ExitDone || !strings.Contains(stderr, "going on with the copy after 36 of 102 entries") {
		t.Fatalf("exit code %d, %v, stderr %q", code, err, stderr)
	}
	delete(out, "partitions")
	delete(out, "bytes")
	if diff := cmp.Diff(map[string]any{"from": local, "to": "remote:a", "entries": 103.0, "before": 36.0, "left_out": 0.0, "already": false}, out); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	if code, stdout, stderr := runIn(t.Context(), t, cfg, "remote:a", "status"); code != cli.ExitDone || !strings.Contains(stdout, "v1") {
		t.Errorf("status of the copy: exit code %d, %s%s", code, stdout, stderr)
	}
}

// TestCopyRefuses: what the other store cannot keep is said before anything is written,
// by partition, and the keys only to who asks for them.
func TestCopyRefuses(t *testing.T) {
	dir := t.TempDir()
	local := filepath.Join(dir, "local")
	soon := uint64(time.Now().Add(time.Hour).Unix())
	fillDir(t, local, store.Entry{Key: []byte("rows/1"), ExpiresAt: soon}, store.Entry{Key: []byte("rows/2"), ExpiresAt: soon}, store.Entry{Key: []byte("secret"), Meta: 1})
	cfg := withRemote(dir, nil)
	code, stdout, stderr := runIn(t.Context(), t, cfg, local, "copy", "--to", "remote:a", "--json")
	for _, want := range []string{"rows: 2 entries with an expiry, which the destination cannot keep: wait until", "(outside): 1 entry with a user meta"} {
		if code != cli.ExitRefused || !strings.Contains(stderr, want) || strings.Contains(stderr, "secret") {
			t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
		}
	}
	var out struct {
		Refusals []map[string]any `json:"refusals"`
		Error    string           `json:"error"`
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	want := []map[string]any{
		{"partition": "rows", "reason": "expiry", "entries": 2.0, "first": "cm93cy8x"},
		{"partition": "", "reason": "meta", "entries": 1.0, "first": "c2VjcmV0"},
	}
	if diff := cmp.Diff(want, out.Refusals); diff != "" || out.Error == "" {
		t.Errorf("error %q, refusals (-want +got):\n%s", out.Error, diff)
	}
	if _, _, stderr := runIn(t.Context(), t, cfg, local, "-v", "copy", "--to", "remote:a"); !strings.Contains(stderr, "key=secret") {
		t.Errorf("--verbose does not show the key:\n%s", stderr)
	}
	if code, stdout, _ := runIn(t.Context(), t, cfg, "remote:a", "dump"); code != cli.ExitDone || stdout != "" {
		t.Errorf("the destination holds %q", stdout)
	}
}

// TestSchemes: what is done to directories alone is refused of other stores, before
// anything is written.
func TestSchemes(t *testing.T) {
	dir := t.TempDir()
	cfg := withRemote(dir, nil)
	if code, _, stderr := runIn(t.Context(), t, cfg, "remote:a", "up"); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"backup"}, "--dir is missing"},
		{[]string{"restore", "file"}, "--into is missing: no store is put in the place of such a one"},
		{[]string{"copy", "--to", "etcd:127.0.0.1:1/a"}, "this program has no stores of etcd"},
		{[]string{"copy", "--to", "s3://a"}, "it is the path of a Badger directory or remote:…"},
	} {
		if code, _, stderr := runIn(t.Context(), t, cfg, "remote:a", test.args...); code != cli.ExitUsage || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: exit code %d, stderr %q; want %q", test.args, code, stderr, test.want)
		}
	}
}
