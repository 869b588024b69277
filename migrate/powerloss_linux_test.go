package migrate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// lossDir, in the environment, makes the test binary the program whose machine
// loses its power: it migrates the store there, with SyncWrites if lossSynced is set.
const (
	lossDir    = "KVMIGRATE_TEST_LOSS_DIR"
	lossSynced = "KVMIGRATE_TEST_LOSS_SYNCED"
)

func init() { programs[lossDir] = lossProgram }

// TestPowerLossOnDisk is TestPowerLoss on a real file system, which is shut down
// under the running program so that everything that was not synced is gone. Every
// other program goes on, with SyncWrites, from what one without was killed over: Badger
// makes that durable when it opens it, which SyncWrites rely on. The test
// needs root and a loop device, and so belongs to make soak.
func TestPowerLossOnDisk(t *testing.T) {
	rounds := soak(0, 60)
	if rounds == 0 {
		return
	}
	if out, err := exec.Command("losetup", "--find").CombinedOutput(); os.Getuid() != 0 || err != nil {
		t.Skipf("no root, or no loop device: %v %s", err, out)
	}
	base := t.TempDir()
	image, mount := filepath.Join(base, "image"), filepath.Join(base, "mount")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	configure := lossOptions(2048, false)
	want := lossRun(t, configure, t.TempDir(), rewriteTwice, nil, slog.DiscardHandler)
	lost := 0
	for round := range rounds {
		command(t, "truncate", "--size=256M", image)
		command(t, "mkfs.ext4", "-qF", image)
		command(t, "mount", "-o", "loop", image, mount)
		dir := filepath.Join(mount, "store")
		lossFill(t, configure, dir)
		var synced []string
		if round%2 == 1 {
			lossStart(t, dir, 1+random.IntN(30))()
			synced = append(synced, lossSynced+"=1")
		}
		kill := lossStart(t, dir, 1+random.IntN(45), synced...)
		shutdown(t, mount)
		if done := kill(); !done {
			lost++
		}
		command(t, "umount", mount)
		command(t, "mount", "-o", "loop", image, mount)
		if got := lossRun(t, configure, dir, rewriteTwice, nil, slog.DiscardHandler); got != want {
			t.Errorf("store after power loss %d and a second run:\n%s", round, firstDifference(want, got))
		}
		command(t, "umount", mount)
	}
	if lost < rounds/2 {
		t.Errorf("the power failed in the middle of %d migrations of %d: too few", lost, rounds)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// lossFill makes the store that is migrated, and closes it.
func lossFill(t *testing.T, configure func(badger.Options) badger.Options, dir string) {
	t.Helper()
	db, err := badger.Open(configure(badger.DefaultOptions(dir)))
	if err != nil {
		t.Fatal(err)
	}
	st, err := badgerstore.New(db)
	if err != nil {
		t.Fatal(err)
	}
	lossLoad(t, st)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	command(t, "sync")
}

// lossStart starts the program and returns once it has printed some lines, or is done.
// kill kills it, and reports whether it was done.
func lossStart(t *testing.T, dir string, lines int, env ...string) (kill func() (done bool)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), lossDir+"="+dir), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed := bufio.NewScanner(out)
	for n := 0; n < lines && printed.Scan(); n++ {
	}
	return func() bool {
		cancel()
		return cmd.Wait() == nil
	}
}

// shutdown makes the file system stop at once, without writing its journal.
func shutdown(t *testing.T, mount string) {
	t.Helper()
	const ext4Shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Fatal(errno)
	}
}

// lossProgram is the program whose machine loses its power.
func lossProgram(ctx context.Context, dir string) (err error) {
	db, err := badger.Open(lossOptions(2048, os.Getenv(lossSynced) != "")(badger.DefaultOptions(dir)))
	if err != nil && strings.Contains(err.Error(), "Create a new file") {
		return lossProgram(ctx, dir) // an empty log file fails the first Open only
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	st, err := badgerstore.New(db)
	if err != nil {
		return err
	}
	o := one(rewriteTwice)
	o.Heartbeat = -1
	o.Observer = func(e migrate.Event) { fmt.Println(e.Kind) }
	_, err = migrate.Up(ctx, st, o)
	return err
}
