package backup_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"
	"github.com/klauspost/compress/zstd"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC)

// at describes a backup of schema app at version.
func at(version uint32) func(store.Reader) (backup.Header, error) {
	return describe("app", version, noon)
}

func describe(schema string, version uint32, created time.Time) func(store.Reader) (backup.Header, error) {
	return func(store.Reader) (backup.Header, error) {
		return backup.Header{Schema: schema, Version: version, Program: "test v1", Created: created}, nil
	}
}

// openStore opens an empty Badger store on the disk.
func openStore(t testing.TB, configure ...func(badger.Options) badger.Options) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: func(o badger.Options) badger.Options {
		o = badgerstore.Small(o)
		for _, c := range configure {
			o = c(o)
		}
		return o
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func put(t testing.TB, st store.Store, entries ...store.Entry) {
	t.Helper()
	err := store.Update(t.Context(), st, func(tx store.Txn) error {
		for _, e := range entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func entry(key, value string) store.Entry {
	return store.Entry{Key: []byte(key), Value: []byte(value)}
}

func contents(t testing.TB, st store.Store) string {
	t.Helper()
	var out bytes.Buffer
	if err := st.View(t.Context(), func(s store.Reader) error { return dump.Write(&out, s, store.Scan{}) }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func take(t testing.TB, st store.Store, o backup.Options, version uint32) backup.Taken {
	t.Helper()
	taken, err := backup.Take(t.Context(), st, o, at(version))
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// files returns the names in dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	names := []string{}
	all, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}

// replaced returns a store whose files were replaced by those of a backup.
func replaced(t testing.TB, path string, configure func(badger.Options) badger.Options) store.Store {
	t.Helper()
	dir, o := filepath.Join(t.TempDir(), "store"), badgerstore.Options{Configure: configure}
	_, err := badgerstore.Replace(t.Context(), dir, o,
		func(ctx context.Context, st *badgerstore.Store) error {
			var stages []backup.Stage
			_, err := backup.Restore(ctx, path, loaded{t, st}, backup.RestoreOptions{
				Uncompared: true, Observer: func(p backup.Progress) { stages = append(stages, p.Stage) },
			})
			if diff := cmp.Diff([]backup.Stage{backup.Verifying, backup.Restoring}, slices.Compact(stages)); diff != "" {
				t.Errorf("stages of a restore that is not to compare (-want +got):\n%s", diff)
			}
			return err
		},
		func(ctx context.Context, st *badgerstore.Store) error {
			return backup.Compare(ctx, path, st, backup.RestoreOptions{})
		})
	if err != nil {
		t.Fatal(err)
	}
	st, err := badgerstore.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// loaded is a store that is to be loaded, and not filled by transactions.
type loaded struct {
	t testing.TB
	store.Store
}

func (l loaded) Unwrap() store.Store { return l.Store }

func (l loaded) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := l.Store.Update(ctx, fn)
	if err == nil {
		l.t.Error("a store that can be loaded was filled by transactions")
	}
	return err
}

// sample are entries of every kind.
func sample() []store.Entry {
	return []store.Entry{
		entry("\x00\xff", "binary"),
		entry("app:schema_version", "\x00\x00\x00\x03"),
		entry("empty", ""),
		{Key: []byte("expires"), Value: []byte("later"), ExpiresAt: 1 << 40},
		{Key: []byte("meta"), Value: []byte("x"), ExpiresAt: 1<<40 + 1, Meta: 0xfe},
		entry("other/1", "of another schema"),
	}
}

func TestRoundTrip(t *testing.T) {
	big := entry("big", strings.Repeat("0123456789abcdef", 1<<16)) // in the value log
	var many []store.Entry
	for i := range 3000 {
		many = append(many, entry(fmt.Sprintf("many/%05d", i), strings.Repeat("x", i%300)))
	}
	for name, entries := range map[string][]store.Entry{
		"one":  {entry("k", "v")},
		"all":  append(sample(), big),
		"many": many,
		"none": nil,
	} {
		t.Run(name, func(t *testing.T) {
			from, to, dir := openStore(t), openStore(t), t.TempDir()
			put(t, from, entries...)
			taken := take(t, from, backup.Options{Dir: dir}, 3)
			if taken.Reused || taken.Warning != nil || taken.Entries != uint64(len(entries)) {
				t.Errorf("Take = %+v", taken)
			}
			if diff := cmp.Diff([]string{"app-v0003-" + taken.Content + ".kvbackup"}, files(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if stat, err := os.Stat(taken.Path); err != nil || stat.Mode().Perm() != 0o600 || stat.Size() != taken.Size {
				t.Errorf("file %v, %v; want mode 0600 and %d bytes", stat, err, taken.Size)
			}
			info, err := backup.Verify(t.Context(), taken.Path, backup.RestoreOptions{})
			if diff := cmp.Diff(taken.Info, info); diff != "" || err != nil {
				t.Errorf("Verify: %v; (-taken +verified):\n%s", err, diff)
			}
			if _, err := backup.Restore(t.Context(), taken.Path, to, backup.RestoreOptions{Schema: "app"}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(contents(t, from), contents(t, to)); diff != "" {
				t.Errorf("restored store (-saved +restored):\n%s", diff)
			}
			if err := backup.Compare(t.Context(), taken.Path, to, backup.RestoreOptions{}); err != nil {
				t.Errorf("Compare: %v", err)
			}
			if diff := cmp.Diff(contents(t, from), contents(t, replaced(t, taken.Path, badgerstore.Small))); diff != "" {
				t.Errorf("store that was replaced (-saved +restored):\n%s", diff)
			}
			put(t, to, entry("another", ""))
			if err := backup.Compare(t.Context(), taken.Path, to, backup.RestoreOptions{}); !errors.Is(err, backup.ErrDifferent) {
				t.Errorf("Compare of a changed store: %v, want ErrDifferent", err)
			}
		})
	}
}

// TestFormat freezes what docs/on-disk-format.md promises: the bytes before and in the
// compression, and a file that stays readable.
func TestFormat(t *testing.T) {
	const golden = "testdata/app-v0003-ee3b6c58f3d208a4.kvbackup"
	st := openStore(t)
	put(t, st, sample()...)
	taken := take(t, st, backup.Options{Dir: t.TempDir()}, 3)
	file, err := os.ReadFile(taken.Path)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const head = "\x89KVB\r\n\x1a\n" + "\x00\x00\x00\x01" + "\x00\x00\x00\x46" +
		"\xa5" + "\x66schema\x63app" + "\x67created\x1b\x00\x00\x01\x94\x69\xd5\xb2\x00" + "\x67program\x67test v1" + "\x67version\x03" + "\x6aencryption\x64none"
	const records = "\x02\x00\xff" + "\x00" + "\x00" + "\x06binary" +
		"\x12app:schema_version" + "\x00" + "\x00" + "\x04\x00\x00\x00\x03" +
		"\x05empty" + "\x00" + "\x00" + "\x00" +
		"\x07expires" + "\x00" + "\x80\x80\x80\x80\x80\x20" + "\x05later" +
		"\x04meta" + "\xfe" + "\x81\x80\x80\x80\x80\x20" + "\x01x" +
		"\x07other/1" + "\x00" + "\x00" + "\x11of another schema"
	if got := string(file[:min(len(file), len(head))]); got != head {
		t.Errorf("head %q, want %q", got, head)
	}
	zip, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer zip.Close()
	body, err := zip.DecodeAll(file[len(head):len(file)-80], nil)
	if err != nil || string(body) != records {
		t.Errorf("records %q, %v; want %q", body, err, records)
	}
	trailer := "0000000000000006" + "000000000000004c" + taken.Content
	if got := hex.EncodeToString(file[len(file)-80:])[:len(trailer)]; got != trailer {
		t.Errorf("trailer %s…, want %s…", got, trailer)
	}

	info, err := backup.Verify(t.Context(), golden, backup.RestoreOptions{})
	want := taken.Info
	want.Path, want.Size = golden, info.Size // which may change with the compression
	if diff := cmp.Diff(want, info); diff != "" || err != nil {
		t.Errorf("golden file: %v; (-want +got):\n%s", err, diff)
	}
	if err := backup.Compare(t.Context(), golden, st, backup.RestoreOptions{}); err != nil {
		t.Errorf("golden file: %v", err)
	}
}

// TestDamaged cuts a file at every byte and flips every bit of it, and refuses each
// without writing.
func TestDamaged(t *testing.T) {
	key := []byte("0123456789abcdef")
	for name, key := range map[string][]byte{"plain": nil, "encrypted": key} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			put(t, st, sample()...)
			good, err := os.ReadFile(take(t, st, backup.Options{Dir: t.TempDir(), Key: key}, 3).Path)
			if err != nil {
				t.Fatal(err)
			}
			to, err := badgerstore.OpenInMemory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = to.Close() }()
			path := filepath.Join(t.TempDir(), "file")
			try := func(what string, data []byte) {
				t.Helper()
				// A file that is truncated and written again is flushed when it is closed.
				if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := backup.Restore(t.Context(), path, to, backup.RestoreOptions{Key: key})
				file, ok := errors.AsType[*backup.FileError](err)
				if !ok || file.Path != path || !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrForeign) && !errors.Is(err, backup.ErrFormat) {
					t.Errorf("%s: Restore = %v, want a FileError", what, err)
				}
			}
			for n := range good {
				try(fmt.Sprintf("cut to %d bytes", n), good[:n])
			}
			for bit := range 8 * len(good) {
				bad := slices.Clone(good)
				bad[bit/8] ^= 1 << (bit % 8)
				try(fmt.Sprintf("bit %d flipped", bit), bad)
			}
			try("a byte more", append(slices.Clone(good), 0))
			try("twice", append(slices.Clone(good), good...))
			try("another file", []byte("This is a text and no backup, whatever its length, and it goes on and on for quite a while, as texts do."))
			if got := contents(t, to); got != "" {
				t.Errorf("a refused file left in the store:\n%s", got)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	from, dir := openStore(t), t.TempDir()
	put(t, from, sample()...)
	path := take(t, from, backup.Options{Dir: dir}, 3).Path
	full := openStore(t)
	put(t, full, entry("k", "v"))
	for _, tt := range []struct {
		name, path string
		to         store.Store
		schema     string
		want       error
	}{
		{"another schema", path, openStore(t), "system", backup.ErrForeign},
		{"not empty", path, full, "app", backup.ErrNotEmpty},
		{"absent", filepath.Join(dir, "absent"), openStore(t), "app", os.ErrNotExist},
		{"a directory", dir, openStore(t), "app", backup.ErrForeign},
	} {
		before := contents(t, tt.to)
		if _, err := backup.Restore(t.Context(), tt.path, tt.to, backup.RestoreOptions{Schema: tt.schema}); !errors.Is(err, tt.want) {
			t.Errorf("%s: Restore = %v, want %v", tt.name, err, tt.want)
		}
		if diff := cmp.Diff(before, contents(t, tt.to)); diff != "" {
			t.Errorf("%s changed the store (-before +after):\n%s", tt.name, diff)
		}
	}
	if _, err := backup.Verify(t.Context(), path, backup.RestoreOptions{Schema: "system"}); !errors.Is(err, backup.ErrForeign) {
		t.Errorf("Verify of a backup of another schema = %v, want ErrForeign", err)
	}
}

// TestUnfit: all that a store cannot keep is found before anything is written.
func TestUnfit(t *testing.T) {
	from, to := openStore(t), poor{openStore(t)}
	put(t, from, sample()...)
	overhead := to.Limits().EntryOverhead
	put(t, from, entry("!mine", ""), entry("k"+strings.Repeat("k", 100), ""), entry("v1", strings.Repeat("v", 3001)), entry("v2", strings.Repeat("v", 3100)))
	path := take(t, lapsed{from}, backup.Options{Dir: t.TempDir()}, 3).Path
	_, err := backup.Restore(t.Context(), path, to, backup.RestoreOptions{})
	const text = "the store cannot keep all that is in it: 1 entry with a key that it has for itself, 2 entries with an expiry, " +
		"1 entry with a key that is too long, 1 entry with a user meta, 2 entries with a value that is too long; nothing was written. " +
		"Restore it into a store of the kind that it was taken from, change these entries there, and copy that store"
	if !isType[*backup.FileError](err) || !errors.Is(err, store.ErrUnsupported) || err.Error() != "backup "+path+": "+text {
		t.Fatalf("Restore = %v, want a FileError:\n%s", err, text)
	}
	all, _ := errors.AsType[*multierror.Error](err)
	var got []backup.RefusalError
	for _, err := range all.Errors {
		got = append(got, *err.(*backup.RefusalError))
	}
	want := []backup.RefusalError{
		{Reason: "reserved", Entries: 1, First: []byte("!mine")},
		{Reason: "expiry", Entries: 2, First: []byte("expires")},
		{Reason: "key", Entries: 1, First: []byte("k" + strings.Repeat("k", 100))},
		{Reason: "meta", Entries: 1, First: []byte("meta")},
		{Reason: "value", Entries: 2, First: []byte("v1")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the store cannot keep (-want +got):\n%s", diff)
	}
	if got := contents(t, to); got != "" {
		t.Errorf("a refused restore wrote:\n%s", got)
	}

	// What just fits is restored, and what has expired is in no one's way.
	from = openStore(t)
	put(t, from, entry("k"+strings.Repeat("k", 99), ""), entry("v1", strings.Repeat("v", 3000)))
	put(t, from, entry("v"+strings.Repeat("v", 99), strings.Repeat("v", 3100-100-overhead)))
	path = take(t, lapsed{from}, backup.Options{Dir: t.TempDir()}, 3).Path
	if _, err := backup.Restore(t.Context(), path, to, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents(t, from), contents(t, to)); diff != "" {
		t.Errorf("restored store (-want +got):\n%s", diff)
	}
}

// TestLargerThanTransactions: what the engine's own transactions take, and those of a store
// do not, is restored in the place of a store.
func TestLargerThanTransactions(t *testing.T) {
	const most = 1 << 20 // of a transaction of Badger's
	large := func(o badger.Options) badger.Options {
		return badgerstore.Small(o).WithMemTableSize(most * 20 / 3).WithValueThreshold(most - 1<<10)
	}
	from := openStore(t, large)
	if limit := from.Limits().TxnBytes; limit > most-64<<10 {
		t.Fatalf("a transaction takes %d bytes: the test tries the wrong thing", limit)
	}
	if err := from.DB().Update(func(tx *badger.Txn) error { return tx.Set([]byte("k"), make([]byte, most-64<<10)) }); err != nil {
		t.Fatal(err)
	}
	path := take(t, from, backup.Options{Dir: t.TempDir()}, 3).Path
	if diff := cmp.Diff(contents(t, from), contents(t, replaced(t, path, large))); diff != "" {
		t.Errorf("restored store (-want +got):\n%s", diff)
	}
}

// A poor store keeps neither expiry nor user meta, and little of the rest.
type poor struct{ store.Store } // it hides that it can be loaded

func (p poor) Limits() store.Limits {
	l := p.Store.Limits()
	l.TxnBytes, l.KeyBytes, l.ValueBytes, l.ApartBytes, l.Reserved = 3100, 100, 3000, 0, "!mine"
	return l
}

func (p poor) Update(ctx context.Context, fn func(store.Txn) error) error {
	return p.Store.Update(ctx, func(tx store.Txn) error { return fn(&poorTxn{Txn: tx, limits: p.Limits()}) })
}

type poorTxn struct {
	store.Txn
	limits store.Limits
	bytes  int
}

func (t *poorTxn) Set(e store.Entry) error {
	switch t.bytes += t.limits.Cost(e); {
	case e.ExpiresAt != 0, e.Meta != 0:
		return store.ErrUnsupported
	case t.bytes > t.limits.TxnBytes:
		return store.ErrTxnTooBig
	}
	return t.Txn.Set(e)
}

// TestReused: a retry uses the backup again that is there, and nothing but the same
// entries are one.
func TestReused(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, sample()...)
	o := backup.Options{Dir: dir}
	first := take(t, st, o, 3)
	again, err := backup.Take(t.Context(), st, o, describe("app", 3, noon.Add(time.Hour)))
	if err != nil || !again.Reused {
		t.Errorf("second Take = %+v, %v; want the first", again, err)
	}
	if diff := cmp.Diff(first.Info, again.Info); diff != "" {
		t.Errorf("second Take (-first +second):\n%s", diff)
	}
	if next := take(t, st, o, 4); next.Reused || next.Path == first.Path {
		t.Errorf("Take of another version = %+v, want a new file", next)
	}
	put(t, st, store.Entry{Key: []byte("empty"), Meta: 1})
	if next := take(t, st, o, 3); next.Reused || next.Path == first.Path {
		t.Errorf("Take of other entries = %+v, want a new file", next)
	}
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d files, want 3", n)
	}
}

// TestReusedWhenDamaged: a damaged file is not used again but replaced, with a warning.
func TestReusedWhenDamaged(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, sample()...)
	first := take(t, st, backup.Options{Dir: dir}, 3)
	if err := os.Truncate(first.Path, first.Size-1); err != nil {
		t.Fatal(err)
	}
	second := take(t, st, backup.Options{Dir: dir}, 3)
	if second.Reused || second.Path != first.Path || !errors.Is(second.Warning, backup.ErrDamaged) {
		t.Errorf("Take = %+v, want the file anew and a warning of ErrDamaged", second)
	}
	if _, err := backup.Verify(t.Context(), second.Path, backup.RestoreOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWarnedOnce: a damaged file of the same version, which both the search for the same
// entries and Keep come across, is listed once.
func TestWarnedOnce(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, sample()...)
	first := take(t, st, backup.Options{Dir: dir}, 3)
	if err := os.Truncate(first.Path, first.Size-1); err != nil {
		t.Fatal(err)
	}
	put(t, st, entry("another", ""))
	second := take(t, st, backup.Options{Dir: dir, Keep: 1}, 3)
	if n := strings.Count(fmt.Sprint(second.Warning), first.Path); n != 1 {
		t.Errorf("warning names the file %d times, want once: %v", n, second.Warning)
	}
}

// lapsed is a store with one entry more, the last, whose time is over. A store yields
// such an entry to a scan that began before.
type lapsed struct{ store.Store }

func (l lapsed) View(ctx context.Context, fn func(store.Reader) error) error {
	return l.Store.View(ctx, func(r store.Reader) error { return fn(lapsedReader{r}) })
}

type lapsedReader struct{ store.Reader }

func (r lapsedReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range r.Reader.Scan(s) {
			if !yield(e, err) {
				return
			}
		}
		yield(store.Entry{Key: []byte("zz"), Value: []byte("session"), ExpiresAt: 1}, nil)
	}
}

// TestExpired: entries that expire after a backup do not make it another, and are not
// restored.
func TestExpired(t *testing.T) {
	st, to, o := openStore(t), openStore(t), backup.Options{Dir: t.TempDir()}
	put(t, st, sample()...)
	first := take(t, lapsed{st}, o, 3)
	if first.Entries != uint64(len(sample()))+1 {
		t.Fatalf("%d entries, want the expired one too", first.Entries)
	}
	if again := take(t, st, o, 3); !again.Reused {
		t.Errorf("Take after an expiry = %+v, want the first", again)
	}
	if _, err := backup.Restore(t.Context(), first.Path, to, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents(t, st), contents(t, to)); diff != "" {
		t.Errorf("restored store (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(contents(t, st), contents(t, replaced(t, first.Path, badgerstore.Small))); diff != "" {
		t.Errorf("store that was replaced (-want +got):\n%s", diff)
	}
}

// TestKeep: the newest stay, a damaged one does not count, and nothing else is touched.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	save := func(schema string, version uint32, created time.Time, keep int) backup.Taken {
		t.Helper()
		st := openStore(t)
		put(t, st, entry("n", fmt.Sprint(schema, version)))
		taken, err := backup.Take(t.Context(), st, backup.Options{Dir: dir, Keep: keep}, describe(schema, version, created))
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	other := save("app-v0001", 1, hour(0), 0)
	var old []backup.Taken
	for n := range 4 {
		old = append(old, save("app", uint32(n), hour(n), 0))
	}
	if err := os.Truncate(old[3].Path, 100); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "app-v0000-notes.kvbackup")
	if err := os.WriteFile(foreign, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	latest := save("app", 9, hour(-1), 2) // the clock was set back
	if diff := cmp.Diff([]string{old[1].Path, old[0].Path}, latest.Removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	if !errors.Is(latest.Warning, backup.ErrDamaged) {
		t.Errorf("warning %v, want ErrDamaged", latest.Warning)
	}
	want := []string{foreign, other.Path, old[2].Path, old[3].Path, latest.Path}
	for i := range want {
		want[i] = filepath.Base(want[i])
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	list, err := backup.List(t.Context(), dir, "app", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range list {
		got = append(got, fmt.Sprintf("%s %t", l.Path, l.Err == nil))
	}
	if diff := cmp.Diff([]string{old[2].Path + " true", latest.Path + " true", old[3].Path + " false"}, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	for version, want := range map[uint32]string{1: "", 2: old[2].Path, 8: old[2].Path, 9: latest.Path, math.MaxUint32: latest.Path} {
		if got, ok, err := backup.Find(t.Context(), dir, "app", version, nil); got.Path != want || ok != (want != "") || err != nil {
			t.Errorf("Find(v%d) = %s, %t, %v; want %s", version, got.Path, ok, err, want)
		}
	}
	if list, err := backup.List(t.Context(), filepath.Join(dir, "absent"), "app", nil); len(list) != 0 || err != nil {
		t.Errorf("List of an absent directory = %v, %v; want none", list, err)
	}
}

// TestEncrypted: a backup of an encrypted store tells nothing without the key, and needs
// no option but to be in the clear.
func TestEncrypted(t *testing.T) {
	key, secret := []byte("0123456789abcdef"), "rosebud rosebud rosebud"
	encrypted := func(o badger.Options) badger.Options { return o.WithEncryptionKey(key).WithIndexCacheSize(8 << 20) }
	st, dir := openStore(t, encrypted), t.TempDir()
	put(t, st, entry("secret", secret))
	taken := take(t, st, backup.Options{Dir: dir}, 3)
	data, err := os.ReadFile(taken.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !taken.Encrypted || bytes.Contains(data, []byte("rosebud")) {
		t.Error("the backup of an encrypted store is not encrypted")
	}
	if again := take(t, storetest.Fail(st, 0, storetest.Error), backup.Options{Dir: dir}, 3); !again.Reused {
		t.Error("an encrypted backup is not used again, or the store's key is not seen through a wrapper")
	}

	for name, tt := range map[string]struct {
		to   store.Store
		key  []byte
		want error
	}{
		"its own key":   {openStore(t, encrypted), nil, nil},
		"the key given": {openStore(t), key, nil},
		"no key":        {openStore(t), nil, backup.ErrKey},
		"another key":   {openStore(t), []byte("fedcba9876543210"), backup.ErrKey},
	} {
		_, err := backup.Restore(t.Context(), taken.Path, tt.to, backup.RestoreOptions{Key: tt.key})
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: Restore = %v, want %v", name, err, tt.want)
		}
		want := ""
		if tt.want == nil {
			want = contents(t, st)
		}
		if diff := cmp.Diff(want, contents(t, tt.to)); diff != "" {
			t.Errorf("%s: store (-want +got):\n%s", name, diff)
		}
	}

	open := take(t, st, backup.Options{Dir: dir, Plaintext: true}, 3)
	if open.Reused || open.Encrypted || open.Content == taken.Content {
		t.Errorf("Take in the clear = %+v, want a file of its own that is not encrypted", open)
	}
	if again := take(t, st, backup.Options{Dir: dir}, 3); again.Path != taken.Path {
		t.Errorf("an encrypted store was content with %s, which is not encrypted", again.Path)
	}
	list, err := backup.List(t.Context(), dir, "app", nil)
	if err != nil || len(list) != 2 || list[0].Err != nil || list[1].Err != nil {
		t.Errorf("List without the key = %+v, %v; want two without fault", list, err)
	}
	for name, o := range map[string]backup.Options{
		"short key":         {Dir: dir, Key: []byte("short")},
		"key and plaintext": {Dir: dir, Key: key, Plaintext: true},
		"no directory":      {},
	} {
		if _, err := backup.Take(t.Context(), st, o, at(3)); err == nil {
			t.Errorf("%s: Take succeeded", name)
		}
	}
}

// TestStoreFails fails each operation of the store: there is a backup or there is none.
func TestStoreFails(t *testing.T) {
	st := openStore(t)
	put(t, st, sample()...)
	whole := storetest.Fail(st, 0, storetest.Error)
	take(t, whole, backup.Options{Dir: t.TempDir()}, 3)
	for n := range whole.Operations() {
		dir := t.TempDir()
		_, err := backup.Take(t.Context(), storetest.Fail(st, n+1, storetest.Error), backup.Options{Dir: dir}, at(3))
		if !errors.Is(err, storetest.ErrFault) {
			t.Errorf("fault %d: Take = %v", n+1, err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("fault %d left %v", n+1, left)
		}
	}
}

// TestRestoreStops stops a restore at each operation: programs refuse what it leaves,
// unless it is nothing or all, and the same restore finishes it.
func TestRestoreStops(t *testing.T) {
	from := openStore(t)
	registry := migrate.NewRegistry(migrate.Migration{Version: 1, Name: "first", Up: func(_ context.Context, tx *migrate.Tx) error {
		for i := range 5 {
			if err := tx.Set(entry(fmt.Sprintf("zz/%d", i), "row")); err != nil {
				return err
			}
		}
		return nil
	}})
	o := migrate.Options{Registry: registry, AllowUnversioned: true, Logger: slog.New(slog.DiscardHandler)}
	schemas := []string{"web", "app"} // the backup is of the second
	for _, o.Schema = range schemas {
		if _, err := migrate.Up(t.Context(), from, o); err != nil {
			t.Fatal(err)
		}
	}
	path := take(t, from, backup.Options{Dir: t.TempDir()}, 1).Path
	put(t, from, entry("zz/5", "row"))
	other := take(t, from, backup.Options{Dir: t.TempDir()}, 1).Path
	empty := func() store.Store {
		st, err := badgerstore.OpenInMemory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return narrow{st}
	}
	whole := storetest.Fail(empty(), 0, storetest.Error)
	if _, err := backup.Restore(t.Context(), path, whole, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	operations, want := whole.Operations(), contents(t, whole)
	refused := 0
	for _, fault := range storetest.Faults {
		for n := range operations {
			st := empty()
			_, err := backup.Restore(t.Context(), path, storetest.Fail(st, n+1, fault), backup.RestoreOptions{})
			if !errors.Is(err, storetest.ErrFault) {
				t.Errorf("%v %d: Restore = %v", fault, n+1, err)
			}
			compared := strings.Contains(err.Error(), "comparing the two failed")
			switch got := contents(t, st); got {
			case want:
			case "":
				if compared {
					t.Errorf("%v %d: Restore = %v, and nothing is written", fault, n+1, err)
				}
			default:
				if compared {
					t.Errorf("%v %d: Restore = %v, and it is half", fault, n+1, err)
				}
				refused++
				for _, o.Schema = range schemas {
					_, err := migrate.Up(t.Context(), st, o)
					if e, ok := errors.AsType[*backup.UnfinishedError](err); !ok || !errors.Is(err, migrate.ErrRefused) ||
						e.File != filepath.Base(path) || e.Entries != 9 || e.Started.IsZero() {
						t.Errorf("%v %d: Up of %s in half a restore = %v, want an UnfinishedError\n%s", fault, n+1, o.Schema, err, got)
					}
				}
				if _, err := backup.Restore(t.Context(), other, st, backup.RestoreOptions{}); !isType[*backup.UnfinishedError](err) {
					t.Errorf("%v %d: Restore of another backup = %v, want an UnfinishedError", fault, n+1, err)
				}
				if _, err := backup.Restore(t.Context(), path, st, backup.RestoreOptions{}); err != nil {
					t.Errorf("%v %d: Restore once more = %v", fault, n+1, err)
				}
				if diff := cmp.Diff(want, contents(t, st)); diff != "" {
					t.Errorf("%v %d: restored once more (-want +got):\n%s", fault, n+1, diff)
				}
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused < 10 {
		t.Errorf("%d restores stopped half-way: the test tries the wrong thing", refused)
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreOvertaken: a restore that another try with the same backup overtakes writes
// nothing after that is done.
func TestRestoreOvertaken(t *testing.T) {
	from, to := openStore(t), openStore(t)
	put(t, from, sample()...)
	path := take(t, from, backup.Options{Dir: t.TempDir()}, 3).Path
	slow := &overtaken{Store: narrow{to}, meanwhile: func() {
		if _, err := backup.Restore(t.Context(), path, to, backup.RestoreOptions{}); err != nil {
			t.Errorf("the second Restore = %v", err)
		}
		put(t, to, entry("new", "row"))
	}}
	if _, err := backup.Restore(t.Context(), path, slow, backup.RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "a later restore of it into the same store has taken over") {
		t.Errorf("the first Restore = %v, want that it was overtaken", err)
	}
	put(t, from, entry("new", "row"))
	if diff := cmp.Diff(contents(t, from), contents(t, to)); diff != "" {
		t.Errorf("after both (-want +got):\n%s", diff)
	}
}

// overtaken is a store in which something happens after the first commit.
type overtaken struct {
	store.Store

	committed atomic.Bool
	once      sync.Once
	meanwhile func()
}

func (o *overtaken) Update(ctx context.Context, fn func(store.Txn) error) error {
	if o.committed.Load() {
		o.once.Do(o.meanwhile)
	}
	err := o.Store.Update(ctx, fn)
	if err == nil {
		o.committed.Store(true)
	}
	return err
}

// TestRestoreUnknown: whatever became of a commit that the store did not confirm, a
// restore goes on, and what arrives late changes nothing.
func TestRestoreUnknown(t *testing.T) {
	from := openStore(t)
	put(t, from, append(sample(), entry("app:schema_progress", "half"), entry("app:schema_version", "\x00\x00\x00\x03"), entry("web:schema_version", "\x00\x00\x00\x01"))...)
	path := take(t, from, backup.Options{Dir: t.TempDir()}, 3).Path
	want := contents(t, from)
	restore := func(fate storetest.Fate, at int) int {
		t.Helper()
		to, err := badgerstore.OpenInMemory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = to.Close() }()
		st := storetest.Unconfirm(narrow{to}, fate, func(commit int) bool { return commit == at })
		_, err = backup.Restore(t.Context(), path, st, backup.RestoreOptions{})
		st.Settle()
		if err != nil {
			t.Errorf("%v %d: Restore = %v", fate, at, err)
		}
		if diff := cmp.Diff(want, contents(t, st)); diff != "" {
			t.Errorf("%v %d: store (-saved +restored):\n%s", fate, at, diff)
		}
		return st.Commits()
	}
	commits := restore(storetest.Lost, 0)
	for _, fate := range storetest.Fates {
		for at := 1; at <= commits; at++ {
			restore(fate, at)
		}
	}
}

// narrow is a store whose transactions hold two entries.
type narrow struct{ store.Store }

func (n narrow) Limits() store.Limits {
	l := n.Store.Limits()
	l.TxnEntries = 2
	return l
}

func TestNoSpace(t *testing.T) {
	st, dir := openStore(t), filepath.Join(t.TempDir(), "backups")
	put(t, st, sample()...)
	_, err := backup.Take(t.Context(), st, backup.Options{Dir: dir, Headroom: 1 << 60}, at(3))
	e, ok := errors.AsType[*backup.NoSpaceError](err)
	if !ok || e.Dir != dir || e.Need < 1<<60 || e.Free == 0 || !strings.Contains(e.Error(), dir) {
		t.Errorf("Take = %v, want a NoSpaceError of %s", err, dir)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	path := take(t, st, backup.Options{Dir: dir}, 3).Path
	to := cramped{openStore(t)}
	if _, err := backup.Restore(t.Context(), path, to, backup.RestoreOptions{}); !isType[*backup.NoSpaceError](err) {
		t.Errorf("Restore = %v, want a NoSpaceError", err)
	}
	if got := contents(t, to); got != "" {
		t.Errorf("a refused restore wrote:\n%s", got)
	}
}

// cramped is a store with a kilobyte left.
type cramped struct{ store.Store }

func (cramped) Free(context.Context) (free, needed uint64, err error) { return 1 << 10, 0, nil }

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestTogether: several processes may save one store at a time; it has one backup then.
func TestTogether(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, sample()...)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = backup.Take(t.Context(), st, backup.Options{Dir: dir, Keep: 1}, at(3)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files %v, want one", got)
	}
}

func TestCancelled(t *testing.T) {
	st, dir := openStore(t), t.TempDir()
	put(t, st, sample()...)
	path := take(t, st, backup.Options{Dir: dir}, 3).Path
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, takeErr := backup.Take(ctx, st, backup.Options{Dir: dir}, at(4))
	_, verifyErr := backup.Verify(ctx, path, backup.RestoreOptions{})
	_, restoreErr := backup.Restore(ctx, path, openStore(t), backup.RestoreOptions{})
	_, listErr := backup.List(ctx, dir, "app", nil)
	for what, err := range map[string]error{"Take": takeErr, "Verify": verifyErr, "Restore": restoreErr, "List": listErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want context.Canceled", what, err)
		}
	}
}

// TestObserver: each stage says at its end that all is done.
func TestObserver(t *testing.T) {
	st := openStore(t)
	put(t, st, sample()...)
	var got []string
	observe := func(p backup.Progress) { got = append(got, fmt.Sprint(p.Stage, " ", p.Entries, "/", p.Total)) }
	o := backup.Options{Dir: t.TempDir(), Observer: observe}
	path := take(t, st, o, 3).Path
	take(t, st, o, 3)
	if _, err := backup.Restore(t.Context(), path, openStore(t), backup.RestoreOptions{Observer: observe}); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Verify(t.Context(), path, backup.RestoreOptions{Observer: observe}); err != nil {
		t.Fatal(err)
	}
	want := []string{"writing 6/0", "verifying 6/6", "comparing 6/6", "verifying 6/6", "restoring 6/6", "comparing 6/6", "verifying 6/6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

// TestInsideStore: a restore would move the backups away with the store.
func TestInsideStore(t *testing.T) {
	st := openStore(t)
	put(t, st, sample()...)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(st.Dir(), link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dir string
		want      error
	}{
		{"the store's", st.Dir(), backup.ErrInsideStore},
		{"below", filepath.Join(st.Dir(), "a", "b"), backup.ErrInsideStore},
		{"below a link to it", filepath.Join(link, "a"), backup.ErrInsideStore},
		{"beside", st.Dir() + ".backups", nil},
		{"the parent", filepath.Dir(st.Dir()), nil},
	} {
		before := files(t, st.Dir())
		if _, err := backup.Take(t.Context(), st, backup.Options{Dir: tt.dir}, at(3)); !errors.Is(err, tt.want) {
			t.Errorf("%s: Take = %v, want %v", tt.name, err, tt.want)
		}
		if diff := cmp.Diff(before, files(t, st.Dir())); diff != "" {
			t.Errorf("%s: the store's files (-before +after):\n%s", tt.name, diff)
		}
	}
}
