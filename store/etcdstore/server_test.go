package etcdstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/internal/etcdtest"
)

// memberVariable holds the member that this process is to be, and not a test.
const memberVariable = "ETCDSTORE_TEST_MEMBER"

func TestMain(m *testing.M) {
	if text := os.Getenv(memberVariable); text != "" {
		if err := beMember(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(workerVariable); text != "" {
		if err := beWorker(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(nodeVariable); text != "" {
		if err := beNode(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	shared.stop()
	os.Exit(code)
}

// A server is one member in this process, with a cluster of its own.
type server struct {
	once    sync.Once
	dir     string
	member  *embed.Etcd
	address string
	err     error
}

// shared is for the tests that need no server of their own. Their stores have
// different prefixes.
var shared server

func (s *server) start() {
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "etcdstore"); s.err == nil {
			s.member, s.address, s.err = etcdtest.Start(etcdtest.NewConfig(s.dir, "shared"))
		}
	})
}

func (s *server) stop() {
	if s.member != nil {
		s.member.Close()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

func sharedAddress(t testing.TB) string {
	t.Helper()
	shared.start()
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.address
}

// startServer starts a member with a cluster of its own and stops it at the end of
// the test.
func startServer(t *testing.T, configure func(c *embed.Config)) (address string) {
	t.Helper()
	c := etcdtest.NewConfig(t.TempDir(), "alone")
	if configure != nil {
		configure(c)
	}
	member, address, err := etcdtest.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	return address
}

var quiet = slog.New(slog.DiscardHandler)

var prefixes atomic.Int64

// newPrefix returns a prefix that no store has.
func newPrefix() string { return fmt.Sprintf("test/%d", prefixes.Add(1)) }

// open opens a store and closes it at the end of the test.
func open(t testing.TB, prefix string, o etcdstore.Options, addresses ...string) *etcdstore.Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	st, err := etcdstore.Open(context.WithoutCancel(t.Context()), addresses, prefix, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return st
}

// openShared opens an empty store on the shared server.
func openShared(t testing.TB) *etcdstore.Store {
	t.Helper()
	return open(t, newPrefix(), etcdstore.Options{}, sharedAddress(t))
}

// newClient returns a client of etcd's own.
func newClient(t testing.TB, addresses ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: addresses, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	return c
}

// A memberSpec is what a process that is a member is told.
type memberSpec struct {
	Name, Cluster string
}

// beMember is the main function of a process that is one member of a cluster. It
// says where it serves clients, and ends when its standard input does.
func beMember(text string) error {
	var spec memberSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	c := etcdtest.NewConfig(spec.Name, spec.Name)
	peer := peerURL(spec.Name)
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = spec.Cluster
	c.TickMs, c.ElectionMs = 50, 500
	member, address, err := etcdtest.Start(c)
	if err != nil {
		return err
	}
	fmt.Println(address)
	_, err = io.Copy(io.Discard, os.Stdin)
	member.Close()
	return err
}

// peerURL is a socket in the directory of the cluster, so that members know of each
// other before they run.
func peerURL(name string) url.URL { return url.URL{Scheme: "unix", Host: name + ":0"} }

// A process can be killed and stopped. It is a member, unless it has no address.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	address string
}

// startCluster starts a cluster of n processes and ends it with the test.
func startCluster(t *testing.T, n int) []*process {
	t.Helper()
	dir := t.TempDir()
	var members []string
	for i := range n {
		name := fmt.Sprint("m", i)
		peer := peerURL(name)
		members = append(members, name+"="+peer.String())
	}
	cluster := make([]*process, n)
	outputs := make([]*bufio.Reader, n)
	for i := range cluster {
		spec, err := json.Marshal(memberSpec{fmt.Sprint("m", i), strings.Join(members, ",")})
		if err != nil {
			t.Fatal(err)
		}
		cluster[i], outputs[i] = startProcess(t, dir, memberVariable+"="+string(spec))
	}
	for i, p := range cluster {
		line, err := outputs[i].ReadString('\n')
		if err != nil {
			t.Fatalf("a member of the cluster did not start: %v", err)
		}
		p.address = strings.TrimSpace(line)
	}
	return cluster
}

// startProcess starts what this binary is with variable, and kills it at the end of the
// test.
func startProcess(t *testing.T, dir, variable string) (*process, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(exe)}
	p.cmd.Dir, p.cmd.Stderr = dir, os.Stderr
	p.cmd.Env = append(os.Environ(), variable)
	p.stdin, err = p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // nobody needs what it holds
		_ = p.cmd.Wait()
	})
	return p, bufio.NewReader(stdout)
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// stop stops the process with SIGSTOP and returns when it stands still.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		p.t.Fatalf("the process does not stand still: %v, %v", status, err)
	}
}

func addresses(cluster []*process) []string {
	var all []string
	for _, p := range cluster {
		all = append(all, p.address)
	}
	return all
}

// leader returns the member that leads, once there is one, and the others.
func leader(t *testing.T, cluster []*process) (leader *process, followers []*process) {
	t.Helper()
	c := newClient(t, cluster[0].address)
	for leader == nil {
		followers = nil
		for _, p := range cluster {
			status, err := c.Status(t.Context(), p.address)
			if err != nil {
				t.Fatal(err)
			}
			if status.Header.MemberId == status.Leader {
				leader = p
			} else {
				followers = append(followers, p)
			}
		}
	}
	return leader, followers
}

// short is a timeout for requests that get no answer, and fair is one for those, too, if
// others before them must get one.
const (
	short = 300 * time.Millisecond
	fair  = 3 * time.Second
)

func entry(key, value string) store.Entry {
	return store.Entry{Key: []byte(key), Value: []byte(value)}
}

// put commits entries in one transaction.
func put(t *testing.T, st store.Store, entries ...store.Entry) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
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
}

// value returns the value of key, "" if it is not there.
func value(t *testing.T, st store.Store, key string) (value string) {
	t.Helper()
	err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: []byte(key)}) {
			if err != nil {
				return err
			}
			if string(e.Key) == key {
				value = string(e.Value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// lowRequestBytes makes a server refuse requests that the default options allow.
func lowRequestBytes(c *embed.Config) { c.MaxRequestBytes = 50_000 }
