package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// A sharedStore stands for a store that several processes have open.
type sharedStore struct{ store.Store }

func (sharedStore) Shared() bool          { return true }
func (s sharedStore) Unwrap() store.Store { return s.Store }
func (sharedStore) Close() error          { return nil }

// TestShared: while another process migrates a store that both share, up says which
// unless it is told to wait, and status shows it.
func TestShared(t *testing.T) {
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	begun, end := make(chan struct{}), make(chan struct{})
	registry := migrate.NewRegistry(migrate.Migration{Version: 1, Name: "long", Up: func(_ context.Context, tx *migrate.Tx) error {
		if tx.Cursor() == nil {
			tx.Continue([]byte("half"))
			return nil
		}
		close(begun)
		<-end
		return nil
	}})
	cfg := cli.Config{
		Name: "notes", Options: migrate.Options{Registry: registry, Program: "notes 1.0", TurnTTL: 6 * time.Second},
		Open: func(context.Context, string, cli.OpenOptions) (store.Store, error) { return sharedStore{st}, nil },
	}
	run := func(args ...string) (int, string, string) { return runIn(t.Context(), t, cfg, "shared", args...) }
	type result struct {
		code   int
		stderr string
	}
	up := func(args ...string) <-chan result {
		done := make(chan result, 1)
		go func() {
			code, _, stderr := run(append(args, "up")...)
			done <- result{code, stderr}
		}()
		return done
	}
	first := up()
	<-begun

	if code, _, stderr := run("up"); code != cli.ExitFailed || !strings.Contains(stderr, "notes: system schema is being migrated by notes 1.0 on ") || !strings.Contains(stderr, "v0 with 1 transaction of v1 (long)") {
		t.Errorf("up: exit code %d, want %d and who migrates\n%s", code, cli.ExitFailed, stderr)
	}
	if _, stdout, stderr := run("status"); !strings.Contains(stdout, "\nmigrated by     notes 1.0 on ") || !strings.Contains(stdout, "it is dead, whoever upgrades next takes over") {
		t.Errorf("status does not say who migrates:\n%s%s", stdout, stderr)
	}
	_, stdout, _ := run("status", "--json")
	var status struct {
		Holder struct {
			Program, Host string
			PID           int
			Since         time.Time
		}
	}
	if err := json.Unmarshal([]byte(stdout), &status); err != nil {
		t.Fatal(err)
	}
	if h := status.Holder; h.Program != "notes 1.0" || h.PID != os.Getpid() || h.Host == "" || h.Since.IsZero() {
		t.Errorf("holder of status --json = %+v, want this process", h)
	}

	second := up("--wait", "1h")
	close(end)
	for _, done := range []<-chan result{first, second} {
		if r := <-done; r.code != cli.ExitDone {
			t.Errorf("up: exit code %d\n%s", r.code, r.stderr)
		}
	}
	if _, stdout, _ := run("status"); strings.Contains(stdout, "migrated by") || !strings.Contains(stdout, "stored version  v1") {
		t.Errorf("status at the end:\n%s", stdout)
	}
}
