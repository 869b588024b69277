package migratetest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// entryPoints are what a program's test calls.
var entryPoints = map[string]func(t *testing.T, s Suite){
	"Run": Run, "Golden": Golden, "Ladder": Ladder, "Converge": Converge, "Crash": Crash, "files": files,
	"Memory": func(t *testing.T, s Suite) {
		Memory(t, s, 1, 1, func(int) store.Entry { return store.Entry{} }, 64<<20)
	},
	"Replay": func(t *testing.T, s Suite) { Replay(t, s, s.Registry) },
}

// files is the part of Run that has files.
func files(t *testing.T, s Suite) {
	t.Helper()
	Golden(t, s)
	Ladder(t, s)
}

// output is what a test of this package prints, run by itself in a process with
// more arguments and variables. It must fail.
func output(t *testing.T, name string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-test.run=^"+name+"$")...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("%s %v succeeds:\n%s", name, env, out)
	}
	return string(out)
}

// entryPoint runs the entry point that the environment names, if it names one.
func entryPoint(t *testing.T, s Suite) (ran bool) {
	t.Helper()
	run, ok := entryPoints[os.Getenv("ENTRY_POINT")]
	if !ok {
		return false
	}
	s.Golden, s.Stores = filepath.Join(os.Getenv("FILES"), "golden"), filepath.Join(os.Getenv("FILES"), "stores")
	run(t, s)
	return true
}

// TestFaultyRegistry: what is wrong with the registry is said once, and not taken
// for what a migration does.
func TestFaultyRegistry(t *testing.T) {
	twice := migrate.Migration{Version: 2, Name: "again", Up: set("app/b", "1")}
	s := suite(t, nil, append([]migrate.Migration{twice}, good...)...)
	if entryPoint(t, s) {
		return
	}
	for name := range entryPoints {
		t.Run(name, func(t *testing.T) {
			files := t.TempDir()
			bad := filepath.Join(files, "golden", "v0002_plus", "bad_row.txt")
			writeFile(t, bad, `"app/x" hex:01`+"\n")
			out := output(t, "TestFaultyRegistry", []string{"ENTRY_POINT=" + name, "FILES=" + files}, "-update")
			if strings.Count(out, "version 2 is registered twice") != 1 || strings.Contains(out, "-update=") {
				t.Errorf("want the fault once, and nothing to accept:\n%s", out)
			}
			if _, err := os.Stat(strings.TrimSuffix(bad, ".txt") + ".error"); err == nil {
				t.Error("the fault became a golden error")
			}
		})
	}
}

// TestUpdateOfNoVersion: -update=9 does not pass where there is no v9.
func TestUpdateOfNoVersion(t *testing.T) {
	if entryPoint(t, suite(t, nil, good...)) {
		return
	}
	out := output(t, "TestUpdateOfNoVersion", []string{"ENTRY_POINT=Run", "FILES=" + t.TempDir()}, "-update=9")
	if strings.Count(out, "-update=9: there is no migration of v9: the latest is v2") != 1 {
		t.Errorf("want it to say once that there is no v9:\n%s", out)
	}
}

// release gives s the files of all its migrations, as -update makes them.
func release(t *testing.T, s Suite) {
	t.Helper()
	updating(t, "true", func() error {
		files(t, s)
		return nil
	})
	files(t, s)
}

// TestLostFiles: what a version had when it got its golden file does not come back by
// -update alone.
func TestLostFiles(t *testing.T) {
	picky := migrate.Migration{Version: 2, Name: "plus", Up: migrate.Rewrite([]byte("app/"), func(v []byte) ([]byte, error) {
		if len(v) == 0 {
			return nil, store.ErrInvalidKey
		}
		return plus(v)
	})}
	s := suite(t, nil, good[0], picky)
	if entryPoint(t, s) {
		return
	}
	for _, test := range []struct {
		name    string
		lost    []string
		restore string // what a message names
		names   string // the -update that makes it all the same, if there is one
	}{
		{"all stores", []string{"stores"}, "stores/v0001", ""},
		{"the newest store", []string{"stores/v0002", "stores/v0002.after.txt"}, "stores/v0002", "2"},
		{"an old store", []string{"stores/v0001", "stores/v0001.after.txt"}, "stores/v0001", ""},
		{"what became of an old store", []string{"stores/v0001.after.txt"}, "stores/v0001.after.txt", "1"},
		{"what became of the newest store", []string{"stores/v0002.after.txt"}, "stores/v0002.after.txt", "2"},
		{"the newest error", []string{"golden/v0002_plus/bad_row.error"}, "golden/v0002_plus/bad_row.error", "2"},
		{"an old golden file", []string{"golden/v0001_one/after.txt"}, "golden/v0001_one/after.txt", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			s := s
			s.Golden, s.Stores = filepath.Join(dir, "golden"), filepath.Join(dir, "stores")
			writeFile(t, filepath.Join(s.Golden, "v0002_plus", "bad_row.txt"), `"app/x" hex:`+"\n")
			release(t, s)
			for _, path := range test.lost {
				if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
					t.Fatal(err)
				}
			}
			env := []string{"ENTRY_POINT=files", "FILES=" + dir}
			for _, args := range [][]string{{"-update"}, {}} {
				out := output(t, "TestLostFiles", env, args...)
				if !strings.Contains(out, filepath.FromSlash(test.restore)) || !strings.Contains(out, "restore it from version control") {
					t.Errorf("with %v want %s to be restored:\n%s", args, test.restore, out)
				}
				for _, path := range test.lost {
					if _, err := os.Stat(filepath.Join(dir, path)); err == nil && path != "stores" {
						t.Errorf("with %v %s came back", args, path)
					}
				}
			}
			if test.names != "" {
				updating(t, test.names, func() error {
					files(t, s)
					return nil
				})
				files(t, s)
			}
		})
	}
}

// TestNextVersion: -update makes what a new version needs, and adds nothing to
// those before it.
func TestNextVersion(t *testing.T) {
	s := suite(t, nil, good...)
	release(t, s)
	s.Registry = migrate.NewRegistry(append(good, migrate.Migration{Version: 3, Name: "more", Up: set("app/c", "3")})...)
	release(t, s)
	for _, path := range []string{s.storeDir(3) + ".after.txt", filepath.Join(s.storeDir(3), "MANIFEST")} {
		readFile(t, path)
	}
}

// TestDescription: one command takes a new description into all the histories that
// show it.
func TestDescription(t *testing.T) {
	s := suite(t, nil, good...)
	release(t, s)
	described := good[0]
	described.Description = "making the first row"
	s.Registry = migrate.NewRegistry(described, good[1])
	wantText(t, golden(t, s), "go test -update=1 accepts it")
	updating(t, "1", func() error {
		files(t, s)
		return nil
	})
	files(t, s)
}

// TestDamagedStore: the message names the store in the folder of the program, and
// what to do.
func TestDamagedStore(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"no tables": func(dir string) error {
			tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
			if len(tables) == 0 {
				return errors.Join(err, errors.New("it has none"))
			}
			for _, table := range tables {
				err = errors.Join(err, os.Remove(table))
			}
			return err
		},
		"a pointer of Git LFS": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("version https://git-lfs.github.com/spec/v1\n"), 0o644)
		},
		"empty": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := suite(t, nil, good...)
			updating(t, "true", func() error { return s.makeStores(t.Context()) })
			if err := damage(s.storeDir(1)); err != nil {
				t.Fatal(err)
			}
			_, err := s.oldStore(t, 1)
			wantText(t, err, s.storeDir(1)+" ", "restore it from version control", ".gitignore", "Git LFS")
			if err != nil && strings.Count(err.Error(), os.TempDir()) != strings.Count(err.Error(), s.storeDir(1)) {
				t.Errorf("it names a copy: %v", err)
			}
		})
	}
}

// TestPanic: a panic is shown where the author looks.
func TestPanic(t *testing.T) {
	panics := migrate.Migration{Version: 1, Name: "panics", Up: migrate.Phases(func(context.Context, *migrate.Tx) error {
		panic("a row of nobody")
	})}
	err := golden(t, suite(t, nil, panics))
	wantText(t, err, "v0001_panics.go: at checks_test.go:", "panic: a row of nobody")
}

// TestOverBudget: the message names the file, and what to do.
func TestOverBudget(t *testing.T) {
	err := suite(t, nil, good...).overBudget(2, 15_000, 100<<20, 64<<20)
	wantText(t, err, "v0002_plus.go over 15000 rows: the live heap grew by 100 MiB, the budget is 64 MiB", "migrate.Rewrite")
}
