package etcdstore_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error = %v, want one that matches %q", what, err, want)
	}
}

func set(e store.Entry) func(store.Txn) error {
	return func(tx store.Txn) error { return tx.Set(e) }
}

// numbered returns n entries with that value.
func numbered(n int, value string) []store.Entry {
	entries := make([]store.Entry, n)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("rows/%04d", i), value)
	}
	return entries
}

// fill writes entries in as many transactions as it takes.
func fill(t *testing.T, st store.Store, entries []store.Entry) {
	t.Helper()
	for part := range slices.Chunk(entries, st.Limits().TxnEntries) {
		put(t, st, part...)
	}
}

func keys(r store.Reader, s store.Scan) (keys []string, err error) {
	for e, err := range r.Scan(s) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, string(e.Key))
	}
	return keys, nil
}

// TestReadSets: a transaction conflicts with a change of what it read, also if that is
// more than a request compares, and with no other.
func TestReadSets(t *testing.T) {
	for _, test := range []struct {
		name  string
		read  int
		rival string // the key that changes meanwhile
		want  error
	}{
		{"as many as fit, one of them changes", 128, "rows/0127", store.ErrConflict},
		{"as many as fit, another changes", 128, "rows/0128", nil},
		{"more, one of them changes", 129, "rows/0128", store.ErrConflict},
		{"more, another changes", 129, "rows/0150", nil},
		{"more, an insert", 129, "new", nil},
		{"more, an insert of a key that was found absent", 129, "absent", store.ErrConflict},
		{"more, none changes", 129, "", nil},
		{"all pages, none changes", 200, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := openShared(t)
			fill(t, st, numbered(200, "v"))
			err := st.Update(t.Context(), func(tx store.Txn) error {
				n := 0
				if test.rival == "absent" {
					if _, err := tx.Get([]byte("absent")); !errors.Is(err, store.ErrNotFound) {
						return err
					}
				}
				for _, err := range tx.Scan(store.Scan{Prefix: []byte("rows/")}) {
					if err != nil {
						return err
					}
					if n++; n == test.read {
						break
					}
				}
				if test.rival != "" {
					put(t, st, entry(test.rival, "rival"))
				}
				return tx.Set(entry("out", "v"))
			})
			wantError(t, "Update", err, test.want)
			if got := value(t, st, "out"); (got == "v") != (test.want == nil) {
				t.Errorf("the transaction left %q", got)
			}
		})
	}
}

// TestReadSetAmongCommits: a transaction that read more than a request compares is told
// from those that were committed meanwhile, as long as each says what it wrote and etcd
// has not forgotten it.
func TestReadSetAmongCommits(t *testing.T) {
	others := func(n int) func(*testing.T, *etcdstore.Store, *clientv3.Client, string) {
		return func(t *testing.T, st *etcdstore.Store, _ *clientv3.Client, _ string) {
			for i := range n {
				put(t, st, entry("beat", fmt.Sprint(i)), entry("other", fmt.Sprint(i)))
			}
		}
	}
	for _, test := range []struct {
		name      string
		meanwhile func(t *testing.T, st *etcdstore.Store, c *clientv3.Client, prefix string)
		want      error
	}{
		{"many others", others(50), nil},
		{"the first of many", func(t *testing.T, st *etcdstore.Store, c *clientv3.Client, prefix string) {
			put(t, st, entry("beat", ""), entry("rows/0003", "rival"))
			others(20)(t, st, c, prefix)
		}, store.ErrConflict},
		{"one that does not say what it wrote", func(t *testing.T, _ *etcdstore.Store, c *clientv3.Client, prefix string) {
			if _, err := c.Put(t.Context(), prefix+"/commits", ""); err != nil {
				t.Fatal(err)
			}
		}, store.ErrConflict},
		{"all is removed and begun anew", func(t *testing.T, st *etcdstore.Store, c *clientv3.Client, prefix string) {
			if _, err := c.Delete(t.Context(), prefix+"/", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			others(1)(t, st, c, prefix)
		}, store.ErrConflict},
		{"what they wrote is compacted", func(t *testing.T, st *etcdstore.Store, c *clientv3.Client, prefix string) {
			others(3)(t, st, c, prefix)
			resp, err := c.Get(t.Context(), "k")
			if err == nil {
				_, err = c.Compact(t.Context(), resp.Header.Revision)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, store.ErrSnapshotGone},
	} {
		t.Run(test.name, func(t *testing.T) {
			prefix := newPrefix()
			st, c := open(t, prefix, etcdstore.Options{}, sharedAddress(t)), newClient(t, sharedAddress(t))
			fill(t, st, numbered(200, "v"))
			err := st.Update(t.Context(), func(tx store.Txn) error {
				if _, err := keys(tx, store.Scan{Prefix: []byte("rows/")}); err != nil {
					return err
				}
				test.meanwhile(t, st, c, prefix)
				return tx.Set(entry("out", "v"))
			})
			wantError(t, "Update", err, test.want)
			if got := value(t, st, "out"); (got == "v") != (test.want == nil) {
				t.Errorf("the transaction left %q", got)
			}
		})
	}
}

// TestLongReadSet: comparisons that do not fit beside the writes become one.
func TestLongReadSet(t *testing.T) {
	st := openShared(t)
	l := st.Limits()
	long := func(i int) []byte { return append(bytes.Repeat([]byte("k"), 4000), fmt.Sprint(i)...) }
	update := func(rival func()) error {
		return st.Update(t.Context(), func(tx store.Txn) error {
			for i := range l.TxnEntries {
				if _, err := tx.Get(long(i)); !errors.Is(err, store.ErrNotFound) {
					return err
				}
			}
			rival()
			for bytes, i := l.TxnBytes, 0; i < l.TxnEntries; i++ {
				e := store.Entry{Key: fmt.Append(nil, "out/", i)}
				e.Value = make([]byte, bytes/(l.TxnEntries-i)-l.Cost(e))
				bytes -= l.Cost(e)
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	wantError(t, "Update beside a rival", update(func() { put(t, st, entry(string(long(3)), "v")) }), store.ErrConflict)
	remove := func(tx store.Txn) error { return tx.Delete(long(3)) }
	if err := store.Update(t.Context(), st, remove); err != nil {
		t.Fatal(err)
	}
	if err := update(func() {}); err != nil {
		t.Errorf("Update of as many entries and bytes as the limits say: %v", err)
	}
}

// TestDeletesConflict: two transactions that each make sure that others are left must
// not both delete, as they would if only live keys were compared.
func TestDeletesConflict(t *testing.T) {
	for _, rows := range []int{2, 150} { // compared one by one, and as a whole
		st := openShared(t)
		fill(t, st, numbered(rows, "v"))
		leaveOne := func(i int, then func()) error {
			return st.Update(t.Context(), func(tx store.Txn) error {
				got, err := keys(tx, store.Scan{Prefix: []byte("rows/")})
				if err != nil || len(got) < rows {
					return errors.Join(err, errors.New("too few rows are left"))
				}
				then()
				return tx.Delete(numbered(rows, "")[i].Key)
			})
		}
		err := leaveOne(0, func() {
			if err := leaveOne(1, func() {}); err != nil {
				t.Errorf("the first of two deletes: %v", err)
			}
		})
		wantError(t, "the second of two deletes", err, store.ErrConflict)
	}
}

// TestPagesAreOneSnapshot: what commits between two pages of a scan does not show.
func TestPagesAreOneSnapshot(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		st := openShared(t)
		rows := numbered(300, "v")
		fill(t, st, rows)
		var got []string
		err := st.View(t.Context(), func(r store.Reader) error {
			for e, err := range r.Scan(store.Scan{Reverse: reverse}) {
				if err != nil {
					return err
				}
				if len(got) == 5 {
					put(t, st, entry("rows/0150+", "new"), entry("rows/0200", "changed"))
					if err := st.Update(t.Context(), func(tx store.Txn) error { return tx.Delete(rows[250].Key) }); err != nil {
						return err
					}
				}
				got = append(got, string(e.Key)+string(e.Value))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, e := range rows {
			want = append(want, string(e.Key)+string(e.Value))
		}
		if reverse {
			slices.Reverse(want)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("entries of a scan (reverse: %t) beside a rival (-want +got):\n%s", reverse, diff)
		}
	}
}

// TestServerWithLowerLimits: the number of operations is found out at the beginning,
// and a request that is too large says so.
func TestServerWithLowerLimits(t *testing.T) {
	address := startServer(t, func(c *embed.Config) { c.MaxTxnOps, c.MaxRequestBytes = 40, 100_000 })
	st := open(t, newPrefix(), etcdstore.Options{}, address)
	if got := st.Limits().TxnEntries; got != 31 {
		t.Errorf("TxnEntries = %d; want the half of the half of 128 less one", got)
	}
	fill(t, st, numbered(100, "v"))
	for _, size := range []int{100_000, 1_000_000} { // refused by etcd, and by its gRPC
		err := st.Update(t.Context(), set(store.Entry{Key: []byte("k"), Value: make([]byte, size)}))
		wantError(t, fmt.Sprintf("Set of %d bytes", size), err, store.ErrTxnTooBig)
		if errors.Is(err, store.ErrUnknown) {
			t.Errorf("Set of %d bytes: %v; a refused request is certain", size, err)
		}
	}
	// A read set that is too large for the server, though not for the options.
	err := st.Update(t.Context(), func(tx store.Txn) error {
		for i := range 30 {
			if _, err := tx.Get(append(make([]byte, 8000), byte(i))); !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return tx.Set(entry("k", "v"))
	})
	if err != nil {
		t.Errorf("Update with a large read set: %v; want it compared as a whole", err)
	}
	address = startServer(t, func(c *embed.Config) { c.MaxTxnOps = 10 })
	_, err = etcdstore.Open(t.Context(), []string{address}, newPrefix(), etcdstore.Options{Logger: quiet})
	wantError(t, "Open of a server with --max-txn-ops=10", err, store.ErrUnsupported)
}

// TestCompaction: a snapshot that etcd has compacted away is an error that has a
// name, and a transaction is tried again.
func TestCompaction(t *testing.T) {
	st := openShared(t)
	fill(t, st, numbered(100, "v"))
	client := newClient(t, sharedAddress(t))
	compact := func() {
		t.Helper()
		put(t, st, entry("other", "v"))
		now, err := client.Get(t.Context(), "any")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Compact(t.Context(), now.Header.Revision); err != nil {
			t.Fatal(err)
		}
	}
	err := st.View(t.Context(), func(r store.Reader) error {
		for _, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			compact()
			_, err = r.Get([]byte("rows/0001"))
			return err
		}
		return nil
	})
	wantError(t, "Get of a compacted snapshot", err, store.ErrSnapshotGone)
	attempts := 0
	err = store.Update(t.Context(), st, func(tx store.Txn) error {
		if attempts++; attempts == 1 {
			compact()
		}
		all, err := keys(tx, store.Scan{Prefix: []byte("rows/")})
		if err != nil {
			return err
		}
		return tx.Set(entry("count", fmt.Sprint(len(all))))
	})
	if err != nil || attempts != 2 || value(t, st, "count") != "100" {
		t.Errorf("Update whose snapshot is compacted: %v after %d attempts; want the second to commit", err, attempts)
	}
}

// TestQuota: a cluster without room refuses writes by a name, and says what to do; the
// store works again once that is done.
func TestQuota(t *testing.T) {
	address := startServer(t, func(c *embed.Config) { c.QuotaBackendBytes = 4 << 20 })
	st := open(t, newPrefix(), etcdstore.Options{}, address)
	put(t, st, entry("k", "v"))
	var err error
	for i := 0; (err == nil || errors.Is(err, store.ErrUnknown)) && i < 100; i++ { // the one that fills it is carried out
		err = st.Update(t.Context(), set(store.Entry{Key: []byte("big"), Value: make([]byte, 1<<18)}))
	}
	wantError(t, "Set in a full store", err, store.ErrNoSpace)
	if errors.Is(err, store.ErrUnknown) || !strings.Contains(err.Error(), "alarm disarm") {
		t.Errorf("error = %v, want a certain one that says what to do", err)
	}
	err = st.Update(t.Context(), func(tx store.Txn) error { return tx.Delete([]byte("k")) })
	wantError(t, "Delete in a full store", err, store.ErrNoSpace)
	if got := value(t, st, "k"); got != "v" {
		t.Errorf("a full store reads %q", got)
	}

	client := newClient(t, address)
	now, err := client.Get(t.Context(), "any")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Defragment(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	put(t, st, entry("k", "again"))
}

// TestQuotaAmongWriters: a server carries out the requests that use its quota up, and then
// says that it has no room. Nobody is told that nothing was written who has written.
func TestQuotaAmongWriters(t *testing.T) {
	address := startServer(t, func(c *embed.Config) { c.QuotaBackendBytes = 16 << 20 })
	st := open(t, newPrefix(), etcdstore.Options{}, address)
	errs := make([]error, 32)
	last := make([]string, len(errs))
	var group sync.WaitGroup
	for w := range errs {
		group.Go(func() {
			for i := 0; errs[w] == nil; i++ {
				last[w] = fmt.Sprintf("%d of %d", i, w)
				errs[w] = st.Update(t.Context(), set(store.Entry{Key: []byte(last[w]), Value: make([]byte, 100_000)}))
			}
		})
	}
	group.Wait()
	for w, err := range errs {
		wantError(t, "Set in a full store", err, store.ErrNoSpace)
		if written := value(t, st, last[w]) != ""; written && !errors.Is(err, store.ErrUnknown) {
			t.Errorf("transaction %s is committed; Update: %v", last[w], err)
		}
	}
}

func TestUnsupported(t *testing.T) {
	st := openShared(t)
	for _, e := range []store.Entry{
		{Key: []byte("k"), ExpiresAt: 1 << 40},
		{Key: []byte("k"), Meta: 1},
	} {
		wantError(t, fmt.Sprintf("Set of %+v", e), st.Update(t.Context(), set(e)), store.ErrUnsupported)
	}
	if got := value(t, st, "k"); got != "" {
		t.Errorf("a Set that was refused left %q", got)
	}
}

func TestPrefixes(t *testing.T) {
	address := sharedAddress(t)
	_, err := etcdstore.Open(t.Context(), []string{address}, "/", etcdstore.Options{Logger: quiet})
	wantError(t, "Open with an empty prefix", err, store.ErrUnsupported)

	prefix := newPrefix()
	for _, p := range []string{prefix, prefix + "0", prefix + "-x"} {
		put(t, open(t, p, etcdstore.Options{}, address), entry("k", p))
	}
	for _, p := range []string{prefix, prefix + "/", prefix + "0", prefix + "-x"} {
		st := open(t, p, etcdstore.Options{}, address)
		err := st.View(t.Context(), func(r store.Reader) error {
			got, err := keys(r, store.Scan{})
			if diff := cmp.Diff([]string{"k"}, got); diff != "" {
				t.Errorf("keys under %s (-want +got):\n%s", p, diff)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := value(t, st, "k"); got != strings.TrimSuffix(p, "/") {
			t.Errorf("the value under %s is %q", p, got)
		}
	}
}

// TestOneInAnother: no store is opened among the entries of another one, or has one among
// its own; those that only share the beginning of their paths do not meet.
func TestOneInAnother(t *testing.T) {
	address := sharedAddress(t)
	for _, test := range []struct {
		first, second string // below a prefix
		meet          bool
	}{
		{"", "/data", true},
		{"", "/data/x", true},
		{"/x", "/x/data/y/data/z", true},
		{"/data", "", true},
		{"/data/x/data/y", "", true},
		{"", "/x", false},
		{"", "/database", false},
		{"", "/commits", false},
		{"", "/x/data", false},
		{"/x/data", "", false},
	} {
		prefix := newPrefix()
		put(t, open(t, prefix+test.first, etcdstore.Options{}, address), entry("k", "v"))
		st, err := etcdstore.Open(t.Context(), []string{address}, prefix+test.second, etcdstore.Options{Logger: quiet})
		if err == nil {
			err = st.Update(t.Context(), set(entry("k", "v")))
			if closeErr := st.Close(); closeErr != nil {
				t.Error(closeErr)
			}
		}
		switch {
		case !test.meet && err != nil:
			t.Errorf("PREFIX%s after PREFIX%s: %v", test.second, test.first, err)
		case test.meet && (!errors.Is(err, store.ErrUnsupported) || !strings.Contains(err.Error(), prefix+test.first+" is that of another store")):
			t.Errorf("PREFIX%s after PREFIX%s: %v; want an error that names the other store", test.second, test.first, err)
		}
	}
}

// TestUnreachable: a cluster that is not there is an error within the time for it.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = deaf.Close() }()
	for _, test := range []struct {
		name      string
		endpoints []string
		timeout   time.Duration
		want      []string
	}{
		{"refused", []string{address}, time.Hour, []string{"no member can be reached: " + address + ": ", "connection refused"}},
		{"refused, with TLS", []string{"https://" + address}, time.Hour, []string{"https://" + address + ": ", "connection refused"}},
		{"silent", []string{deaf.Addr().String()}, short, []string{deaf.Addr().String() + ": it did not answer within 300ms"}},
		{"several", []string{address, deaf.Addr().String()}, fair, []string{address + ": ", "connection refused", deaf.Addr().String() + ": it did not"}},
		{"unknown host", []string{"no.such.host.invalid:2379"}, time.Hour, []string{"no.such.host.invalid:2379: "}},
	} {
		_, err := etcdstore.Open(t.Context(), test.endpoints, newPrefix(), etcdstore.Options{DialTimeout: test.timeout, Logger: quiet})
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, context.Canceled) {
				t.Errorf("%s: Open: %v; want %q", test.name, err, want)
			}
		}
	}
	put(t, open(t, newPrefix(), etcdstore.Options{}, address, sharedAddress(t)), entry("k", "v"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = etcdstore.Open(ctx, []string{address}, newPrefix(), etcdstore.Options{Logger: quiet})
	wantError(t, "Open with a context that has ended", err, context.Canceled)
}

// TestLentClient: Close leaves it open, and a store whose client was closed behind its
// back says so.
func TestLentClient(t *testing.T) {
	client := newClient(t, sharedAddress(t))
	lend := func() *etcdstore.Store {
		st, err := etcdstore.New(t.Context(), client, newPrefix(), etcdstore.Options{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	first, second := lend(), lend()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	put(t, second, entry("k", "v"))
	err := second.Update(t.Context(), func(tx store.Txn) error {
		if err := client.Close(); err != nil {
			return err
		}
		_, err := tx.Get([]byte("k"))
		wantError(t, "Get through a closed client", err, store.ErrClosed)
		return tx.Set(entry("k", "w"))
	})
	wantError(t, "Update through a closed client", err, store.ErrClosed)
	wantError(t, "View through a closed client", second.View(t.Context(), func(store.Reader) error { return nil }), store.ErrClosed)
}

// TestNoDeadlineReachesTheServer: a server that gives up a moment before the client
// makes the client send a commit once more.
func TestNoDeadlineReachesTheServer(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{sharedAddress(t)}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				mu.Lock()
				defer mu.Unlock()
				if _, ok := ctx.Deadline(); ok {
					t.Errorf("%s is sent with a deadline", method)
				}
				seen[method] = true
				return invoke(ctx, method, req, reply, cc, opts...)
			})},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	st, err := etcdstore.New(ctx, client, newPrefix(), etcdstore.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Update(ctx, set(entry("k", "v"))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"/etcdserverpb.KV/Range": true, "/etcdserverpb.KV/Txn": true}, seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	address := startServer(t, func(c *embed.Config) {
		c.Dir = dir
		c.ClientAutoTLS = true
		c.ListenClientUrls[0].Scheme, c.AdvertiseClientUrls[0].Scheme = "https", "https"
	})
	certificate, err := os.ReadFile(filepath.Join(dir, "fixtures", "client", "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		t.Fatal("the server's certificate cannot be read")
	}
	put(t, open(t, newPrefix(), etcdstore.Options{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, address), entry("k", "v"))

	o := etcdstore.Options{TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, DialTimeout: time.Hour, Logger: quiet}
	_, err = etcdstore.Open(t.Context(), []string{address}, newPrefix(), o)
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("Open that does not trust the server: %v; want an error that says so", err)
	}
}

func TestAuthentication(t *testing.T) {
	address := startServer(t, nil)
	client := newClient(t, address)
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.RoleAdd(ctx, "root"))
	must(client.UserAdd(ctx, "root", "rootword"))
	must(client.UserGrantRole(ctx, "root", "root"))
	must(client.RoleAdd(ctx, "app"))
	must(client.RoleGrantPermission(ctx, "app", "mine/", clientv3.GetPrefixRangeEnd("mine/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(client.RoleGrantPermission(ctx, "app", "others/data/mine/", clientv3.GetPrefixRangeEnd("others/data/mine/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(client.UserAdd(ctx, "app", "appword"))
	must(client.UserGrantRole(ctx, "app", "app"))
	must(client.AuthEnable(ctx))

	app := etcdstore.Options{Username: "app", Password: "appword", Logger: quiet}
	put(t, open(t, "others/data/mine", app, address), entry("k", "v")) // what others has nobody lets it see
	st := open(t, "mine", app, address)
	put(t, st, entry("k", "v"))
	if got := value(t, st, "k"); got != "v" {
		t.Errorf("value = %q", got)
	}
	for _, test := range []struct {
		name, prefix string
		o            etcdstore.Options
		want         string
	}{
		{"a wrong password", "mine", etcdstore.Options{Username: "app", Password: "x", Logger: quiet}, "authentication failed"},
		{"no user", "mine", etcdstore.Options{Logger: quiet}, "user name is empty"},
		{"another's prefix", "yours", app, "permission denied"},
	} {
		_, err := etcdstore.Open(ctx, []string{address}, test.prefix, test.o)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "appword") {
			t.Errorf("Open with %s: %v; want %q", test.name, err, test.want)
		}
	}
}

// TestConnectionLost cuts the connection around a commit: the outcome is unknown,
// whatever it was.
func TestConnectionLost(t *testing.T) {
	for _, test := range []struct {
		name string
		rule rule
		want string // what is stored right after
		late string // and once the server has got everything
	}{
		{"before the request arrived", dropRequest, "before", "before"},
		{"before the response arrived", dropResponse, "after", "after"},
		{"and the request arrives late", holdRequest, "before", "after"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startProxy(t, sharedAddress(t))
			st := open(t, newPrefix(), etcdstore.Options{}, p.address())
			put(t, st, entry("k", "before"))
			p.set(test.rule, "after")
			err := store.Update(t.Context(), st, set(entry("k", "after")))
			wantError(t, "Update", err, store.ErrUnknown)
			if got := value(t, st, "k"); got != test.want {
				t.Errorf("value = %q, want %q", got, test.want)
			}
			p.release()
			if got := value(t, st, "k"); got != test.late {
				t.Errorf("value after all arrived = %q, want %q", got, test.late)
			}
		})
	}
}

// TestLateCommitConflicts: a request that arrives late does not undo what was
// committed instead of it.
func TestLateCommitConflicts(t *testing.T) {
	p := startProxy(t, sharedAddress(t))
	st := open(t, newPrefix(), etcdstore.Options{}, p.address())
	put(t, st, entry("k", "before"))
	write := func(value string) error {
		return store.Update(t.Context(), st, func(tx store.Txn) error {
			if _, err := tx.Get([]byte("k")); err != nil {
				return err
			}
			return tx.Set(entry("k", value))
		})
	}
	p.set(holdRequest, "first")
	wantError(t, "the first write", write("first"), store.ErrUnknown)
	if err := write("second"); err != nil {
		t.Fatal(err)
	}
	p.release()
	if got := value(t, st, "k"); got != "second" {
		t.Errorf("value = %q, want what was committed", got)
	}
}

// TestNoMajority: a commit that times out because followers stand still has an unknown
// outcome, and so has one whose context ends. Who reads first and tries again, once
// they go on, is not undone by either.
func TestNoMajority(t *testing.T) {
	cluster := startCluster(t, 3)
	leader, followers := leader(t, cluster)
	prefix := newPrefix()
	st := open(t, prefix, etcdstore.Options{Timeout: fair}, leader.address)
	patient := open(t, prefix, etcdstore.Options{Timeout: time.Minute}, addresses(cluster)...)
	put(t, patient, entry("k", "before"))
	write := func(ctx context.Context, st store.Store, value string, then func()) error {
		return store.Update(ctx, st, func(tx store.Txn) error {
			if _, err := tx.Get([]byte("k")); err != nil {
				return err
			}
			then()
			return tx.Set(entry("k", value))
		})
	}
	stop := func() {
		for _, f := range followers {
			f.stop()
		}
	}
	wantError(t, "Update without a majority", write(t.Context(), st, "first", stop), store.ErrUnknown)
	for _, f := range followers {
		f.signal(syscall.SIGCONT)
	}
	if err := write(t.Context(), patient, "second", func() {}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := write(ctx, patient, "third", func() {
		stop()
		time.AfterFunc(short, cancel)
	})
	wantError(t, "Update whose context ends without a majority", err, store.ErrUnknown)
	wantError(t, "Update whose context ends without a majority", err, context.Canceled)
	for _, f := range followers {
		f.signal(syscall.SIGCONT)
	}
	if err := write(t.Context(), patient, "fourth", func() {}); err != nil {
		t.Fatal(err)
	}
	if got := value(t, patient, "k"); got != "fourth" {
		t.Errorf("value = %q, want what was committed last", got)
	}
}
