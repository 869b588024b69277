package etcdstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

// nodeVariable holds the node that this process is to be, and not a test.
const nodeVariable = "ETCDSTORE_TEST_NODE"

// A nodeSpec is what a process that is a node is told.
type nodeSpec struct {
	Address, Prefix, Name string
	Max                   uint32 // the version that its program goes to; it supports the one before it, too
}

const nodeTTL = 5 * time.Second

// nodeLadder are the migrations of a program that goes to version. Rows say which
// version they are of.
func nodeLadder(version uint32) *migrate.Registry {
	r := migrate.NewRegistry(migrate.Migration{Version: 1, Name: "begin", Up: func(_ context.Context, tx *migrate.Tx) error {
		return tx.Set(entry("rows/first", "v1"))
	}})
	if version > 1 {
		r.Register(migrate.Migration{Version: 2, Name: "rewrite", Up: migrate.Rewrite([]byte("rows/"), func(row []byte) ([]byte, error) {
			if string(row) != "v1" {
				return nil, fmt.Errorf("a row of %s before v2", row)
			}
			return []byte("v2"), nil
		})})
	}
	return r
}

// beNode is the main function of a process that is a node. It upgrades the store as far
// as it may, joins, adds rows of the active version, and upgrades again when it was held
// back. It says what happens, and leaves when its standard input ends.
func beNode(text string) error {
	var spec nodeSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		leave()
	}()
	st, err := etcdstore.Open(context.Background(), []string{spec.Address}, spec.Prefix, etcdstore.Options{Logger: quiet})
	if err != nil {
		return err
	}
	o := migrateOptions(nodeLadder(spec.Max))
	o.TurnTTL = nodeTTL
	held, err := nodeUp(ctx, st, o)
	if err != nil {
		return st.Close()
	}
	m, err := cluster.Join(ctx, st, cluster.Options{
		Name: spec.Name, Program: fmt.Sprintf("v%d", spec.Max), Min: max(1, spec.Max-1), Max: spec.Max, TTL: nodeTTL, Logger: quiet,
	})
	if err != nil {
		fmt.Println("not joined:", err)
		return st.Close()
	}
	fmt.Println("joined", m.Version())
	for n := 0; ctx.Err() == nil && m.Err() == nil; n++ {
		if err := addRow(ctx, m, spec.Name, n); err != nil && ctx.Err() == nil {
			fmt.Println("no row:", err)
		}
		if held && n%20 == 0 {
			if held, err = nodeUp(ctx, st, o); err != nil {
				return err
			}
			if !held {
				fmt.Println("upgraded")
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !errors.Is(m.Err(), cluster.ErrOutOfRange) {
		if err := m.Leave(context.Background()); err != nil {
			return err
		}
	}
	fmt.Println("left:", m.Err())
	return st.Close()
}

// nodeUp upgrades the store and reports whether that was held back.
func nodeUp(ctx context.Context, st store.Store, o migrate.Options) (held bool, err error) {
	_, err = migrate.Up(ctx, st, o)
	switch {
	case errors.Is(err, migrate.ErrHeldBack):
		fmt.Println("held back:", err)
		return true, nil
	case err != nil && ctx.Err() == nil:
		fmt.Println("refused:", err)
	}
	return false, err
}

// addRow adds a row of the version that the transaction has.
func addRow(ctx context.Context, m *cluster.Member, name string, n int) error {
	return store.Update(ctx, m.Store(), func(txn store.Txn) error {
		version, _ := cluster.Version(txn)
		return txn.Set(entry(fmt.Sprintf("rows/%s/%06d", name, n), fmt.Sprintf("v%d", version)))
	})
}

// startNode starts a process that is a node.
func startNode(t *testing.T, address, prefix, name string, version uint32) *worker {
	t.Helper()
	text, err := json.Marshal(nodeSpec{address, prefix, name, version})
	if err != nil {
		t.Fatal(err)
	}
	p, out := startProcess(t, t.TempDir(), nodeVariable+"="+string(text))
	w := &worker{process: p, lines: make(chan string, 1000)}
	go func() {
		defer close(w.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			w.lines <- in.Text()
		}
	}()
	return w
}

// ask closes the node's standard input, so that it leaves.
func ask(t *testing.T, nodes ...*worker) {
	t.Helper()
	for _, n := range nodes {
		if err := n.stdin.Close(); err != nil {
			t.Error(err)
		}
		n.wait("left:")
	}
}

// rowsOf returns how many rows the store has of each version under prefix.
func rowsOf(t *testing.T, st store.Store, prefix string) map[string]int {
	t.Helper()
	rows := map[string]int{}
	err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: []byte(prefix)}) {
			if err != nil {
				return err
			}
			rows[string(e.Value)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestRollingUpgrade replaces the nodes of a cluster one by one, of which one is killed,
// one stands still and one leaves. The version goes up when the last old one is gone,
// the new ones go on meanwhile, and the one that stood still writes nothing afterwards.
func TestRollingUpgrade(t *testing.T) {
	prefix, address := newPrefix(), sharedAddress(t)
	st := open(t, prefix, etcdstore.Options{}, address)
	var old []*worker
	for _, name := range []string{"killed", "paused", "leaves"} {
		n := startNode(t, address, prefix, name, 1)
		n.wait("joined 1")
		old = append(old, n)
	}
	killed, paused, leaves := old[0], old[1], old[2]

	first := startNode(t, address, prefix, "first", 2)
	first.wait("held back")
	first.wait("joined 1")
	killed.signal(syscall.SIGKILL)
	second := startNode(t, address, prefix, "second", 2)
	second.wait("joined 1")
	paused.stop()
	first.wait("held back")
	first.wait("held back") // and had looked at the other two
	if got := value(t, st, "system:schema_version"); got != "\x00\x00\x00\x01" {
		t.Fatalf("the version is %q while an old node is alive", got)
	}
	ask(t, leaves)
	first.wait("upgraded")
	second.wait("upgraded")

	before := rowsOf(t, st, "rows/paused/")
	if before["v2"] == 0 || before["v1"] != 0 {
		t.Errorf("the rows of the paused node are %v, want that all went to v2", before)
	}
	paused.signal(syscall.SIGCONT)
	paused.wait("left: system schema: version out of the node's range: node paused (v1) supports v1 only")
	if diff := cmp.Diff(before, rowsOf(t, st, "rows/paused/")); diff != "" {
		t.Errorf("the rows of the paused node when it has woken up (-before +after):\n%s", diff)
	}
	late := startNode(t, address, prefix, "late", 1)
	late.wait("refused: cannot downgrade system schema from v2 to v1")

	ask(t, first, second)
	rows := rowsOf(t, st, "rows/")
	if rows["v1"] != 0 || len(rows) != 1 {
		t.Errorf("rows = %v, want all of v2", rows)
	}
	for _, n := range []*worker{first, second} {
		for _, line := range n.seen {
			if strings.Contains(line, "no row") {
				t.Errorf("a new node could not write: %s", line)
			}
		}
	}
	if nodes := rowsOf(t, st, "system:schema_node:"); len(nodes) != 0 {
		t.Errorf("%d nodes are left", len(nodes))
	}
}
