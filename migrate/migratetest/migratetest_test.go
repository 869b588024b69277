package migratetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// suite is one of the given migrations over files in a temporary folder.
func suite(t *testing.T, files map[string]string, ms ...migrate.Migration) Suite {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, "golden", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Suite{
		Registry: migrate.NewRegistry(ms...), Schema: "app",
		Golden: filepath.Join(dir, "golden"), Stores: filepath.Join(dir, "stores"),
	}
}

func set(key, value string) migrate.UpFunc {
	return func(_ context.Context, tx *migrate.Tx) error {
		return tx.Set(store.Entry{Key: []byte(key), Value: []byte(value)})
	}
}

func plus(value []byte) ([]byte, error) { return append(value, '+'), nil }

var good = []migrate.Migration{
	{Version: 1, Name: "one", Up: set("app/a", "1")},
	{Version: 2, Name: "plus", Up: migrate.Rewrite([]byte("app/"), plus)},
}

// golden is Golden without a testing.T.
func golden(t *testing.T, s Suite) error {
	t.Helper()
	if err := s.strangers(); err != nil {
		return err
	}
	return withStore(t.Context(), func(st store.Store) error {
		for _, m := range s.registry().Migrations() {
			if err := s.climb(t.Context(), st, m); err != nil {
				return err
			}
		}
		return nil
	})
}

// updating runs fn with the flag -update.
func updating(t *testing.T, fn func() error) {
	t.Helper()
	*update = true
	defer func() { *update = false }()
	if err := fn(); err != nil {
		t.Fatal(err)
	}
}

// wantText fails the test unless err says all of texts, or is nil if there are none.
func wantText(t *testing.T, err error, texts ...string) {
	t.Helper()
	if len(texts) == 0 && err != nil {
		t.Errorf("error = %v", err)
	}
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error = %v, want one that says %q", err, text)
		}
	}
}

func TestGolden(t *testing.T) {
	fixture := map[string]string{"v0002_plus/fixture.txt": `"app/b" "two" expires=4102444800 meta=0x07` + "\n"}
	s := suite(t, fixture, good...)
	wantText(t, golden(t, s), "after.txt", "go test -update writes it")
	updating(t, func() error { return golden(t, s) })
	wantText(t, golden(t, s))

	after, err := os.ReadFile(s.golden(good[1], "after.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `"app/b" hex:6374776f2b expires=4102444800 meta=0x07`; !strings.Contains(string(after), want) {
		t.Errorf("after.txt has no line %s:\n%s", want, after)
	}

	// Another result is shown by its lines.
	changed := s
	changed.Registry = migrate.NewRegistry(good[0], migrate.Migration{Version: 2, Name: "plus", Up: set("app/c", "3")})
	wantText(t, golden(t, changed), `+ "app/c"`, `- "app/b" hex:6374776f2b`, "-update accepts it")

	// Files that no test looks at are found.
	stray := suite(t, map[string]string{"v0002_plus/bad-row.txt": ""}, good...)
	wantText(t, golden(t, stray), "bad-row.txt is no file of a migration")
	orphan := suite(t, map[string]string{"v0002_plus/bad_row.error": "x"}, good...)
	wantText(t, golden(t, orphan), "bad_row.error is the error of a fixture that is gone")

	// A migration that is renamed leaves its folder behind.
	renamed := s
	renamed.Registry = migrate.NewRegistry(good[0], migrate.Migration{Version: 2, Name: "add", Up: good[1].Up})
	wantText(t, golden(t, renamed), "v0002_plus belongs to no migration")
}

func TestBadFixtures(t *testing.T) {
	picky := migrate.Migration{Version: 2, Name: "picky", Up: migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
		if string(v) == "bad" {
			return nil, errors.New("a bad row")
		}
		return plus(v)
	})}
	bad := map[string]string{"v0002_picky/bad_row.txt": `"app/x" hex:626164` + "\n"}
	s := suite(t, bad, good[0], picky)
	updating(t, func() error { return golden(t, s) })
	wantText(t, golden(t, s))
	if text, err := os.ReadFile(s.golden(picky, "bad_row.error")); err != nil || !strings.Contains(string(text), "a bad row") {
		t.Errorf("bad_row.error = %s, %v", text, err)
	}
	lax := s
	lax.Registry = migrate.NewRegistry(good[0], migrate.Migration{Version: 2, Name: "picky", Up: good[1].Up})
	wantText(t, golden(t, lax), "bad_row.txt", "succeeded on it, want an error")
}

func TestValue(t *testing.T) {
	s := suite(t, nil, good...)
	s.Value = func(e store.Entry) string {
		if strings.HasPrefix(string(e.Key), "app/") {
			return "text:" + string(e.Value)
		}
		return ""
	}
	updating(t, func() error { return golden(t, s) })
	after, err := os.ReadFile(s.golden(good[1], "after.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\"app/a\" text:1+\n"; !strings.HasPrefix(string(after), want) {
		t.Errorf("after.txt = %s, want it to begin with %s", after, want)
	}
}

// TestLadderFindsState: a migration that depends on what ran before it in the same
// process does not give the same store at once and version by version.
func TestLadderFindsState(t *testing.T) {
	runs := 0
	s := suite(t, nil, good[0], migrate.Migration{Version: 2, Name: "counts", Up: func(_ context.Context, tx *migrate.Tx) error {
		runs++
		return tx.Set(store.Entry{Key: []byte("app/runs"), Value: []byte{byte(runs)}})
	}})
	before, err := s.at(t.Context(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, s.climbBothWays(t.Context(), before, 0), "v0 to v2 at once", `"app/runs"`)
}

func TestOldStores(t *testing.T) {
	s := suite(t, map[string]string{"v0002_plus/fixture.txt": `"app/b" hex:32` + "\n"}, good...)
	if all, err := s.oldStore(t, 1); all != nil || err != nil {
		t.Errorf("without a folder of stores: %v, %v; want nothing", all, err)
	}
	updating(t, func() error { return s.makeStores(t.Context()) })
	all, err := s.oldStore(t, 1)
	if err != nil || len(all) != 4 { // two rows, the version and its record
		t.Fatalf("old store of v1 holds %v, %v; want 4 entries", all, err)
	}
	wantText(t, s.climbBothWays(t.Context(), all, 1))

	// A store that is there is never touched; one that is missing is named.
	manifest := filepath.Join(s.storeDir(1), "MANIFEST")
	before, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.storeDir(2)); err != nil {
		t.Fatal(err)
	}
	_, err = s.oldStore(t, 2)
	wantText(t, err, "v0002", "if it was there, restore it")
	updating(t, func() error { return s.makeStores(t.Context()) })
	if after, err := os.ReadFile(manifest); err != nil || string(after) != string(before) {
		t.Errorf("the old store of v1 changed: %v", err)
	}

	// A store of another version than its name says is found.
	if err := os.RemoveAll(s.storeDir(2)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.storeDir(1), s.storeDir(2)); err != nil {
		t.Fatal(err)
	}
	_, err = s.oldStore(t, 2)
	wantText(t, err, "v0002 is at v1")
}

// TestCrashFindsState: a migration that remembers outside the store that it ran
// does not run again after a crash.
func TestCrashFindsState(t *testing.T) {
	s := suite(t, nil, good...)
	for _, m := range good {
		before, err := s.at(t.Context(), m.Version-1, true)
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, s.crash(t.Context(), m, before))
	}
	var seen map[string]bool
	remembers := migrate.Migration{Version: 1, Name: "remembers", Up: func(_ context.Context, tx *migrate.Tx) error {
		if seen["app/a"] {
			return nil
		}
		seen = map[string]bool{"app/a": true}
		return set("app/a", "1")(t.Context(), tx)
	}}
	s = suite(t, nil, remembers)
	wantText(t, s.crash(t.Context(), remembers, nil), "v0001_remembers", "differs after a second run", `"app/a"`)
}

// TestMemory: a migration that keeps what it has read is told from one that does
// not.
func TestMemory(t *testing.T) {
	const rows, size = 15_000, 4000
	row := func(i int) store.Entry {
		return store.Entry{Key: fmt.Appendf(nil, "app/%06d", i), Value: make([]byte, size)}
	}
	var kept [][]byte
	rewrite := func(value []byte) ([]byte, error) {
		value[0]++
		return value, nil
	}
	light := migrate.Migration{Version: 1, Name: "light", Up: migrate.Rewrite([]byte("app/"), rewrite)}
	hoard := migrate.Migration{Version: 1, Name: "hoard", Up: migrate.Serial(migrate.Rewrite([]byte("app/"), func(value []byte) ([]byte, error) {
		kept = append(kept, bytes.Clone(value))
		return rewrite(value)
	}))}
	measure := func(m migrate.Migration) uint64 {
		growth, err := suite(t, nil, m).memory(t.Context(), t.TempDir(), 1, rows, row)
		if err != nil {
			t.Fatal(err)
		}
		return growth
	}
	lightly, hoarded := measure(light), measure(hoard)
	runtime.KeepAlive(kept)
	if lightly > 64<<20 {
		t.Errorf("a migration that rewrites %d bytes and keeps none grew the heap by %d", rows*size, lightly)
	}
	if lightly+rows*size/2 > hoarded {
		t.Errorf("a migration that keeps %d bytes grew the heap by %d, one that keeps nothing by %d", rows*size, hoarded, lightly)
	}
}

func TestRun(t *testing.T) {
	s := suite(t, nil, good...)
	*update = true
	Run(t, s)
	*update = false
	Run(t, s)
	Memory(t, s, 2, 100, func(i int) store.Entry { return store.Entry{Key: fmt.Appendf(nil, "app/%d", i)} }, 64<<20)
}
