package migrate_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// node is a node that supports versions from min to max.
func node(name string, min, max uint32) cluster.Options {
	return cluster.Options{Name: name, Program: "app " + name, Min: min, Max: max, Logger: slog.New(slog.DiscardHandler)}
}

// join makes a node of the test's process, which leaves at the end of the test unless it
// does before.
func join(t *testing.T, st store.Store, o cluster.Options) *cluster.Member {
	t.Helper()
	m, err := cluster.Join(t.Context(), st, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func leave(t *testing.T, m *cluster.Member) {
	t.Helper()
	if err := m.Leave(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// signless is what is in the store but for signs of life.
func signless(t *testing.T, st store.Store) string {
	t.Helper()
	var left []string
	for line := range strings.Lines(contents(t, st)) {
		if !strings.HasPrefix(line, `"system:schema_beat:`) {
			left = append(left, line)
		}
	}
	return strings.Join(left, "")
}

// TestHeldBack: a shared store goes as far as all its live nodes support, says which
// are in the way, and goes on when they are gone.
func TestHeldBack(t *testing.T) {
	ms := ladder("one", "two", "three", "four")
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, ms[:1])
		old, middle, other := join(t, st, node("old", 1, 1)), join(t, st, node("middle", 1, 3)), join(t, st, node("other", 1, 4))
		defer leave(t, other)

		before := signless(t, st)
		report, err := up(t, st, ms)
		held, ok := errors.AsType[*migrate.HeldBackError](err)
		if !ok || !errors.Is(err, migrate.ErrHeldBack) || errors.Is(err, migrate.ErrRefused) {
			t.Fatalf("Up with an old node = %v, want that it is held back", err)
		}
		want := &migrate.HeldBackError{Schema: "system", Version: 1, Target: 4, Nodes: []cluster.Node{old.Node(), middle.Node()}}
		if old.Node().ID > middle.Node().ID {
			want.Nodes[0], want.Nodes[1] = want.Nodes[1], want.Nodes[0]
		}
		if diff := cmp.Diff(want, held); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		if report.From != 1 || report.To != 1 || len(report.Applied) != 0 {
			t.Errorf("report = %+v, want that nothing was applied", report)
		}
		if diff := cmp.Diff(before, signless(t, st)); diff != "" {
			t.Errorf("an upgrade that was held back wrote (-before +after):\n%s", diff)
		}

		leave(t, old)
		report, err = up(t, st, ms)
		if held, ok = errors.AsType[*migrate.HeldBackError](err); !ok || held.Version != 3 || len(held.Nodes) != 1 || held.Nodes[0] != middle.Node() {
			t.Errorf("Up without the oldest node = %v, want v3", err)
		}
		if report.From != 1 || report.To != 3 || len(report.Applied) != 2 {
			t.Errorf("report = %+v, want that v2 and v3 were applied", report)
		}

		leave(t, middle)
		if report, err = up(t, st, ms); err != nil || report.To != 4 {
			t.Errorf("Up without old nodes = %+v, %v; want v4", report, err)
		}
		_, err = cluster.Join(t.Context(), st, node("late", 1, 3))
		refused, ok := errors.AsType[*cluster.RangeError](err)
		if !ok || refused.Version != 4 || !errors.Is(err, cluster.ErrOutOfRange) {
			t.Errorf("an old node joins with %v, want that it is refused", err)
		}
	})
}

// TestDeadNodes: a node that gives no sign of life holds back nobody, and writes nothing
// when it wakes up.
func TestDeadNodes(t *testing.T) {
	ms := ladder("one", "two")
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, ms[:1])
		g := new(gate)
		paused := join(t, st.process(g), node("paused", 1, 1))
		g.stop()
		began := time.Now()
		mustUp(t, st, ms)
		if waited := time.Since(began); waited < ttl {
			t.Errorf("the node was taken for dead after %v, its time is %v", waited, ttl)
		}
		before := contents(t, st)
		g.goOn()
		err := paused.Store().Update(t.Context(), func(txn store.Txn) error {
			return txn.Set(store.Entry{Key: []byte("app/row"), Value: []byte("of v1")})
		})
		if refused, ok := errors.AsType[*cluster.RangeError](err); !ok || refused.Version != 2 {
			t.Errorf("Update of the node that was paused = %v, want that it is refused", err)
		}
		<-paused.Done()
		if !errors.Is(paused.Err(), cluster.ErrOutOfRange) {
			t.Errorf("Err = %v, want that it is out of range", paused.Err())
		}
		leave(t, paused)
		if diff := cmp.Diff(before, contents(t, st)); diff != "" {
			t.Errorf("the node that was paused wrote (-before +after):\n%s", diff)
		}
	})
}

// TestPausedNodeComesBack: a node that was taken for dead is one again if it supports the
// version.
func TestPausedNodeComesBack(t *testing.T) {
	ms := ladder("one", "two", "three")
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, ms[:1])
		g := new(gate)
		paused := join(t, st.process(g), node("paused", 1, 2))
		g.stop()
		remove(t, st, "system:schema_node:"+paused.Node().ID)
		remove(t, st, "system:schema_beat:"+paused.Node().ID)
		mustUp(t, st, ms[:2])
		g.goOn()
		time.Sleep(ttl)
		_, err := up(t, st, ms)
		if held, ok := errors.AsType[*migrate.HeldBackError](err); !ok || len(held.Nodes) != 1 || held.Nodes[0].ID != paused.Node().ID {
			t.Errorf("Up = %v, want that the node holds it back", err)
		}
		if paused.Err() != nil || paused.Version() != 2 {
			t.Errorf("the node is at v%d with %v, want v2", paused.Version(), paused.Err())
		}
		leave(t, paused)
	})
}

// TestNodesWait: while a migration of several transactions runs nodes neither read nor
// write, and then go on with the new version.
func TestNodesWait(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, stepped(nil)[:1])
		m := join(t, st, node("new", 1, 2))
		defer leave(t, m)
		var seen []uint32
		look := func() error {
			return m.Store().View(t.Context(), func(r store.Reader) error {
				version, ok := cluster.Version(r)
				if !ok {
					t.Error("the transaction has no version")
				}
				seen = append(seen, version)
				return nil
			})
		}
		if err := look(); err != nil {
			t.Error(err)
		}
		mustRun(t, st, slow(func(step int) error {
			if step < 3 {
				return nil
			}
			err := look()
			if upgrading, ok := errors.AsType[*cluster.UpgradingError](err); !ok || upgrading.Target != 2 || !errors.Is(err, cluster.ErrUpgrading) || !errors.Is(err, store.ErrBusy) {
				t.Errorf("View at step %d = %v, want that the store is being upgraded", step, err)
			}
			return nil
		}))
		if err := look(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]uint32{1, 2}, seen); diff != "" {
			t.Errorf("versions (-want +got):\n%s", diff)
		}
	})
}

// TestDeadMigrator: what a migrator that died leaves keeps nobody from joining, unless it
// has begun to migrate.
func TestDeadMigrator(t *testing.T) {
	t.Run("before it began", func(t *testing.T) {
		inBubble(t, func(t *testing.T, st shared) {
			mustUp(t, st, ladder("one"))
			g, up := new(gate), make(chan struct{})
			first := true
			dead := start(t, st.process(g), options(migrate.NewRegistry(append(ladder("one"), migrate.Migration{
				Version: 2, Name: "two", Up: func(ctx context.Context, _ *migrate.Tx) error {
					if first {
						first = false
						g.stop()
						close(up)
					}
					<-ctx.Done() // the turn is lost
					return ctx.Err()
				},
			})...)))
			<-up
			old := join(t, st, node("old", 1, 1)) // once the upgrade is taken back
			defer leave(t, old)
			if text := contents(t, st); strings.Contains(text, "schema_intent") || strings.Contains(text, "schema_turn") {
				t.Errorf("the store has what the dead migrator left:\n%s", text)
			}
			g.goOn()
			if r := <-dead; !errors.Is(r.err, migrate.ErrHeldBack) {
				t.Errorf("the migrator that was paused: %v, want that it is held back", r.err)
			}
		})
	})
	began := func(t *testing.T, migrates func(shared) store.Store) {
		inBubble(t, func(t *testing.T, st shared) {
			mustUp(t, st, stepped(nil)[:1])
			broken := errors.New("broken")
			_, err := up(t, migrates(st), stepped(func(step int) error {
				if step == 3 {
					return broken
				}
				return nil
			}))
			if !errors.Is(err, broken) {
				t.Fatal(err)
			}
			_, err = cluster.Join(t.Context(), st, node("old", 1, 1))
			if refused, ok := errors.AsType[*cluster.RangeError](err); !ok || !refused.Stuck || refused.Target != 2 || refused.Program != "test v1" {
				t.Errorf("Join of an old node = %v, want that the upgrade must be finished by test v1", err)
			}
			m := join(t, st, node("new", 1, 2))
			defer leave(t, m)
			read := func(store.Reader) error { return nil }
			if err := m.Store().View(t.Context(), read); !errors.Is(err, cluster.ErrUpgrading) {
				t.Errorf("View of a store that is half converted = %v, want that it is refused", err)
			}
			if _, err := cluster.Join(t.Context(), st, node("old", 1, 1)); !errors.Is(err, cluster.ErrOutOfRange) {
				t.Errorf("Join of an old node beside a new one = %v, want that it is refused", err)
			}
			mustUp(t, st, stepped(nil))
			if err := m.Store().View(t.Context(), read); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("after it began", func(t *testing.T) {
		began(t, func(st shared) store.Store { return st })
	})
	// Who migrates a store that is not shared announces nothing. It can be copied into one.
	t.Run("after it began, of a store that was not shared", func(t *testing.T) {
		began(t, func(st shared) store.Store { return st.Store })
	})
}

// TestNodesOfTolerantMigrations: a node does not hold back a migration whose author says
// that its program may go on.
func TestNodesOfTolerantMigrations(t *testing.T) {
	ms := ladder("one", "two", "three")
	ms[1].WritableFrom = 1
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, ms[:1])
		old := join(t, st, node("old", 1, 1))
		defer leave(t, old)
		_, err := up(t, st, ms)
		if held, ok := errors.AsType[*migrate.HeldBackError](err); !ok || held.Version != 2 {
			t.Errorf("Up = %v, want v2", err)
		}
		if err := old.Store().View(t.Context(), func(store.Reader) error { return nil }); err != nil {
			t.Error(err)
		}
		another := join(t, st, node("another", 1, 1))
		defer leave(t, another)
	})
}

func TestJoinRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		_, err := cluster.Join(t.Context(), st, node("early", 1, 2))
		if refused, ok := errors.AsType[*cluster.RangeError](err); !ok || refused.Version != 0 || refused.Target != 0 {
			t.Errorf("Join of a store without a version = %v, want that it is refused", err)
		}
		for _, o := range []cluster.Options{{}, {Min: 3, Max: 2}, {Max: 1, TTL: -1}, {Max: 1, TTL: time.Millisecond}, {Max: 1, Schema: "No schema"}} {
			if m, err := cluster.Join(t.Context(), st, o); err == nil {
				leave(t, m)
				t.Errorf("Join(%+v) has no error", o)
			}
		}
		if text := contents(t, st); text != "" {
			t.Errorf("a Join that was refused wrote\n%s", text)
		}
		mustUp(t, st, ladder("one"))
		m := join(t, st, node("node", 1, 1))
		leave(t, m)
		if !errors.Is(m.Err(), cluster.ErrLeft) {
			t.Errorf("Err after Leave = %v, want ErrLeft", m.Err())
		}
		if _, err := migrate.New(m.Store(), options(migrate.NewRegistry())); !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("New over the store of a node = %v, want that it is refused", err)
		}
	})
}

// TestNodes: what kvmigrate nodes shows.
func TestNodes(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, ladder("one"))
		g := new(gate)
		alive, silent := join(t, st, node("alive", 1, 2)), join(t, st.process(g), node("silent", 1, 1))
		g.stop()
		r, err := migrate.New(st, options(migrate.NewRegistry(ladder("one", "two")...)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Nodes(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		want := cluster.Status{Schema: "system", Version: 1, Nodes: []cluster.NodeStatus{
			{Node: alive.Node()}, {Node: silent.Node(), Silent: true, HoldsBack: true},
		}}
		if alive.Node().ID > silent.Node().ID {
			want.Nodes[0], want.Nodes[1] = want.Nodes[1], want.Nodes[0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("nodes (-want +got):\n%s", diff)
		}
		g.goOn()
		leave(t, alive)
		leave(t, silent)
	})
}

// TestNodeRecords freezes the bytes that docs/on-disk-format.md promises.
func TestNodeRecords(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, stepped(nil)[:1])
		m := join(t, st, cluster.Options{Name: "n1", Program: "app v1", Min: 1, Max: 2, Logger: slog.New(slog.DiscardHandler)})
		defer leave(t, m)
		var intents []store.Entry
		mustRun(t, st, slow(func(step int) error {
			if step == 3 {
				intents = entriesOf(t, st, "system:schema_intent")
			}
			return nil
		}))
		synctest.Wait()
		since := m.Node().Since.UnixMilli()
		got := append(entriesOf(t, st, "system:schema_node:"), intents...)
		want := []map[string]any{
			{"name": "n1", "program": "app v1", "min": uint64(1), "max": uint64(2), "since": uint64(since), "ttl": uint64(10000)},
			{"target": uint64(2), "floor": uint64(2), "program": "test v1", "closed": true},
		}
		if len(got) != len(want) {
			t.Fatalf("%d records, want a node and an intent", len(got))
		}
		for i, e := range got {
			var record map[string]any
			if err := value.Unmarshal(e.Value, &record); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[i], record); diff != "" {
				t.Errorf("%s (-want +got):\n%s", e.Key, diff)
			}
		}
		for _, e := range entriesOf(t, st, "system:schema_beat:") {
			var beat uint64
			if err := value.Unmarshal(e.Value, &beat); err != nil || beat == 0 {
				t.Errorf("the sign of life is %x (%v), want a number", e.Value, err)
			}
		}
	})
}

// TestNodeNoUTF8: names with bytes that are no UTF-8 keep nobody from reading who the
// nodes are.
func TestNodeNoUTF8(t *testing.T) {
	inBubble(t, func(t *testing.T, st shared) {
		mustUp(t, st, ladder("one"))
		m := join(t, st, node("caf\xe9", 1, 2))
		defer leave(t, m)
		mustUp(t, st, ladder("one", "two"))
		r, err := migrate.New(st, options(migrate.NewRegistry(ladder("one", "two")...)))
		if err != nil {
			t.Fatal(err)
		}
		status, err := r.Nodes(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(status.Nodes) != 1 || status.Nodes[0].Name != "caf\uFFFD" || status.Nodes[0].Program != "app caf\uFFFD" {
			t.Errorf("nodes = %v", status.Nodes)
		}
	})
}
