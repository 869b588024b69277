package migratetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
		writeFile(t, path, text)
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
	return s.climb(t.Context()).ErrorOrNil()
}

// updating runs fn with the flag -update=how.
func updating(t *testing.T, how string, fn func() error) {
	t.Helper()
	if err := update.Set(how); err != nil {
		t.Fatal(err)
	}
	defer func() { update = updates{} }()
	if err := fn(); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := write(path, text); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
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
	updating(t, "true", func() error { return golden(t, s) })
	wantText(t, golden(t, s))

	after := readFile(t, s.golden(good[1], "after.txt"))
	if want := `"app/b" hex:6374776f2b expires=4102444800 meta=0x07`; !strings.Contains(after, want) {
		t.Errorf("after.txt has no line %s:\n%s", want, after)
	}

	// Another result is shown by its lines.
	changed := s
	changed.Registry = migrate.NewRegistry(good[0], migrate.Migration{Version: 2, Name: "plus", Up: set("app/c", "3")})
	wantText(t, golden(t, changed), `+ "app/c"`, `- "app/b" hex:6374776f2b`, "go test -update=2 accepts it")

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
	updating(t, "true", func() error { return golden(t, s) })
	wantText(t, golden(t, s))
	// What is said around the migration's own words is not for its author to keep.
	if text := readFile(t, s.golden(picky, "bad_row.error")); text != "a bad row\n" {
		t.Errorf("bad_row.error = %q, want the error that the migration returned", text)
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
	updating(t, "true", func() error { return golden(t, s) })
	after := readFile(t, s.golden(good[1], "after.txt"))
	if want := "\"app/a\" text:1+\n"; !strings.HasPrefix(after, want) {
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
	missing := func(version uint32, texts ...string) {
		t.Helper()
		_, err := s.oldStore(t, version)
		wantText(t, err, texts...)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error = %v, want one that matches fs.ErrNotExist", err)
		}
	}
	make := func() error { return s.makeStores(t.Context()) }
	missing(1, "v0001", "go test -update makes it")

	updating(t, "true", make)
	all, err := s.oldStore(t, 1)
	if err != nil || len(all) != 4 { // two rows, the version and its record
		t.Fatalf("old store of v1 holds %v, %v; want 4 entries", all, err)
	}
	wantText(t, s.climbBothWays(t.Context(), all, 1))

	// A store that is there is never touched, and one that is gone not made again.
	manifest := filepath.Join(s.storeDir(2), "MANIFEST")
	before := readFile(t, manifest)
	if err := os.RemoveAll(s.storeDir(1)); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"true", "all", "1"} {
		updating(t, how, make)
		missing(1, "v0001", "restore it from version control")
		if after := readFile(t, manifest); after != before {
			t.Errorf("-update=%s changed the old store of v2", how)
		}
	}

	// A store of another version than its name says is found.
	if err := os.Rename(s.storeDir(2), s.storeDir(1)); err != nil {
		t.Fatal(err)
	}
	_, err = s.oldStore(t, 1)
	wantText(t, err, s.storeDir(1)+" holds a store of v2: the folder's name does not match its version")

	// The newest is gone, and only its golden file tells of it.
	writeFile(t, s.storeDir(2)+".after.txt", "")
	updating(t, "true", make)
	missing(2, "v0002", "restore it from version control")
	updating(t, "2", make)
	if _, err := s.oldStore(t, 2); err != nil {
		t.Errorf("after -update=2: %v", err)
	}
}

// TestOldStoreGolden: the golden file of an old store follows to a new version, and
// only from where it still holds.
func TestOldStoreGolden(t *testing.T) {
	s := suite(t, nil, good[0])
	before, err := s.at(t.Context(), 1, true)
	if err != nil {
		t.Fatal(err)
	}
	upgraded := func() error { return s.upgraded(t.Context(), before, 1) }
	path := s.storeDir(1) + ".after.txt"
	wantText(t, upgraded(), "v0001.after.txt", "go test -update=1 writes it")
	updating(t, "true", func() error { return s.makeStores(t.Context()) })
	wantText(t, upgraded())

	s.Registry = migrate.NewRegistry(good...)
	wantText(t, upgraded(), "v0001.after.txt tells of v1", "go test -update takes it to v2")
	at1 := readFile(t, path)
	writeFile(t, path, strings.Replace(at1, " -18\n", " -17\n", 1))
	if err := update.Set("true"); err != nil {
		t.Fatal(err)
	}
	err = upgraded()
	update = updates{}
	wantText(t, err, `- "app/a" -17`, "go test -update=1 accepts it")

	writeFile(t, path, at1)
	updating(t, "true", upgraded)
	if text := readFile(t, path); !strings.HasPrefix(text, "# The old store of v1 at v2\n\"app/a\" hex:312b\n") {
		t.Errorf("after -update it says:\n%s", text)
	}
	wantText(t, upgraded())

	writeFile(t, path, "")
	wantText(t, upgraded(), "does not begin with a version", "-update=all")
	updating(t, "all", upgraded)
	wantText(t, upgraded())
}

// TestReleased: -update makes the files of new versions, and what is there only if
// it is told the version.
func TestReleased(t *testing.T) {
	s := suite(t, nil, good...)
	updating(t, "true", func() error { return golden(t, s) })
	edited := s
	edited.Registry = migrate.NewRegistry(
		migrate.Migration{Version: 1, Name: "one", Up: set("app/a", "2")},
		migrate.Migration{Version: 2, Name: "plus", Up: migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) { return append(v, '-'), nil })},
	)
	path1, path2 := s.golden(good[0], "after.txt"), s.golden(good[1], "after.txt")
	before1, before2 := readFile(t, path1), readFile(t, path2)

	// All that differ are reported, and none is changed.
	if err := update.Set("true"); err != nil {
		t.Fatal(err)
	}
	err := golden(t, edited)
	update = updates{}
	wantText(t, err, path1, "If v1 was never released, go test -update=1 accepts it", path2, "-update=2")
	if readFile(t, path1) != before1 || readFile(t, path2) != before2 {
		t.Error("-update changed golden files that were there")
	}

	// Named, one changes alone.
	if err := update.Set("2"); err != nil {
		t.Fatal(err)
	}
	err = golden(t, edited)
	update = updates{}
	wantText(t, err, path1)
	if readFile(t, path1) != before1 || readFile(t, path2) == before2 {
		t.Error("want -update=2 to change the file of v2 alone")
	}
	updating(t, "all", func() error { return golden(t, edited) })
	wantText(t, golden(t, edited))

	// What is lost is not made up for.
	if err := os.Remove(path1); err != nil {
		t.Fatal(err)
	}
	if err := update.Set("true"); err != nil {
		t.Fatal(err)
	}
	err = golden(t, edited)
	update = updates{}
	wantText(t, err, path1, "restore it from version control")
}

// TestUnreleased: what may still change is made anew by -update alone, and its files
// stay the same when it is released.
func TestUnreleased(t *testing.T) {
	draft := good[1]
	draft.Unreleased = true
	draft.Up = set("app/draft", "1")
	s := suite(t, nil, good[0], draft)
	run := func() error {
		if err := s.makeStores(t.Context()); err != nil {
			return err
		}
		return golden(t, s)
	}
	updating(t, "true", run)
	draft.Up = good[1].Up
	s.Registry = migrate.NewRegistry(good[0], draft)
	wantText(t, golden(t, s), `- "app/draft"`, "go test -update accepts it")
	updating(t, "true", run)
	s.Registry = migrate.NewRegistry(good...)
	wantText(t, golden(t, s))
	old, err := s.oldStore(t, 2)
	if err != nil {
		t.Fatal(err)
	}
	today, err := s.at(t.Context(), 2, true)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(today, old); d != "" {
		t.Errorf("the old store is of the draft (-want +got):\n%s", d)
	}
}

// TestBaseline: a ladder may begin with a version that stands for those before, and
// makes what they made.
func TestBaseline(t *testing.T) {
	replayed := suite(t, map[string]string{"v0003_more/fixture.txt": `"app/b" hex:01` + "\n"}, good...)
	more := migrate.Migration{Version: 3, Name: "more", Up: migrate.Rewrite([]byte("app/"), plus)}
	var history []migrate.Applied
	err := Suite{}.withStore(t.Context(), func(st store.Store) error {
		report, err := replayed.upTo(t.Context(), st, 2)
		history = report.Applied
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	squashed := replayed
	squashed.Registry = migrate.NewRegistry(migrate.Migration{
		Version: 2, Name: "plus", Up: set("app/a", "1+"),
		Baseline: &migrate.Baseline{Fingerprint: history[1].Fingerprint.String(), Release: "1.0"},
	}, more)
	updating(t, "true", func() error {
		Run(t, squashed)
		return nil
	})
	Run(t, squashed)
	Memory(t, squashed, 3, 1, func(int) store.Entry { return store.Entry{Key: []byte("app/x")} }, 64<<20)

	whole := migrate.NewRegistry(append(slices.Clone(good), more)...)
	Replay(t, squashed, whole)
	for name, wrong := range map[string]migrate.Migration{
		"the baseline makes something else": {Up: set("app/a", "2"), Baseline: &migrate.Baseline{Fingerprint: history[1].Fingerprint.String()}},
		"the baseline has another history":  {Up: set("app/a", "1+"), Baseline: &migrate.Baseline{Fingerprint: history[0].Fingerprint.String()}},
	} {
		wrong.Version, wrong.Name = 2, "plus"
		s := squashed
		s.Registry = migrate.NewRegistry(wrong, more)
		for version := uint32(2); version <= 3; version++ {
			if err := s.replay(t.Context(), whole, version); err == nil || !strings.Contains(err.Error(), "does not make what the old migrations made") {
				t.Errorf("%s, v%d: %v; want a difference", name, version, err)
			}
		}
	}
}

func TestUpdateFlag(t *testing.T) {
	for text, want := range map[string]updates{
		"true": {on: true}, "false": {}, "all": {on: true, all: true}, "12": {on: true, version: 12},
	} {
		var u updates
		if err := u.Set(text); err != nil || u != want || u.String() != text {
			t.Errorf("Set(%q) = %v and %+v, %s; want %+v", text, err, u, u.String(), want)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "4294967296"} {
		if err := new(updates).Set(text); err == nil {
			t.Errorf("Set(%q) succeeded", text)
		}
	}
}

// TestUnchanged: a migration that changes nothing has not been tried, unless its
// author says that it is right.
func TestUnchanged(t *testing.T) {
	s := suite(t, map[string]string{"v0002_plus/fixture.txt": "# nothing yet\n"},
		migrate.Migration{Version: 1, Name: "one", Up: set("other", "1")}, good[1])
	updating(t, "true", func() error {
		wantText(t, golden(t, s), "v0002_plus.go changes nothing but the version", "fixture.txt", "unchanged.txt")
		return nil
	})
	reason := s.golden(good[1], "unchanged.txt")
	writeFile(t, reason, "\n")
	wantText(t, golden(t, s), "unchanged.txt is empty")
	writeFile(t, reason, "It only looks.\n")
	wantText(t, golden(t, s))
	writeFile(t, s.golden(good[1], "fixture.txt"), `"app/x" hex:01`+"\n")
	wantText(t, golden(t, s), "unchanged.txt is there, but v0002_plus changes entries")
}

// stamp writes the time of its run under key.
func stamp(key string) migrate.UpFunc {
	return func(ctx context.Context, tx *migrate.Tx) error { return set(key, tx.Now().String())(ctx, tx) }
}

func TestConverge(t *testing.T) {
	s := suite(t, nil, good[0], good[1], migrate.Migration{Version: 3, Name: "stamp", Up: stamp("app/made")})
	from := func(version uint32, fill func(store.Store) error) error {
		before, err := s.at(t.Context(), version, false)
		if err != nil {
			t.Fatal(err)
		}
		return s.converge(t.Context(), before, fill)
	}
	nothing := func(store.Store) error { return nil }
	wantText(t, from(3, nothing))
	wantText(t, from(1, nothing), "at v3", `- "app/made"`, `+ "app/made"`, "Suite.Volatile")
	s.Volatile = func(e store.Entry) store.Entry {
		if string(e.Key) == "app/made" {
			return store.Entry{}
		}
		return e
	}
	wantText(t, from(1, nothing))
	wantText(t, from(1, func(st store.Store) error {
		return load(t.Context(), st, []store.Entry{{Key: []byte("app/z"), Value: []byte("1")}})
	}), `- "app/z"`)

	// What programs wrote has become what they write now, or has not.
	writeFile(t, s.golden(good[1], "fixture.txt"), `"app/b" hex:0102`+"\n")
	updating(t, "true", func() error { return s.makeStores(t.Context()) })
	row := "\x01\x02+"
	s.Fresh = func(ctx context.Context, st store.Store, _ uint32) error {
		return load(ctx, st, []store.Entry{{Key: []byte("app/b"), Value: []byte(row)}})
	}
	Converge(t, s)
	old, err := s.oldStore(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	row = "\x01\x02"
	wantText(t, s.converge(t.Context(), old, func(st store.Store) error { return s.Fresh(t.Context(), st, 1) }), `+ "app/b" hex:01022b`)
}

// TestDiff: the history is compared by what ran, not by how.
func TestDiff(t *testing.T) {
	s := suite(t, nil, good...)
	other := s
	other.clock = noon.Add(1)
	other.Registry = migrate.NewRegistry(good[0], migrate.Migration{Version: 2, Name: "minus", Up: good[1].Up})
	err := Suite{}.withStore(t.Context(), func(want store.Store) error {
		if _, err := s.upTo(t.Context(), want, 2); err != nil {
			return err
		}
		return Suite{}.withStore(t.Context(), func(got store.Store) error {
			if _, err := other.upTo(t.Context(), got, 2); err != nil {
				return err
			}
			d, err := Diff(t.Context(), s, want, got)
			if lines := strings.Count(d, "schema_history:0000000002"); lines != 2 || strings.Count(d, "\n") != 2 {
				t.Errorf("Diff = %s, want the last record of both and nothing else", d)
			}
			if d, err := Diff(t.Context(), s, want, want); d != "" || err != nil {
				t.Errorf("Diff of a store and itself = %q, %v", d, err)
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
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
	// What has expired when it is written differs in no store.
	expired := migrate.Migration{Version: 1, Name: "expired", Up: func(_ context.Context, tx *migrate.Tx) error {
		return tx.Set(store.Entry{Key: []byte("app/a"), ExpiresAt: 1})
	}}
	wantText(t, suite(t, nil, expired).crash(t.Context(), expired, nil))

	ran := false
	once := migrate.Migration{Version: 1, Name: "once", Up: func(ctx context.Context, tx *migrate.Tx) error {
		if ran {
			return nil
		}
		ran = true
		return set("app/a", "1")(ctx, tx)
	}}
	s = suite(t, nil, once)
	wantText(t, s.crash(t.Context(), once, nil), "v0001_once.go", `"app/a"`, "depend on its transaction alone")

	// It is undisturbed twice, and gives up what it counts in the run that fails.
	calls := 0
	counts := migrate.Migration{Version: 1, Name: "counts", Up: func(ctx context.Context, tx *migrate.Tx) error {
		if err := set("app/a", fmt.Sprint(calls/3))(ctx, tx); err != nil {
			return err
		}
		calls++
		return nil
	}}
	s = suite(t, nil, counts)
	wantText(t, s.crash(t.Context(), counts, nil), "v0001_counts.go", "at operation", "a second run leaves another store", `+ "app/a"`, "depend on its transaction alone", "Undisturbed runs differ too")

	// It remembers a run that failed, and undisturbed ones agree.
	began := false
	remembers := migrate.Migration{Version: 1, Name: "remembers", Up: func(ctx context.Context, tx *migrate.Tx) error {
		if !began {
			began = true
			if err := set("app/a", "1")(ctx, tx); err != nil {
				return err
			}
		}
		began = false
		return set("app/b", "1")(ctx, tx)
	}}
	s = suite(t, nil, remembers)
	err := s.crash(t.Context(), remembers, nil)
	wantText(t, err, `which is set "app/a"`, "a second run", "depend on its transaction alone")
	if err != nil && strings.Contains(err.Error(), "the order of a map") {
		t.Errorf("undisturbed runs agree, and yet chance is named: %v", err)
	}
}

func TestSample(t *testing.T) {
	for _, n := range []int{0, 1, crashes} {
		if got := sample(n); len(got) != n || n > 0 && (got[0] != 1 || got[n-1] != n) {
			t.Errorf("of %d operations %d fail, want all", n, len(got))
		}
	}
	for _, n := range []int{crashes + 1, 100*crashes - 1} {
		some := sample(n)
		if len(some) > crashes || len(some) < crashes/2 || some[0] != 1 || some[len(some)-1] < n-n/crashes-1 {
			t.Errorf("of %d operations %d fail, from %d to %d; want up to %d, over all", n, len(some), some[0], some[len(some)-1], crashes)
		}
	}
	*everyCrash = true
	defer func() { *everyCrash = false }()
	if n := 3 * crashes; len(sample(n)) != n {
		t.Errorf("with -crash.all %d of %d operations fail", len(sample(n)), n)
	}
}

// TestCrashFindsGuesses: an error of the store is no answer.
func TestCrashFindsGuesses(t *testing.T) {
	goesOn := migrate.Migration{Version: 1, Name: "goes_on", Up: func(ctx context.Context, tx *migrate.Tx) error {
		if _, err := tx.Get([]byte("app/z")); err != nil && !errors.Is(err, store.ErrNotFound) {
			return set("app/a", "without z")(ctx, tx)
		}
		return set("app/a", "with z")(ctx, tx)
	}}
	s := suite(t, nil, goesOn)
	err := s.crash(t.Context(), goesOn, nil)
	wantText(t, err, "v0001_goes_on.go", "Error at operation", `get "app/z" failed`, "the migration dropped", "returned no error", `+ "app/a"`)
	if err != nil && strings.Contains(err.Error(), "tx.Now") {
		t.Errorf("a dropped error has other causes as well: %v", err)
	}
}

// TestCrashFindsDroppedErrors: what a migration makes of an error of the store must
// still be it.
func TestCrashFindsDroppedErrors(t *testing.T) {
	hides := migrate.Migration{Version: 1, Name: "hides", Up: func(ctx context.Context, tx *migrate.Tx) error {
		if err := set("app/a", "1")(ctx, tx); err != nil {
			return errors.New("something went wrong")
		}
		return nil
	}}
	s := suite(t, nil, hides)
	wantText(t, s.crash(t.Context(), hides, nil), "v0001_hides.go", "Error at operation", "came out as another", "%w")
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

// TestMemoryOfNothing: there must be a migration to measure.
func TestMemoryOfNothing(t *testing.T) {
	for _, version := range []uint32{0, 3} {
		_, err := suite(t, nil, good...).memory(t.Context(), t.TempDir(), version, 1, nil)
		wantText(t, err, fmt.Sprintf("there is no migration of v%d: the latest is v2", version))
	}
}

func TestRun(t *testing.T) {
	s := suite(t, nil, good...)
	updating(t, "true", func() error {
		Run(t, s)
		return nil
	})
	Run(t, s)
	Memory(t, s, 2, 100, func(i int) store.Entry { return store.Entry{Key: fmt.Appendf(nil, "app/%d", i)} }, 64<<20)
}
