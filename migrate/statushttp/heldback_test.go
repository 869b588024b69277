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

// TestHeldBack: a run that nodes hold back has not failed, and says who does.
func TestHeldBack(t *testing.T) { synctest.Test(t, testHeldBack) }

func testHeldBack(t *testing.T) {
	st, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	ms := []migrate.Migration{{Version: 1, Name: "first", Up: nothing}, {Version: 2, Name: "second", Up: nothing}}
	o := migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(ms[0]), Logger: slog.New(slog.DiscardHandler)}
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	old, err := cluster.Join(t.Context(), st, cluster.Options{Schema: "notes", Name: "old", Max: 1, Logger: o.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := old.Leave(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	o.Registry = migrate.NewRegistry(ms...)
	h, err := statushttp.New(sharedStore{st}, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Up(t.Context()); !errors.Is(err, migrate.ErrHeldBack) {
		t.Fatalf("Up = %v, want that it is held back", err)
	}
	for path, want := range map[string]string{
		"/readyz": "it stays at v1 and does not go to v2, because of old ",
		"/schema": `"state":"pending"`,
	} {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if body := strings.ReplaceAll(answer.Body.String(), `": "`, `":"`); !strings.Contains(body, want) {
			t.Errorf("GET %s = %s, want %s in it", path, body, want)
		}
	}
}
