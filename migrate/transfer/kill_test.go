package transfer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// copyDir, in the environment, makes the test binary a process that copies the store
// "from" there into "to".
const copyDir = "KVMIGRATE_TEST_COPY_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(copyDir); dir != "" {
		if err := copyIn(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// copyIn copies, and prints a line before each transaction.
func copyIn(ctx context.Context, dir string) error {
	from, err := badgerstore.Open(ctx, filepath.Join(dir, "from"), badgerstore.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	to, err := badgerstore.Open(ctx, filepath.Join(dir, "to"), badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		return err
	}
	tell := counting{to, func() { fmt.Println("transaction") }}
	_, err = transfer.Copy(ctx, from, narrow{Store: tell, entries: 12}, transfer.Options{}) // some 60 transactions
	return errors.Join(err, to.Close(), from.Close())
}

func openDir(t *testing.T, dir string) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestKilled kills a process that copies at random moments, until one reaches the end:
// what is there is refused until then, and none begins anew.
func TestKilled(t *testing.T) {
	rounds := 2
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		rounds = 50
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range rounds {
		dir := t.TempDir()
		from := openDir(t, filepath.Join(dir, "from"))
		fill(t, from, 600)
		want := dumpOf(t, from)
		if err := from.Close(); err != nil {
			t.Fatal(err)
		}
		kills, most := 0, uint64(0)
		for copyUntil(t, dir, 1+random.IntN(20)) {
			kills++
			to := openDir(t, filepath.Join(dir, "to"))
			err := to.View(t.Context(), transfer.UnderWay)
			unfinished, ok := errors.AsType[*transfer.UnfinishedError](err)
			switch {
			case ok:
				if unfinished.Entries < most {
					t.Errorf("%d entries were copied after %d: the copy began anew", unfinished.Entries, most)
				}
				most = unfinished.Entries
				wantRefused(t, to)
			case err != nil:
				t.Fatal(err)
			default:
				if got := dumpOf(t, to); got != "" && got != want {
					t.Errorf("a store that is half a copy passes for one:\n%s", got)
				}
			}
			if err := to.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if kills < 2 || most == 0 {
			t.Errorf("%d kills, the last after %d entries: the test kills at the wrong moments", kills, most)
		}
		to := openDir(t, filepath.Join(dir, "to"))
		if got := dumpOf(t, to); got != want {
			t.Errorf("after %d kills the copy differs", kills)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// copyUntil runs the process and kills it after it printed some lines. It reports
// whether it did.
func copyUntil(t *testing.T, dir string, lines int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), copyDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed := bufio.NewScanner(out)
	n := 0
	for n < lines && printed.Scan() {
		n++
	}
	if n < lines {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return false
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	return true
}

// TestBoundedMemory copies 256 MiB, which neither side holds.
func TestBoundedMemory(t *testing.T) {
	const most = 32 << 20
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
	from := made{Store: openStore(t), reached: func(i int) {
		if i%4000 == 0 {
			runtime.GC() // what counts is what is held
			measure()
		}
	}}
	to := &mirror{made: made{Store: openStore(t)}}
	report, err := transfer.Copy(t.Context(), from, to, transfer.Options{})
	if err != nil || report.Bytes < 256<<20 || to.bytes < 256<<20 {
		t.Fatalf("Copy = %d bytes, %v; %d were written", report.Bytes, err, to.bytes)
	}
	if peak-least > most {
		t.Errorf("%d MiB were held, want at most %d", (peak-least)>>20, most>>20)
	}
}

// A made is a store whose entries are made as they are read.
type made struct {
	store.Store
	reached func(int) // is told of each entry; may be nil
}

func (m made) View(ctx context.Context, fn func(store.Reader) error) error {
	return m.Store.View(ctx, func(r store.Reader) error { return fn(madeReader{r, m.reached}) })
}

type madeReader struct {
	store.Reader
	reached func(int)
}

func (r madeReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		e := store.Entry{Value: make([]byte, 8<<10)}
		for i := range 32 << 10 {
			e.Key = fmt.Appendf(e.Key[:0], "row/%09d", i)
			if string(e.Key) < string(s.From) {
				continue
			}
			if r.reached != nil {
				r.reached(i)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// A mirror is a made store that forgets what is written into it, but for the record of
// the copy.
type mirror struct {
	made
	bytes int
}

func (m *mirror) Update(ctx context.Context, fn func(store.Txn) error) error {
	return m.Store.Update(ctx, func(tx store.Txn) error { return fn(mirrorTxn{tx, m}) })
}

type mirrorTxn struct {
	store.Txn
	m *mirror
}

func (t mirrorTxn) Set(e store.Entry) error {
	if string(e.Key) == ":copy" {
		return t.Txn.Set(e)
	}
	t.m.bytes += len(e.Key) + len(e.Value)
	return nil
}
