package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// soak returns long in a soak run, which make soak starts, and otherwise short.
func soak(short, long int) int {
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		return long
	}
	return short
}

// TestPowerLoss runs a migration on a store whose every state on the disk could be
// the last before the power fails, and goes on from many of them: each row is
// then changed once and its value whole, as if nothing had happened.
//
// What a disk holds after a power loss is modelled: of the logs of memtables and
// values, each page is either as it was when the file was last made durable, or
// as it is now, by chance. Tables and the manifest are as they are now, because
// Badger syncs them itself before it relies on them.
func TestPowerLoss(t *testing.T) {
	for _, tt := range []struct {
		name       string
		syncWrites bool
		threshold  int64 // values from this length on go to the value log
		up         migrate.UpFunc

		movesBehind bool
	}{
		{"SyncWrites, values with the keys", true, 2048, rewriteTwice, false},
		{"SyncWrites, values in the value log", true, 128, rewriteTwice, false},
		{"no SyncWrites, values with the keys", false, 2048, rewriteTwice, false},
		{"no SyncWrites, rows that move behind", false, 2048, moveBehind, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			configure := lossOptions(tt.threshold, tt.syncWrites)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			disk := &disk{dir: t.TempDir(), syncWrites: tt.syncWrites, random: rand.New(rand.NewPCG(seed, 0)), durable: map[string][]byte{}}

			// An undisturbed run first, whose result is wanted.
			want := lossRun(t, configure, t.TempDir(), tt.up, nil, slog.DiscardHandler)

			images := soak(6, 500)
			if !tt.syncWrites {
				images *= 4 // only here steps can be lost
			}
			// Where steps can be made again, some must have been.
			mends := !tt.syncWrites && !tt.movesBehind
			rotations, tried, mended := 0, 0, 0
			for tried < images || mends && mended == 0 && tried < 20*images {
				disk.dir, disk.durable, disk.images = t.TempDir(), map[string][]byte{}, nil
				if got := lossRun(t, configure, disk.dir, tt.up, disk, slog.DiscardHandler); got != want {
					t.Fatalf("store of a run that nothing disturbed:\n%s", firstDifference(want, got))
				}
				rotations = max(rotations, disk.rotations)
				for _, image := range disk.images {
					tried++
					l := new(lines)
					if got := lossRun(t, configure, image, tt.up, nil, l); got != want {
						t.Fatalf("store after power loss %d and a second run:\n%s", tried, firstDifference(want, got))
					}
					if strings.Contains(fmt.Sprint(l.got), "steps of the interrupted migration are missing") {
						mended++
					}
				}
			}
			if rotations == 0 && tt.threshold > 300 {
				t.Error("no memtable was rotated, and so none could be lost")
			}
			if mends && mended == 0 {
				t.Errorf("no power loss of %d took a step out of the middle", tried)
			}
		})
	}
}

// firstDifference is the first line in which two dumps differ.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Diff(a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(b), len(a))
}

const lossRows = 1000

// lossRun opens the store in dir with configure's options, fills it if it is
// empty, migrates it, and returns what it then holds. If d is not nil, it takes
// images of dir while the migration runs. The migration logs to log.
func lossRun(t *testing.T, configure func(badger.Options) badger.Options, dir string, up migrate.UpFunc, d *disk, log slog.Handler) string {
	t.Helper()
	db, err := badger.Open(configure(badger.DefaultOptions(dir)))
	if err != nil && strings.Contains(err.Error(), "Create a new file") {
		db, err = badger.Open(configure(badger.DefaultOptions(dir))) // an empty log file fails the first Open only
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	st, err := badgerstore.New(db)
	if err != nil {
		t.Fatal(err)
	}
	if len(entriesOf(t, st, "app/")) == 0 {
		lossLoad(t, st)
	}
	var migrated store.Store = st
	if d != nil {
		d.t, d.Store = t, st
		d.synced()
		d.rotations = 0 // those of the filling, which may be in tables by now or not
		migrated = d
	}
	o := one(up)
	o.Heartbeat = -1
	o.Logger = slog.New(log)
	mustRun(t, migrated, o)
	return contents(t, st)
}

// lossOptions has memtables so small that a run fills many.
func lossOptions(threshold int64, syncWrites bool) func(badger.Options) badger.Options {
	return func(o badger.Options) badger.Options {
		return o.WithMemTableSize(256 << 10).WithValueLogFileSize(1 << 20).WithNumMemtables(8).
			WithValueThreshold(threshold).WithSyncWrites(syncWrites).WithLogger(nil)
	}
}

// lossLoad fills a store and syncs it.
func lossLoad(t *testing.T, st store.Store) {
	t.Helper()
	rows := many("app/", lossRows)
	for i := range rows {
		rows[i].Value = fmt.Appendf(rows[i].Value, " %0300d", i)
	}
	for len(rows) > 0 {
		load(t, st, rows[:50]...)
		rows = rows[50:]
	}
	if err := st.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// rewriteTwice changes every row, and some again.
var rewriteTwice = migrate.Phases(migrate.Rewrite([]byte("app/"), suffix(" new")), migrate.Rewrite([]byte("app/0002"), suffix(" again")))

// moveBehind changes every row and moves some far behind, into batches that may
// have been lost.
var moveBehind = migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
	e.Value = append(e.Value, " new"...)
	if n, err := strconv.Atoi(string(e.Key[len("app/"):])); err == nil && n%125 == 124 {
		if err := tx.Delete(e.Key); err != nil {
			return err
		}
		e.Key = fmt.Appendf(nil, "app/%06da", n-100)
	}
	return tx.Set(e)
})

// A disk is a store that takes images of its directory as a power loss could
// leave it.
type disk struct {
	store.Store
	t          *testing.T
	dir        string
	syncWrites bool
	random     *rand.Rand

	durable   map[string][]byte // the logs, as they were last made durable
	rotations int
	images    []string // directories
}

// Update implements store.Store.
func (d *disk) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := d.Store.Update(ctx, fn)
	if err == nil {
		d.perhaps() // between the commit and whatever makes it durable
		if d.syncWrites {
			d.synced()
		}
	}
	return err
}

// Sync implements store.Store.
func (d *disk) Sync(ctx context.Context) error {
	err := d.Store.Sync(ctx)
	if err == nil && !d.syncWrites {
		d.synced()
	}
	return err
}

// logs returns the names of the files that are not durable when they are written.
func (d *disk) logs() []string {
	var names []string
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		found, err := filepath.Glob(filepath.Join(d.dir, pattern))
		if err != nil {
			d.t.Fatal(err)
		}
		for _, path := range found {
			names = append(names, filepath.Base(path))
		}
	}
	return names
}

// read returns a file's bytes, nil if Badger, which cuts a file before it removes
// it, does so meanwhile.
func (d *disk) read(name string) []byte {
	path := filepath.Join(d.dir, name)
	data, err := os.ReadFile(path)
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Stat(path); err == nil && now.Size() != int64(len(data)) {
			return nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return data
}

// synced remembers the logs as they are.
func (d *disk) synced() {
	for _, name := range d.logs() {
		if _, known := d.durable[name]; !known && filepath.Ext(name) == ".mem" {
			d.rotations++
		}
		if data := d.read(name); data != nil {
			d.durable[name] = data
		}
	}
}

// perhaps takes an image: always while a rotated memtable has not been written to
// a table, because a hole between two logs is the worst that can come of it, and
// otherwise one time in twenty.
func (d *disk) perhaps() {
	var memtables, values []string
	for _, name := range d.logs() {
		if filepath.Ext(name) == ".mem" {
			memtables = append(memtables, name)
		} else {
			values = append(values, name)
		}
	}
	if len(memtables) < 2 && d.random.IntN(20) > 0 {
		return
	}
	// The manifest and tables first: what is in none of them must be in a log.
	image := map[string][]byte{}
	for _, pattern := range []string{"MANIFEST", "KEYREGISTRY", "DISCARD", "*.sst"} {
		found, err := filepath.Glob(filepath.Join(d.dir, pattern))
		if err != nil {
			d.t.Fatal(err)
		}
		for _, path := range found {
			image[filepath.Base(path)] = d.read(filepath.Base(path))
		}
	}
	// With SyncWrites Badger makes values durable before it writes their keys.
	keysLost := d.random.IntN(2) == 0
	for i, name := range memtables {
		lost := d.lost()
		if newest := i == len(memtables)-1; newest && d.random.IntN(2) == 0 {
			lost = 0
		}
		if d.syncWrites && keysLost {
			lost = 1
		}
		image[name] = d.lose(name, lost)
	}
	for _, name := range values {
		lost := d.lost()
		if d.syncWrites && !keysLost {
			lost = 0
		}
		image[name] = d.lose(name, lost)
	}
	dir := d.t.TempDir()
	for name, data := range image {
		if len(data) == 0 {
			return // Badger removed the file meanwhile: no disk was ever like that
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	d.images = append(d.images, dir)
}

// lost is the share of a file's pages that are lost.
func (d *disk) lost() float64 { return []float64{0, 1, 0.5}[d.random.IntN(3)] }

// lose returns a file with a share of what was written since it was last made
// durable lost, nil if there is no such file.
func (d *disk) lose(name string, share float64) []byte {
	const page = 4096
	now := d.read(name)
	before := make([]byte, len(now))
	copy(before, d.durable[name])
	for at := 0; at < len(now); at += page {
		if d.random.Float64() < share {
			end := min(at+page, len(now))
			copy(now[at:end], before[at:end])
		}
	}
	return now
}
