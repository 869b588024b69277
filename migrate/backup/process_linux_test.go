package backup_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
)

// programDir, in the environment, makes the test binary a process that makes backups
// there: under a limit on the size of files if limitBytes is set too, and otherwise
// again and again until it is killed.
const (
	programDir = "KVMIGRATE_TEST_BACKUP_DIR"
	limitBytes = "KVMIGRATE_TEST_BACKUP_LIMIT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(programDir); dir != "" {
		run := backups
		if os.Getenv(limitBytes) != "" {
			run = limited
		}
		if err := run(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A made is a store that holds nothing: its entries are made as they are read.
type made struct {
	store.Store
	n       int
	size    int       // of each value
	version byte      // is in each value
	reached func(int) // is told of each entry
}

func (m made) View(ctx context.Context, fn func(store.Reader) error) error { return fn(madeReader{m}) }

type madeReader struct{ made }

func (madeReader) Get([]byte) (store.Entry, error) { return store.Entry{}, store.ErrNotFound }

func (r madeReader) Scan(store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		random := rand.NewChaCha8([32]byte{r.version})
		e := store.Entry{Value: make([]byte, r.size)}
		for i := range r.n {
			_, _ = random.Read(e.Value) // never fails
			e.Key = fmt.Appendf(e.Key[:0], "row/%09d", i)
			if r.reached != nil {
				r.reached(i)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// backups makes one backup after the other, each of other content, and says how far it
// is.
func backups(ctx context.Context, dir string) error {
	for n := byte(0); ; n++ {
		st := made{n: 400, size: 1000, version: n, reached: func(i int) {
			if i%40 == 0 {
				fmt.Println("entry")
			}
		}}
		o := backup.Options{Dir: dir, Keep: 3, Observer: func(p backup.Progress) { fmt.Println(p.Stage) }}
		if _, err := backup.Take(ctx, st, o, at(uint32(n))); err != nil {
			return err
		}
		fmt.Println("taken")
	}
}

// TestKilled kills a process that makes backups at random moments: what has the name of
// a backup is a good one, and the next process removes what is left beside.
func TestKilled(t *testing.T) {
	kills := 25
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		kills = 500
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	left := 0
	for range kills {
		runUntil(t, dir, 1+random.IntN(40))
		for _, name := range files(t, dir) {
			if strings.HasSuffix(name, ".tmp") {
				left++
			}
		}
		list, err := backup.List(t.Context(), dir, "app", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Err != nil {
				t.Errorf("after a kill: %v", l.Err)
			}
		}
		taken := take(t, made{n: 10, size: 10}, backup.Options{Dir: dir, Keep: 2}, 1000)
		if taken.Warning != nil {
			t.Errorf("after a kill: %v", taken.Warning)
		}
		for _, name := range files(t, dir) {
			if strings.HasSuffix(name, ".tmp") {
				t.Errorf("%s is left after the next backup", name)
			}
		}
	}
	if left < kills/5 {
		t.Errorf("%d of %d kills left a file: the test kills at the wrong moments", left, kills)
	}
}

// runUntil runs the process and kills it after it printed some lines.
func runUntil(t *testing.T, dir string, lines int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), programDir+"="+dir)
	cmd.Stderr = os.Stderr
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
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
}

// limited makes one backup that is larger than the process may write.
func limited(ctx context.Context, dir string) error {
	signal.Ignore(syscall.SIGXFSZ) // the write fails instead
	var limit uint64
	if _, err := fmt.Sscan(os.Getenv(limitBytes), &limit); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	_, err := backup.Take(ctx, made{n: 1000, size: 1000}, backup.Options{Dir: dir}, at(3))
	if e, ok := errors.AsType[*backup.NoSpaceError](err); !ok || e.Dir != dir {
		return fmt.Errorf("Take = %w, want a NoSpaceError of %s", err, dir)
	}
	return nil
}

// TestDiskFull meets the end of the disk at several places: while a backup is written,
// and with its last bytes.
func TestDiskFull(t *testing.T) {
	whole := take(t, made{n: 1000, size: 1000}, backup.Options{Dir: t.TempDir()}, 3).Size
	for _, limit := range []int64{0, 10, 100 << 10, whole / 2, whole - 100, whole - 1} {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), programDir+"="+dir, fmt.Sprintf("%s=%d", limitBytes, limit))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("with room for %d bytes: %v\n%s", limit, err, out)
		}
		if diff := cmp.Diff([]string{}, files(t, dir)); diff != "" {
			t.Errorf("with room for %d bytes, files (-want +got):\n%s", limit, diff)
		}
	}
}

// TestBoundedMemory saves and reads 256 MiB, a row at a time.
func TestBoundedMemory(t *testing.T) {
	const most = 48 << 20
	var least, peak uint64
	measure := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if least == 0 {
			least = m.HeapAlloc
		}
		peak = max(peak, m.HeapAlloc)
	}
	runtime.GC()
	measure()
	st := made{n: 32 << 10, size: 8 << 10, reached: func(i int) {
		if i%1000 == 0 {
			runtime.GC() // what counts is what is held
			measure()
		}
	}}
	o := backup.Options{Dir: t.TempDir()}
	take(t, st, o, 3)
	if again := take(t, st, o, 3); !again.Reused {
		t.Error("the same entries were saved twice")
	}
	if peak-least > most {
		t.Errorf("%d MiB were held, want at most %d", (peak-least)>>20, most>>20)
	}
}
