package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/etcdcli"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

// TestMovesKilled moves the system schema with its rows to etcd and back, by processes
// that are killed at random moments. Every program refuses what is there until it is
// whole, and in the end it is what it was.
func TestMovesKilled(t *testing.T) {
	rounds := 1
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		rounds = 20
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	address := server(t, nil)
	for range rounds {
		dir := t.TempDir()
		home, back := filepath.Join(dir, "home"), filepath.Join(dir, "back")
		etcd := "etcd:" + address + "/" + filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
		fillDir(t, home)
		want := kvmigrate(t, "--store", home, "dump")
		for _, move := range [][2]string{{home, etcd}, {etcd, back}} {
			from, to := move[0], move[1]
			kills := 0
			for killed(t, 3+random.IntN(12), "copy", "--from", from, "--to", to) {
				kills++
				wantHalf(t, to, want)
			}
			if kills == 0 {
				t.Errorf("the copy to %s was never killed", to)
			}
			if diff := cmp.Diff(want, kvmigrate(t, "--store", to, "dump")); diff != "" {
				t.Errorf("%s after %d kills (-want +got):\n%s", to, kills, diff)
			}
		}
		if got := kvmigrate(t, "--store", back, "status"); !strings.Contains(got, "v6") {
			t.Errorf("status of what came back:\n%s", got)
		}
	}
}

// wantHalf fails the test unless the store is refused, or empty, or whole.
func wantHalf(t *testing.T, name, whole string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cfg := tablescli.Config()
	cfg.Stores = map[string]cli.Opener{"etcd": etcdcli.Open}
	code := cli.Run(t.Context(), cfg, []string{"--store", name, "plan"}, &stdout, &stderr)
	switch {
	case code == cli.ExitRefused && strings.Contains(stderr.String(), "the store is a copy that is not finished"):
	case code == cli.ExitFailed && strings.Contains(stderr.String(), "file does not exist"):
	case code == cli.ExitDone:
		if got := kvmigrate(t, "--store", name, "dump"); got != "" && got != whole {
			t.Errorf("half a copy passes for a store:\n%s", got)
		}
	default:
		t.Errorf("plan on half a copy: exit code %d\n%s", code, stderr.Bytes())
	}
}
