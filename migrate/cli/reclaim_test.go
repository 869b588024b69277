package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// TestReclaim: what was overwritten just before the store was closed, a later reclaim
// gives back.
func TestReclaim(t *testing.T) {
	dir := t.TempDir()
	random := rand.NewChaCha8([32]byte{}) // what Badger cannot compress
	alone := badgerstore.Options{Configure: func(o badger.Options) badger.Options { return o.WithNumCompactors(0) }}
	for range 6 { // up to five tables of the first level Flatten leaves alone
		st, err := badgerstore.Open(t.Context(), dir, alone)
		if err != nil {
			t.Fatal(err)
		}
		value := make([]byte, 1<<19)
		_, _ = random.Read(value)
		err = store.Update(t.Context(), st, func(tx store.Txn) error {
			return tx.Set(store.Entry{Key: []byte("note/1"), Value: value})
		})
		if err := errors.Join(err, st.Close()); err != nil {
			t.Fatal(err)
		}
	}
	cfg := cli.Config{Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()}, Badger: alone}
	code, stdout, stderr := runIn(t.Context(), t, cfg, dir, "reclaim", "--json")
	var sizes map[string]uint64
	if err := json.Unmarshal([]byte(stdout), &sizes); code != cli.ExitDone || err != nil {
		t.Fatalf("reclaim --json: exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if before, after := sizes["size_before"], sizes["size_after"]; before < 2<<20 || after > before/2 || after < 1<<19 {
		t.Errorf("reclaim --json = %s; want the size of one value of six", stdout)
	}
}

// plain is a store that only keeps entries.
type plain struct{ store.Store }

func TestReclaimUnsupported(t *testing.T) {
	cfg := cli.Config{
		Name: "notes", Options: migrate.Options{Schema: "notes", Registry: notes()},
		Open: func(ctx context.Context, _ string, _ cli.OpenOptions) (store.Store, error) {
			st, err := badgerstore.OpenInMemory(ctx)
			return plain{st}, err
		},
	}
	code, stdout, stderr := runIn(t.Context(), t, cfg, "any", "reclaim")
	if code != cli.ExitFailed || stdout != "" || !strings.Contains(stderr, "the store gives no room back") {
		t.Errorf("reclaim: exit code %d, stdout %q, stderr %q; want %d and that it is not possible", code, stdout, stderr, cli.ExitFailed)
	}
}
