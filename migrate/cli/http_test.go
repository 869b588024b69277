package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrate/statushttp"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// lines is what a command has written so far, also while it runs.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestHTTP: up serves how far it is while a migration runs, and no longer.
func TestHTTP(t *testing.T) {
	var stdout bytes.Buffer
	var stderr lines
	var url, ready string
	up := func(ctx context.Context, _ *migrate.Tx) error {
		found := regexp.MustCompile(`http://127\.0\.0\.1:\d+/`).FindString(stderr.String())
		if found == "" {
			return fmt.Errorf("no address in %q", &stderr)
		}
		url = found
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		ready = fmt.Sprintf("%d %s", answer.StatusCode, body)
		return err
	}
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: migrate.NewRegistry(
		migrate.Migration{Version: 1, Name: "first", Up: func(context.Context, *migrate.Tx) error { return nil }},
		migrate.Migration{Version: 2, Name: "second", Up: up},
		migrate.Migration{Version: 3, Name: "third", Up: func(context.Context, *migrate.Tx) error { return nil }},
	)}}
	args := []string{"--store", t.TempDir(), "up", "--to", "2", "--http", "127.0.0.1:0"}
	if code := cli.Run(t.Context(), cfg, args, &stdout, &stderr); code != cli.ExitDone {
		t.Fatalf("exit code %d\n%s", code, &stderr)
	}
	if diff := cmp.Diff("notes schema is at v2 (2 applied)\n", stdout.String()); diff != "" {
		t.Errorf("up (-want +got):\n%s", diff)
	}
	if matched, err := regexp.MatchString(`^503 migrating v1 -> v2 \(second\)`, ready); !matched || err != nil {
		t.Errorf("readyz during the second = %q, %v; want 503 and how far it is", ready, err)
	}
	if answer, err := http.Get(url + "healthz"); err == nil {
		_ = answer.Body.Close()
		t.Error("it is served after up has ended")
	}
}

// TestHistoryIsTheSame: the JSON that is served has of history what the command
// prints, and both can be read back.
func TestHistoryIsTheSame(t *testing.T) {
	dir, cfg := t.TempDir(), release(3)
	_, stdout, _ := runIn(t.Context(), t, cfg, dir, "up", "--allow-unreleased", "--reclaim", "--json")
	var printed struct{ Applied []migrate.Applied }
	if err := json.Unmarshal([]byte(stdout), &printed); err != nil {
		t.Fatalf("up --json: %v\n%s", err, stdout)
	}
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	h, err := statushttp.New(st, cfg.Options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/schema", nil))
	var served struct{ History []migrate.Applied }
	if err := json.Unmarshal(answer.Body.Bytes(), &served); err != nil {
		t.Fatal(err)
	}
	r, err := migrate.New(st, cfg.Options)
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.History(t.Context())
	if err != nil || len(want) != 3 {
		t.Fatalf("history: %d records, %v; want 3", len(want), err)
	}
	if diff := cmp.Diff(want, printed.Applied); diff != "" {
		t.Errorf("history (-want +printed):\n%s", diff)
	}
	if diff := cmp.Diff(want, served.History); diff != "" {
		t.Errorf("history (-want +served):\n%s", diff)
	}
}
