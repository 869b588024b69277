package statushttp_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/migrate/statushttp"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// sharedStore is a store that several processes share.
type sharedStore struct{ store.Store }

func (sharedStore) Shared() bool { return true }

// watchedStore calls a function before each snapshot.
type watchedStore struct {
	sharedStore

	while *func()
}

func (w watchedStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if *w.while != nil {
		(*w.while)()
	}
	return w.sharedStore.View(ctx, fn)
}

// TestHeldBack: a run that nodes hold back has not failed, and says who does.
func TestHeldBack(t *testing.T) { synctest.Test(t, testHeldBack) }

func testHeldBack(t *testing.T) {
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	second := func() {}
	ms := []migrate.Migration{{Version: 1, Name: "first", Up: nothing}, {Version: 2, Name: "second", Up: func(context.Context, *migrate.Tx) error {
		second()
		return nil
	}}}
	o := migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(ms[0]), Logger: slog.New(slog.DiscardHandler)}
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	old, err := cluster.Join(t.Context(), st, cluster.Options{Schema: "notes", Name: "old", Max: 1, Logger: o.Logger})
	if err != nil {
		t.Fatal(err)
	}
	o.Registry = migrate.NewRegistry(ms...)
	var while func() // if not nil, is called while the run looks at the store
	h, err := statushttp.New(watchedStore{sharedStore{st}, &while}, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Up(t.Context()); !errors.Is(err, migrate.ErrHeldBack) {
		t.Fatalf("Up = %v, want that it is held back", err)
	}
	const heldBack = "it stays at v1 and does not go to v2, because of old "
	answers(t, h, "/readyz", http.StatusServiceUnavailable, heldBack)
	answers(t, h, "/schema", http.StatusOK, `"state":"pending"`)
	answers(t, h, "/metrics", http.StatusOK, `kvmigrate_schema_ready{schema="notes"} 0`)

	// Once it serves all the same, a deployment may stop the old node.
	member, err := cluster.Join(t.Context(), st, cluster.Options{Schema: "notes", Name: "new", Min: 1, Max: 2, Logger: o.Logger})
	if err != nil {
		t.Fatal(err)
	}
	h.Joined(member)
	answers(t, h, "/readyz", http.StatusOK, heldBack)
	answers(t, h, "/metrics", http.StatusOK, `kvmigrate_schema_ready{schema="notes"} 1`)
	while = func() { answers(t, h, "/readyz", http.StatusOK, heldBack) }
	if _, err := h.Up(t.Context()); !errors.Is(err, migrate.ErrHeldBack) {
		t.Fatalf("Up once more = %v, want that it is held back", err)
	}
	answers(t, h, "/readyz", http.StatusOK, heldBack)

	if err := old.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	while = nil
	second = func() { answers(t, h, "/readyz", http.StatusServiceUnavailable, "migrating v1 -> v2 (second)") }
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, h, "/readyz", http.StatusOK, "notes schema is at v2")
	if err := member.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, h, "/readyz", http.StatusServiceUnavailable, "node has left")
}

// answers fails the test unless h answers with that code, and text is in what it says.
func answers(t *testing.T, h http.Handler, path string, code int, text string) {
	t.Helper()
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	if body := strings.ReplaceAll(answer.Body.String(), `": "`, `":"`); answer.Code != code || !strings.Contains(body, text) {
		t.Errorf("GET %s = %d %s, want %d and %s in it", path, answer.Code, body, code, text)
	}
}

// TestLostTurn: what a run does again, after another process had its turn, counts once.
func TestLostTurn(t *testing.T) {
	st := openStore(t)
	load(t, st, 40)
	visits := 0
	o := options(t, migrate.Migration{Name: "rewrite", Up: migrate.Each([]byte("note/"), func(ctx context.Context, tx *migrate.Tx, e store.Entry) error {
		if visits++; visits == 15 {
			err := store.Update(ctx, st, func(tx store.Txn) error { // as one does that took it and is done
				return errors.Join(tx.Delete([]byte("notes:schema_turn")), tx.Delete([]byte("notes:schema_lock")))
			})
			if err != nil {
				t.Error(err)
			}
		}
		return tx.Set(e)
	})})
	h, url := serve(t, sharedStore{narrow{st, 10}}, o)
	if report, err := h.Up(t.Context()); err != nil || report.To != 1 {
		t.Fatalf("Up = %+v, %v; want v1", report, err)
	}
	want := `kvmigrate_migration_entries_total{schema="notes"} 40`
	if got := get(t, url+"/metrics", http.StatusOK); !strings.Contains(got, want+"\n") {
		t.Errorf("want %s in the metrics:\n%s", want, got)
	}
}
