package migrate_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// killDir, in the environment, makes the test binary the program that is killed:
// it migrates the store there and exits.
const killDir = "KVMIGRATE_TEST_KILL_DIR"

// programs are what the test binary can be instead, by the variable of the
// environment that names the directory of their store.
var programs = map[string]func(ctx context.Context, dir string) error{killDir: migrateKilled}

func TestMain(m *testing.M) {
	for name, run := range programs {
		if dir := os.Getenv(name); dir != "" {
			if err := run(context.Background(), dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

const killRows = 1500

// announce tells the parent of a step.
var announce = func() {}

// killed are a plain migration, one in many small steps, one in batches that
// overlap, in two phases, and a plain one again. A row that is changed twice would
// show it.
var killed = []migrate.Migration{
	{Version: 1, Name: "rows", Up: func(_ context.Context, tx *migrate.Tx) error {
		for i := range killRows {
			if err := tx.Set(store.Entry{Key: killRow(i), Value: []byte("row")}); err != nil {
				return err
			}
		}
		return nil
	}},
	{Version: 2, Name: "rewrite", Up: func(_ context.Context, tx *migrate.Tx) error {
		announce()
		i := 0
		if c := tx.Cursor(); c != nil {
			i = int(binary.BigEndian.Uint32(c))
		}
		for range 5 {
			err := tx.Update(killRow(i), func(v []byte) ([]byte, error) { return append(v, '+'), nil })
			if err != nil {
				return err
			}
			i++
		}
		if i < killRows {
			tx.Continue(binary.BigEndian.AppendUint32(nil, uint32(i)))
		}
		return nil
	}},
	{Version: 3, Name: "batches", Up: migrate.Phases(
		migrate.Rewrite([]byte("app/row/"), func(v []byte) ([]byte, error) {
			announceSome()
			return append(v, '*'), nil
		}),
		migrate.Each([]byte("app/row/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			announceSome()
			e.Key = append([]byte("app/copy/"), e.Key...)
			return tx.Set(e)
		}),
	)},
	{Version: 4, Name: "done", Up: set("app/done", "yes")},
}

// announceSome announces one row in twenty.
func announceSome() {
	if announced.Add(1)%20 == 0 {
		announce()
	}
}

var announced atomic.Int64

func killRow(i int) []byte { return fmt.Appendf(nil, "app/row/%05d", i) }

func migrateKilled(ctx context.Context, dir string) (err error) {
	announce = func() { fmt.Println("step") }
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{Configure: small})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	o := options(migrate.NewRegistry(killed...))
	o.Batches = 3
	_, err = migrate.Up(ctx, narrow{st, 200}, o) // batches of fifty
	return err
}

// TestKilled kills a migrating process with SIGKILL, again and again at random
// moments, until it gets through, on as many stores as it takes to kill it often
// enough. Each store then holds what an undisturbed run leaves.
func TestKilled(t *testing.T) {
	undisturbed := openStore(t)
	mustUp(t, narrow{undisturbed, 200}, killed)
	want := contents(t, undisturbed)

	enough := soak(30, 1000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for kills := 0; kills < enough; {
		dir := t.TempDir()
		for {
			done, err := runKilled(t, dir, random)
			if err != nil {
				t.Fatal(err)
			}
			if done {
				break
			}
			kills++
		}
		st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: small})
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, st); got != want {
			t.Errorf("store after kills (-undisturbed +killed):\n%s", cmp.Diff(want, got))
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runKilled runs the program and kills it unless it is done before: in one run of
// four early, while it opens the store, and otherwise after some steps, so that
// runs get on however slow the machine is.
func runKilled(t *testing.T, dir string, random *rand.Rand) (done bool, err error) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	steps, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return false, err
	}
	if random.IntN(4) == 0 {
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(50*time.Millisecond))), kill)
		defer timer.Stop()
	}
	last := 1 + random.IntN(60)
	for lines, n := bufio.NewScanner(steps), 1; lines.Scan(); n++ {
		if n == last {
			kill()
		}
	}
	err = cmd.Wait()
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, nil
	}
	return false, fmt.Errorf("%w\n%s", err, &stderr)
}
