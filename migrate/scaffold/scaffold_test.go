package scaffold_test

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/frozen"
	"github.com/kvmigrate/kvmigrate/migrate/scaffold"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

const lockName = ".newmigration.lock"

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		folder map[string]string
		golden string
		want   scaffold.Created // relative to the folder
		clause string
	}{
		{
			name:   "empty folder",
			want:   created(1, "v0001_add_thing", "testdata/golden"),
			clause: "package migrations",
		},
		{
			name:   "next version in the package that is there",
			folder: map[string]string{"v0001_a.go": "package history", "v0002_b.go": "package history"},
			want:   created(3, "v0003_add_thing", "testdata/golden"),
			clause: "package history",
		},
		{
			name:   "golden folder elsewhere",
			golden: "../golden/deep",
			want:   created(1, "v0001_add_thing", "../golden/deep"),
			clause: "package migrations",
		},
		{
			name: "files that are no migrations",
			folder: map[string]string{
				"v0001_a.go":           "package history",
				"v0002_a_test.go":      "package history_test",
				"v2_helpers.go":        "package history",
				"v0007_notes.txt":      "",
				"v0008_folder.go/keep": "",
				"gen.go":               "//go:build ignore\n\npackage main",
			},
			want:   created(2, "v0002_add_thing", "testdata/golden"),
			clause: "package history",
		},
		{
			name:   "tests alone tell the package",
			folder: map[string]string{"golden_test.go": "package history_test"},
			want:   created(1, "v0001_add_thing", "testdata/golden"),
			clause: "package history",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t, "migrations", tt.folder)
			got, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Golden: tt.golden, Name: "add_thing"})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.File, want.Fixture, want.Test = filepath.Join(dir, want.File), filepath.Join(dir, want.Fixture), filepath.Join(dir, want.Test)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Created (-want +got):\n%s", diff)
			}

			source := read(t, got.File)
			formatted, err := format.Source([]byte(source))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(formatted), source); diff != "" {
				t.Errorf("gofmt changes the file (-want +got):\n%s", diff)
			}
			clause, _, _ := strings.Cut(source, "\n")
			if diff := cmp.Diff(tt.clause, clause); diff != "" {
				t.Errorf("first line (-want +got):\n%s", diff)
			}
			if fn := fmt.Sprintf("func up%04d(", got.Version); !strings.Contains(source, fn) {
				t.Errorf("no %s in\n%s", fn, source)
			}
			checkFixture(t, read(t, got.Fixture))
			if _, err := os.Lstat(filepath.Join(dir, lockName)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the lock is still there (%v)", err)
			}
		})
	}
}

// checkFixture: a stub has no entries, and the line that it gives as an example
// is one.
func checkFixture(t *testing.T, text string) {
	t.Helper()
	entries, err := dump.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Entry(nil), entries); diff != "" {
		t.Errorf("entries of the stub (-want +got):\n%s", diff)
	}
	const example = `"system/1" {"id": 1}`
	if !strings.Contains(text, "# "+example+"\n") {
		t.Errorf("no example in\n%s", text)
	}
	if _, err := dump.Read(strings.NewReader(example + "\n")); err != nil {
		t.Errorf("the example is no entry: %v", err)
	}
}

func TestNewNamesPackageAfterFolder(t *testing.T) {
	for folderName, want := range map[string]string{
		"migrations":    "migrations",
		"My-History.v2": "myhistoryv2",
		"2nd_history":   "ndhistory",
		"123":           "migrations",
		"func":          "migrations",
		"main":          "migrations",
		"documentation": "migrations",
	} {
		t.Run(folderName, func(t *testing.T) {
			c, err := scaffold.New(t.Context(), scaffold.Options{Dir: folder(t, folderName, nil), Name: "add_thing"})
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ := strings.Cut(read(t, c.File), "\n")
			if diff := cmp.Diff("package "+want, got); diff != "" {
				t.Errorf("first line (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNames: a name is taken if and only if package migrate takes it, apart from
// names whose file is not part of every build.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name        string
		ok, partial bool
	}{
		{name: "a", ok: true},
		{name: "add_thing", ok: true},
		{name: "add_2_things4", ok: true},
		{name: "linux_first", ok: true},
		{name: "test_first", ok: true},
		{name: "attest", ok: true},
		{name: strings.Repeat("a", 64), ok: true},
		{name: strings.Repeat("a", 65)},
		{name: ""},
		{name: "Add"},
		{name: "add-thing"},
		{name: "add thing"},
		{name: "add__thing"},
		{name: "_add"},
		{name: "add_"},
		{name: "2nd"},
		{name: "größe"},
		{name: "add\n"},
		{name: "add\x00"},
		{name: "a/b"},
		{name: `a\b`},
		{name: "../a"},
		{name: "."},
		{name: "a.go"},
		{name: `a"`},
		{name: "test", partial: true},
		{name: "add_test", partial: true},
		{name: "windows", partial: true},
		{name: "drop_windows", partial: true},
		{name: "drop_linux_amd64", partial: true},
		{name: "add_js", partial: true},
	} {
		t.Run(fmt.Sprintf("%q", tt.name), func(t *testing.T) {
			dir := folder(t, "migrations", nil)
			before := tree(t, filepath.Dir(dir))
			_, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Name: tt.name})
			if tt.ok != (err == nil) || !tt.ok && !errors.Is(err, scaffold.ErrName) {
				t.Errorf("New = %v, want success %t or else ErrName", err, tt.ok)
			}
			if !tt.ok {
				unchanged(t, filepath.Dir(dir), before)
			}
			registered := migrate.NewRegistry(migrate.Migration{
				Version: 1, Name: tt.name,
				Up: func(context.Context, *migrate.Tx) error { return nil },
			}).Check()
			if (tt.ok || tt.partial) != (registered == nil) {
				t.Errorf("package migrate says %v", registered)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	const src = "package migrations"
	for _, tt := range []struct {
		name   string
		folder map[string]string
		golden string
		is     error
		text   []string // in the error
	}{
		{
			name:   "name of another version",
			folder: map[string]string{"v0001_add_thing.go": src, "v0002_b.go": src},
			is:     scaffold.ErrExists,
			text:   []string{"v0001_add_thing.go", "choose another name"},
		},
		{
			name:   "gap",
			folder: map[string]string{"v0001_a.go": src, "v0003_c.go": src},
			text:   []string{"v0003_c.go", "no v0002"},
		},
		{
			name:   "no first",
			folder: map[string]string{"v0002_b.go": src},
			text:   []string{"v0002_b.go", "no v0001"},
		},
		{
			name:   "duplicate",
			folder: map[string]string{"v0001_a.go": src, "v0001_b.go": src},
			text:   []string{"v0001_a.go", "v0001_b.go"},
		},
		{
			name:   "version 0",
			folder: map[string]string{"v0000_a.go": src},
			text:   []string{"v0000_a.go", "start at 1"},
		},
		{
			name:   "version beyond uint32",
			folder: map[string]string{"v4294967296_a.go": src},
			text:   []string{"v4294967296_a.go"},
		},
		{
			name:   "two packages",
			folder: map[string]string{"v0001_a.go": src, "other.go": "package other"},
			text:   []string{"v0001_a.go", "other.go"},
		},
		{
			name:   "no Go",
			folder: map[string]string{"v0001_a.go": "<<<<<<< HEAD"},
			text:   []string{"v0001_a.go"},
		},
		{
			name:   "fixture is there",
			folder: map[string]string{"testdata/golden/v0001_add_thing/after.txt": "kept"},
			is:     scaffold.ErrExists,
			text:   []string{filepath.FromSlash("golden/v0001_add_thing")},
		},
		{
			name:   "golden folder is a file",
			folder: map[string]string{"testdata/golden": "kept"},
			text:   []string{"is a file"},
		},
		{
			name:   "golden folder below a file",
			folder: map[string]string{"testdata": "kept"},
		},
		{
			name:   "file is in the way after the fixture was made",
			folder: map[string]string{"v0001_add_thing.go/keep": "kept"},
			golden: "new/golden",
			is:     scaffold.ErrExists,
			text:   []string{"v0001_add_thing.go"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t, "migrations", tt.folder)
			before := tree(t, filepath.Dir(dir))
			c, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Golden: tt.golden, Name: "add_thing"})
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("New = %v, want an error that matches %v", err, tt.is)
			}
			for _, text := range tt.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("no %q in the error: %v", text, err)
				}
			}
			if diff := cmp.Diff(scaffold.Created{}, c); diff != "" {
				t.Errorf("Created (-want +got):\n%s", diff)
			}
			unchanged(t, filepath.Dir(dir), before)
		})
	}
}

func TestNewWantsFolder(t *testing.T) {
	dir := folder(t, "migrations", map[string]string{"file": ""})
	before := tree(t, dir)
	_, err := scaffold.New(t.Context(), scaffold.Options{Dir: filepath.Join(dir, "none"), Name: "add_thing"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("New without its folder = %v, want fs.ErrNotExist", err)
	}
	if _, err = scaffold.New(t.Context(), scaffold.Options{Dir: filepath.Join(dir, "file"), Name: "add_thing"}); err == nil {
		t.Error("New in a file succeeded")
	}
	unchanged(t, dir, before)
}

// TestNewWaits: a call waits for the one that holds the lock.
func TestNewWaits(t *testing.T) {
	dir := folder(t, "migrations", map[string]string{lockName: ""})
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		go func() {
			_, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Name: "add_thing"})
			done <- err
		}()
		synctest.Wait()
		if diff := cmp.Diff([]string{lockName}, tree(t, dir)); diff != "" {
			t.Errorf("while it waits (-want +got):\n%s", diff)
		}
		if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNewGivesUp: a lock that nobody gives up ends the wait with ctx, is named
// and stays.
func TestNewGivesUp(t *testing.T) {
	dir := folder(t, "migrations", map[string]string{lockName: ""})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := scaffold.New(ctx, scaffold.Options{Dir: dir, Name: "add_thing"})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), lockName) {
			t.Errorf("New = %v, want an error that names the lock and matches DeadlineExceeded", err)
		}
	})
	unchanged(t, dir, []string{lockName})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir = folder(t, "migrations", nil)
	if _, err := scaffold.New(ctx, scaffold.Options{Dir: dir, Name: "add_thing"}); !errors.Is(err, context.Canceled) {
		t.Errorf("New after its ctx = %v, want Canceled", err)
	}
	unchanged(t, dir, nil)
}

const crowd = 15

func TestNewConcurrently(t *testing.T) {
	t.Run("different names", func(t *testing.T) {
		dir := folder(t, "migrations", nil)
		versions, errs := atOnce(t, dir, func(i int) string { return fmt.Sprintf("add_thing%d", i) })
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		slices.Sort(versions)
		if diff := cmp.Diff(upTo(crowd), versions); diff != "" {
			t.Errorf("versions (-want +got):\n%s", diff)
		}
		checkLadder(t, dir, crowd)
	})
	t.Run("one name", func(t *testing.T) {
		dir := folder(t, "migrations", nil)
		_, errs := atOnce(t, dir, func(int) string { return "add_thing" })
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, scaffold.ErrExists) {
				t.Errorf("New = %v, want ErrExists", err)
			}
		}
		if won != 1 {
			t.Errorf("%d calls succeeded, want 1", won)
		}
		checkLadder(t, dir, 1)
	})
	// Calls that fail late give their versions back without leaving gaps.
	t.Run("some fail", func(t *testing.T) {
		dir := folder(t, "migrations", map[string]string{"file": ""})
		var wg sync.WaitGroup
		for i := range crowd {
			wg.Go(func() {
				o := scaffold.Options{Dir: dir, Name: fmt.Sprintf("add_thing%d", i)}
				if i%3 == 0 {
					o.Golden = "file"
				}
				if _, err := scaffold.New(t.Context(), o); (err == nil) != (i%3 != 0) {
					t.Errorf("New of %s = %v", o.Name, err)
				}
			})
		}
		wg.Wait()
		checkLadder(t, dir, crowd-crowd/3)
	})
}

// TestEdited: no version starts after one that is not what its line says.
func TestEdited(t *testing.T) {
	dir := folder(t, "migrations", map[string]string{
		"v0001_a.go": "package migrations\n\nvar a = b", "v0002_b.go": "package migrations", "helpers.go": "package migrations\n\nvar b = 1",
	})
	for _, name := range []string{"add_thing", "add_other"} {
		if _, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "helpers.go"), []byte("package migrations\n\nvar b = 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	_, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Name: "add_last"})
	v, ok := errors.AsType[*frozen.VersionError](err)
	if !ok || v.Version != 1 || !errors.Is(err, frozen.ErrEdited) {
		t.Errorf("New = %v, want a *VersionError of v1 that matches ErrEdited", err)
	}
	unchanged(t, dir, before)

	if err := frozen.Accept(dir, 1); err != nil {
		t.Fatal(err)
	}
	if c, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Name: "add_last"}); err != nil || c.Version != 5 {
		t.Errorf("New = v%d, %v after Accept, want v5", c.Version, err)
	}
}

// atOnce calls New from many goroutines.
func atOnce(t *testing.T, dir string, name func(int) string) (versions []uint32, errs []error) {
	t.Helper()
	versions, errs = make([]uint32, crowd), make([]error, crowd)
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			c, err := scaffold.New(t.Context(), scaffold.Options{Dir: dir, Name: name(i)})
			versions[i], errs[i] = c.Version, err
		})
	}
	wg.Wait()
	return versions, errs
}

func upTo(n uint32) []uint32 {
	var versions []uint32
	for v := range n {
		versions = append(versions, v+1)
	}
	return versions
}

// checkLadder: dir holds n migrations, in order and each with its fixture and its
// line, and no lock.
func checkLadder(t *testing.T, dir string, n uint32) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "v*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var versions []uint32
	var want, got []string
	for _, file := range files {
		id := strings.TrimSuffix(filepath.Base(file), ".go")
		var v uint32
		if _, err := fmt.Sscanf(id, "v%04d_", &v); err != nil {
			t.Error(err)
		}
		versions = append(versions, v)
		want = append(want, id)
		read(t, filepath.Join(dir, "testdata", "golden", id, "fixture.txt"))
	}
	if diff := cmp.Diff(upTo(n), versions); diff != "" {
		t.Errorf("versions of the files (-want +got):\n%s", diff)
	}
	folders, err := os.ReadDir(filepath.Join(dir, "testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		got = append(got, f.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("golden folders (-want +got):\n%s", diff)
	}
	if err := frozen.Check(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, lockName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock is still there (%v)", err)
	}
}

// created returns what New makes of a version, relative to its folder.
func created(version uint32, id, golden string) scaffold.Created {
	return scaffold.Created{Version: version, File: id + ".go", Fixture: filepath.Join(golden, id, "fixture.txt"), Test: "migrations_test.go"}
}

// folder makes a folder of that name, alone in another, with files.
func folder(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// tree returns the paths of everything below root.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != root {
			rel, _ := filepath.Rel(root, path)
			paths = append(paths, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func unchanged(t *testing.T, root string, before []string) {
	t.Helper()
	if diff := cmp.Diff(before, tree(t, root)); diff != "" {
		t.Errorf("files changed (-want +got):\n%s", diff)
	}
}
