package cli_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A lent is a store that several processes share, and that a command does not close.
type lent struct{ store.Store }

func (lent) Shared() bool          { return true }
func (l lent) Unwrap() store.Store { return l.Store }
func (lent) Close() error          { return nil }

// TestNodes: nodes says who holds back what up does not do.
func TestNodes(t *testing.T) { synctest.Test(t, testNodes) }

func testNodes(t *testing.T) {
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	nop := func(context.Context, *migrate.Tx) error { return nil }
	one := migrate.Migration{Version: 1, Name: "one", Up: nop}
	two := migrate.Migration{Version: 2, Name: "two", Up: nop}
	quiet := slog.New(slog.DiscardHandler)
	if _, err := migrate.Up(t.Context(), st, migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(one), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []cluster.Options{{Name: "a", Program: "notes 1.0", Max: 1}, {Name: "b", Program: "notes 2.0", Min: 1, Max: 2}} {
		o.Schema, o.Logger = "notes", quiet
		m, err := cluster.Join(t.Context(), st, o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := m.Leave(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
	}
	cfg := cli.Config{
		Name: "notes", Options: migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(one, two)},
		Open: func(context.Context, string, cli.OpenOptions) (store.Store, error) { return lent{st}, nil },
	}
	code, stdout, stderr := runIn(t.Context(), t, cfg, "any", "nodes", "--json")
	if code != cli.ExitDone {
		t.Fatalf("nodes: exit code %d\n%s", code, stderr)
	}
	type node struct {
		Name      string
		Program   string
		Min, Max  uint32
		Silent    bool
		HoldsBack bool `json:"holds_back"`
	}
	var got struct {
		Version, Latest uint32
		Nodes           []node
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	want := []node{{"a", "notes 1.0", 1, 1, false, true}, {"b", "notes 2.0", 1, 2, false, false}}
	if len(got.Nodes) == 2 && got.Nodes[0].Name == "b" { // their IDs are random
		got.Nodes[0], got.Nodes[1] = got.Nodes[1], got.Nodes[0]
	}
	if diff := cmp.Diff(want, got.Nodes); diff != "" || got.Version != 1 || got.Latest != 2 {
		t.Errorf("nodes at v%d of v%d (-want +got):\n%s", got.Version, got.Latest, diff)
	}
	_, stdout, _ = runIn(t.Context(), t, cfg, "any", "nodes")
	for _, text := range []string{"NODE", "notes 1.0", "alive, holds back v2\n"} {
		if !strings.Contains(stdout, text) {
			t.Errorf("nodes says nothing of %q:\n%s", text, stdout)
		}
	}

	code, stdout, stderr = runIn(t.Context(), t, cfg, "any", "up", "--json")
	if code != cli.ExitFailed || !strings.Contains(stderr, "notes schema: upgrade held back by nodes: it stays at v1 and does not go to v2, because of a (notes 1.0, supports v1 to v1).") {
		t.Errorf("up: exit code %d, want %d and who holds it back:\n%s", code, cli.ExitFailed, stderr)
	}
	if !strings.Contains(stdout, `"to": 1`) || !strings.Contains(stdout, "held back by nodes") {
		t.Errorf("up --json = %s, want v1 and the error", stdout)
	}
}
