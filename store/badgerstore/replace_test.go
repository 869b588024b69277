package badgerstore_test

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// replaceOptions are those of the stores that are replaced here.
var replaceOptions = badgerstore.Options{Configure: badgerstore.Small, Logger: slog.New(slog.DiscardHandler)}

// rows of a store that TestReplace replaces: all of them say which store it is.
const replaceRows = 50

func fillWith(name string) func(context.Context, *badgerstore.Store) error {
	return func(ctx context.Context, st *badgerstore.Store) error {
		return st.Update(ctx, func(tx store.Txn) error {
			for i := range replaceRows {
				if err := tx.Set(store.Entry{Key: fmt.Appendf(nil, "row/%02d", i), Value: []byte(name)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// loadWith does the same by Load.
func loadWith(name string) func(context.Context, *badgerstore.Store) error {
	return func(ctx context.Context, st *badgerstore.Store) error {
		return st.Load(ctx, func(yield func(store.Entry, error) bool) {
			for i := range replaceRows {
				if !yield(store.Entry{Key: fmt.Appendf(nil, "row/%02d", i), Value: []byte(name)}, nil) {
					return
				}
			}
		})
	}
}

// checkIs returns an error unless st is whole and was filled with name.
func checkIs(name string) func(context.Context, *badgerstore.Store) error {
	return func(ctx context.Context, st *badgerstore.Store) error {
		got, err := filledWith(ctx, st)
		if err == nil && got != name {
			err = fmt.Errorf("the store was filled with %q, want %q", got, name)
		}
		return err
	}
}

// filledWith returns what st was filled with.
func filledWith(ctx context.Context, st *badgerstore.Store) (name string, err error) {
	n := 0
	err = st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			if n > 0 && string(e.Value) != name {
				return fmt.Errorf("rows of %q and of %q", name, e.Value)
			}
			name = string(e.Value)
			n++
		}
		return nil
	})
	if err == nil && n != replaceRows {
		err = fmt.Errorf("%d rows, want %d", n, replaceRows)
	}
	return name, err
}

// make creates a store at dir that is filled with name.
func makeStore(t *testing.T, dir, name string) {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), dir, replaceOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fillWith(name)(t.Context(), st), st.Close()); err != nil {
		t.Fatal(err)
	}
}

// wantStore fails the test unless dir holds a store that was filled with name.
func wantStore(t *testing.T, what, dir, name string) {
	t.Helper()
	o := replaceOptions
	o.MustExist = true
	st, err := badgerstore.Open(t.Context(), dir, o)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if err := errors.Join(checkIs(name)(t.Context(), st), st.Close()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// names returns the names in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// ways are the systems that Replace works on.
var ways = map[string]func() func(){
	"exchange": func() func() { return func() {} },
	"renames":  badgerstore.WithoutExchange,
}

func TestReplace(t *testing.T) {
	for way, on := range ways {
		t.Run(way, func(t *testing.T) {
			defer on()()
			base := t.TempDir()
			dir := filepath.Join(base, "store")
			makeStore(t, dir, "old")
			if err := os.Chmod(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			old, err := badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("new"), checkIs("new"))
			if err != nil {
				t.Fatal(err)
			}
			wantStore(t, "the new store", dir, "new")
			wantStore(t, "the old store", old, "old")
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o750 {
				t.Errorf("the new directory is %v, %v; want the old one's mode 0750", info, err)
			}
			second, err := badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("newer"), checkIs("newer"))
			if err != nil || second == old {
				t.Fatalf("second Replace = %s, %v; want another name than %s", second, err, old)
			}
			wantStore(t, "the newest store", dir, "newer")
			wantStore(t, "the store before", second, "new")
			want := []string{"store", filepath.Base(old), filepath.Base(second)}
			slices.Sort(want)
			if diff := cmp.Diff(want, names(t, base)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReplaceNothing: where there is no store a new one is made, and nothing put aside.
func TestReplaceNothing(t *testing.T) {
	for way, on := range ways {
		for name, prepare := range map[string]func(dir string) error{
			"absent": func(string) error { return nil },
			"empty":  func(dir string) error { return os.MkdirAll(dir, 0o700) },
		} {
			t.Run(way+" "+name, func(t *testing.T) {
				defer on()()
				base := t.TempDir()
				dir := filepath.Join(base, "below", "store")
				if err := prepare(dir); err != nil {
					t.Fatal(err)
				}
				old, err := badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("new"), checkIs("new"))
				if err != nil || old != "" {
					t.Errorf("Replace = %q, %v; want no old files", old, err)
				}
				wantStore(t, "the new store", dir, "new")
				if diff := cmp.Diff([]string{"store"}, names(t, filepath.Dir(dir))); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestReplaceDamaged: the store that is replaced need not be one that can be opened.
func TestReplaceDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	makeStore(t, dir, "old")
	if err := os.Remove(filepath.Join(dir, "MANIFEST")); err != nil {
		t.Fatal(err)
	}
	if _, err := badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("new"), checkIs("new")); err != nil {
		t.Fatal(err)
	}
	wantStore(t, "the new store", dir, "new")
}

// TestReplaceLink: a symbolic link goes on pointing to the store.
func TestReplaceLink(t *testing.T) {
	for way, on := range ways {
		t.Run(way, func(t *testing.T) {
			defer on()()
			base := t.TempDir()
			dir, link := filepath.Join(base, "store"), filepath.Join(base, "link")
			makeStore(t, dir, "old")
			if err := os.Symlink("store", link); err != nil {
				t.Fatal(err)
			}
			if _, err := badgerstore.Replace(t.Context(), link, replaceOptions, fillWith("new"), checkIs("new")); err != nil {
				t.Fatal(err)
			}
			wantStore(t, "the linked store", link, "new")
			wantStore(t, "the store", dir, "new")
		})
	}
}

// TestReplaceRefused: whatever goes wrong before the swap, the store is as it was, and
// nothing is left beside it.
func TestReplaceRefused(t *testing.T) {
	boom := errors.New("boom")
	fails := func(context.Context, *badgerstore.Store) error { return boom }
	elsewhere := t.TempDir()
	for _, tt := range []struct {
		name        string
		fill, check func(context.Context, *badgerstore.Store) error
		configure   func(badger.Options) badger.Options
		want        error
	}{
		{"fill fails", fails, fails, badgerstore.Small, boom},
		{"check fails", fillWith("new"), fails, badgerstore.Small, boom},
		{"values elsewhere", fillWith("new"), checkIs("new"), func(o badger.Options) badger.Options {
			return badgerstore.Small(o).WithValueDir(elsewhere)
		}, store.ErrUnsupported},
		{"read-only", fillWith("new"), checkIs("new"), func(o badger.Options) badger.Options {
			return badgerstore.Small(o).WithReadOnly(true)
		}, store.ErrUnsupported},
	} {
		for _, exists := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, exists %t", tt.name, exists), func(t *testing.T) {
				base := t.TempDir()
				dir := filepath.Join(base, "store")
				want := []string{}
				if exists {
					makeStore(t, dir, "old")
					want = []string{"store"}
				}
				o := replaceOptions
				o.Configure = tt.configure
				if old, err := badgerstore.Replace(t.Context(), dir, o, tt.fill, tt.check); !errors.Is(err, tt.want) || old != "" {
					t.Errorf("Replace = %q, %v; want %v", old, err, tt.want)
				}
				if exists {
					wantStore(t, "the store", dir, "old")
				}
				if diff := cmp.Diff(want, names(t, base)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
	if got := names(t, elsewhere); len(got) != 0 {
		t.Errorf("a refused Replace left %v in the directory of values", got)
	}
}

// TestReplaceInUse: nobody's open store is replaced.
func TestReplaceInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	makeStore(t, dir, "old")
	st, err := badgerstore.Open(t.Context(), dir, replaceOptions)
	if err != nil {
		t.Fatal(err)
	}
	_, err = badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("new"), checkIs("new"))
	wantError(t, "Replace of an open store", err, store.ErrLocked)
	if err := errors.Join(checkIs("old")(t.Context(), st), st.Close()); err != nil {
		t.Error(err)
	}
	_, err = badgerstore.Replace(t.Context(), dir, replaceOptions, func(ctx context.Context, st *badgerstore.Store) error {
		_, err := badgerstore.Open(ctx, dir, replaceOptions)
		wantError(t, "Open while the store is replaced", err, store.ErrLocked)
		return fillWith("new")(ctx, st)
	}, checkIs("new"))
	if err != nil {
		t.Error(err)
	}
}

// TestReplaceWaits: a store that is closed in time is replaced.
func TestReplaceWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	makeStore(t, dir, "old")
	st, err := badgerstore.Open(t.Context(), dir, replaceOptions)
	if err != nil {
		t.Fatal(err)
	}
	o := replaceOptions
	o.Wait = time.Minute
	o.Logger = slog.New(&onFirst{do: func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}})
	if _, err := badgerstore.Replace(t.Context(), dir, o, fillWith("new"), checkIs("new")); err != nil {
		t.Fatal(err)
	}
	wantStore(t, "the new store", dir, "new")
}

// onFirst is a log that does something at its first line.
type onFirst struct {
	slog.Handler
	once sync.Once
	do   func()
}

func (*onFirst) Enabled(context.Context, slog.Level) bool { return true }
func (o *onFirst) Handle(context.Context, slog.Record) error {
	o.once.Do(o.do)
	return nil
}

// TestReplaceForeign: a directory of something else is not put aside.
func TestReplaceForeign(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "diary.txt"), []byte("dear diary"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("new"), checkIs("new"))
	wantError(t, "Replace of a directory of other files", err, store.ErrUnsupported)
	if diff := cmp.Diff([]string{"diary.txt"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	_, err = badgerstore.Replace(t.Context(), "/", replaceOptions, fillWith("new"), checkIs("new"))
	wantError(t, "Replace of a mounted file system", err, store.ErrUnsupported)
}

// replaceDir, in the environment, makes the test binary the process that replaces the
// store there until it is killed; replaceWay says on which system.
const (
	replaceDir = "BADGERSTORE_TEST_REPLACE_DIR"
	replaceWay = "BADGERSTORE_TEST_REPLACE_WAY"
)

func replaceForever(dir string) error {
	defer ways[os.Getenv(replaceWay)]()()
	for n := 0; ; n++ {
		name := fmt.Sprintf("store %d of process %d", n, os.Getpid())
		say := func(do func(context.Context, *badgerstore.Store) error) func(context.Context, *badgerstore.Store) error {
			return func(ctx context.Context, st *badgerstore.Store) error {
				fmt.Println("step")
				return do(ctx, st)
			}
		}
		fill := []func(string) func(context.Context, *badgerstore.Store) error{fillWith, loadWith}[n%2]
		old, err := badgerstore.Replace(context.Background(), dir, replaceOptions, say(fill(name)), say(checkIs(name)))
		if err != nil {
			return err
		}
		fmt.Println("replaced")
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
}

// TestReplaceKilled kills a process that replaces a store at random moments: the store is
// always there, and whole.
func TestReplaceKilled(t *testing.T) {
	kills := 15
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		kills = 300
	}
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			makeStore(t, dir, "old")
			replaced := 0
			for kill := range kills {
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), replaceDir+"="+dir, replaceWay+"="+way)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				for n := rand.N(7); n >= 0 && lines.Scan(); n-- {
					if lines.Text() == "replaced" {
						replaced++
					}
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // it was killed
				o := replaceOptions
				o.MustExist = true
				st, err := badgerstore.Open(t.Context(), dir, o)
				if err != nil {
					t.Fatalf("kill %d: %v", kill, err)
				}
				if _, err := filledWith(t.Context(), st); err != nil {
					t.Errorf("kill %d: %v", kill, err)
				}
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if replaced == 0 {
				t.Error("no store was replaced")
			}
		})
	}
}

// TestReplaceStops builds each state in which a kill between two renames leaves the
// directories, and opens the store.
func TestReplaceStops(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after map[string]string // the directories, and what they hold
		want  string
	}{
		{"before the first rename", map[string]string{"store": "old", "store.restoring": "new"}, "old"},
		{"before the exchange", map[string]string{"store": "old", "store.replaced-x": "new"}, "old"},
		{"after the exchange", map[string]string{"store": "new", "store.replaced-x": "old"}, "new"},
		{"before the old one is put aside", map[string]string{"store": "old", "store.restored": "new"}, "old"},
		{"before the new one takes its place", map[string]string{"store.replaced-x": "old", "store.restored": "new"}, "new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			for dir, name := range tt.after {
				makeStore(t, filepath.Join(base, dir), name)
			}
			dir := filepath.Join(base, "store")
			wantStore(t, "the store after the kill", dir, tt.want)
			if _, err := badgerstore.Replace(t.Context(), dir, replaceOptions, fillWith("newest"), checkIs("newest")); err != nil {
				t.Fatal(err)
			}
			wantStore(t, "the store after the next Replace", dir, "newest")
			for _, name := range names(t, base) {
				if strings.HasSuffix(name, ".restoring") || strings.HasSuffix(name, ".restored") {
					t.Errorf("%s is left after the next Replace", name)
				}
			}
		})
	}
}

func TestSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	makeStore(t, dir, "old")
	st, err := badgerstore.Open(t.Context(), dir, replaceOptions)
	if err != nil {
		t.Fatal(err)
	}
	size, err := st.Size(t.Context())
	if err != nil || size == 0 || size > 4<<20 {
		t.Errorf("Size = %d, %v; want some kilobytes, without the holes of logs", size, err)
	}
	free, needed, err := st.Free(t.Context())
	if memtables := uint64(2 * badgerstore.Small(badger.DefaultOptions("")).MemTableSize); err != nil || free <= needed || needed <= memtables || needed > memtables+2*size {
		t.Errorf("Free = %d, %d, %v; want room, and a need of two memtables (%d) and twice the store at most", free, needed, err, memtables)
	}
	if key := st.EncryptionKey(); key != nil {
		t.Errorf("EncryptionKey = %x, want none", key)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = st.Size(t.Context())
	wantError(t, "Size after Close", err, store.ErrClosed)
	_, _, err = st.Free(t.Context())
	wantError(t, "Free after Close", err, store.ErrClosed)

	memory, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if size, err := memory.Size(t.Context()); size != 0 || err != nil {
		t.Errorf("Size in memory = %d, %v; want 0", size, err)
	}
	_, _, err = memory.Free(t.Context())
	wantError(t, "Free in memory", err, store.ErrUnsupported)
	if err := memory.Close(); err != nil {
		t.Error(err)
	}
}

// TestFreeOfSmallStore: a store that holds next to nothing does not ask for the room of
// two full memtables, which a small disk does not have.
func TestFreeOfSmallStore(t *testing.T) {
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, needed, err := st.Free(t.Context())
	if most := uint64(40 << 20); err != nil || needed > most {
		t.Errorf("Free of an empty store says that %d are needed, %v; want at most %d", needed, err, most)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
