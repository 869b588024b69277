package migratetest

import (
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
	"Run": Run, "Golden": Golden, "Ladder": Ladder, "Converge": Converge, "Crash": Crash,
	"Memory": func(t *testing.T, s Suite) { Memory(t, s, 1, 1, func(int) store.Entry { return store.Entry{} }, 64<<20) },
	"Replay": func(t *testing.T, s Suite) { Replay(t, s, s.Registry) },
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
