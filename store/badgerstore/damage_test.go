package badgerstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

const vlogHeader = 20 // key ID and IV, before the first record of a value log file

// A power loss can leave a key without its value in the value log. Badger then
// returns an empty value and no error.
func TestDamagedValue(t *testing.T) {
	const key = "damaged-key"
	long := strings.Repeat("value", 1000)
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, path string)
		// emptied says that Badger without checksums returns an empty value.
		emptied bool
	}{
		{"zeroed", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, path, vlogHeader, make([]byte, info.Size()-vlogHeader))
		}, true},
		{"cut", func(t *testing.T, path string) {
			if err := os.Truncate(path, vlogHeader+100); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"cut to nothing", func(t *testing.T, path string) {
			if err := os.Truncate(path, vlogHeader); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"one byte changed", func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(data, []byte(long))
			if at < 0 {
				t.Fatal("the value is not in the value log")
			}
			overwrite(t, path, at+10, []byte{'X'})
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := newDir(t, tiny, "a", "short", key, long, "z", "short")
			// Badger repairs the last file of the value log when it opens, so
			// that the damaged one must not be the last.
			vlog := filepath.Join(dir, "000001.vlog")
			if err := open(t, dir, tiny).Close(); err != nil {
				t.Fatal(err)
			}
			test.damage(t, vlog)

			if test.emptied {
				db := openBadger(t, tiny(badger.DefaultOptions(dir)))
				err := db.View(func(tx *badger.Txn) error {
					item, err := tx.Get([]byte(key))
					if err != nil {
						return err
					}
					value, err := item.ValueCopy(nil)
					if err != nil || len(value) != 0 {
						t.Errorf("Badger alone returns %d bytes, %v; want the empty value that this test is about", len(value), err)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				wantDamage(t, lend(t, db), key)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}

			var log bytes.Buffer
			st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: tiny, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			wantDamage(t, st, key)
			if err := st.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			for _, form := range []string{key, fmt.Sprintf("%d", []byte(key)), fmt.Sprintf("%x", key)} {
				if strings.Contains(log.String(), form) {
					t.Errorf("the log contains the key:\n%s", &log)
				}
			}
		})
	}
}

func overwrite(t *testing.T, path string, at int, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data, int64(at))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// wantDamage fails the test unless st reports key as corrupt and goes on to serve
// the keys a and z around it.
func wantDamage(t *testing.T, st store.Store, key string) {
	t.Helper()
	check := func(r store.Reader) error {
		names := func(clause string, err error) {
			t.Helper()
			wantError(t, clause, err, store.ErrCorrupt)
			var e *store.Error
			if !errors.As(err, &e) || string(e.Key) != key || strings.Contains(err.Error(), key) {
				t.Errorf("%s: error %q; want the key in the field and not in the text", clause, err)
			}
		}
		e, err := r.Get([]byte(key))
		names("Get of a damaged value", err)
		if e.Value != nil {
			t.Errorf("Get of a damaged value returns %d bytes of it", len(e.Value))
		}
		var keys []string
		var fault error
		for e, err := range r.Scan(store.Scan{}) {
			if fault = err; err == nil {
				keys = append(keys, string(e.Key))
			}
		}
		names("Scan over a damaged value", fault)
		for e, err := range r.Scan(store.Scan{KeysOnly: true}) {
			if err != nil {
				return err
			}
			keys = append(keys, string(e.Key))
		}
		if got, want := fmt.Sprint(keys), fmt.Sprint([]string{"a", "a", key, "z"}); got != want {
			t.Errorf("Scan stops at the damage and Scan of keys does not: got %v; want %v", got, want)
		}
		for _, key := range []string{"a", "z"} {
			if e, err := r.Get([]byte(key)); err != nil || string(e.Value) != "short" {
				t.Errorf("Get(%q) = %q, %v; want the undamaged value", key, e.Value, err)
			}
		}
		return nil
	}
	if err := st.View(t.Context(), check); err != nil {
		t.Error(err)
	}
	err := st.Update(t.Context(), func(tx store.Txn) error { return check(tx) })
	if err != nil {
		t.Error(err)
	}
}

// The check for damage rests on the length of Badger's records, which depends on
// those of key, value and expiry.
func TestWholeValuesAreNotDamage(t *testing.T) {
	toValueLog := func(configure func(badger.Options) badger.Options) func(badger.Options) badger.Options {
		return func(o badger.Options) badger.Options { return configure(o).WithValueThreshold(0) }
	}
	now := uint64(time.Now().Unix())
	expiries := []uint64{0, now + 3600, 1<<35 - 1, 1 << 35, 1<<64 - 1}
	var entries []store.Entry
	add := func(keyLen, valueLen int, expires uint64) {
		key := fmt.Appendf(nil, "%06d", len(entries))
		key = append(key, bytes.Repeat([]byte("k"), max(0, keyLen-len(key)))...)
		entries = append(entries, store.Entry{
			Key: key, Value: bytes.Repeat([]byte("v"), valueLen), ExpiresAt: expires, Meta: byte(len(entries)),
		})
	}
	for n := range 301 {
		add(6, n, expiries[n%len(expiries)])
		add(6, n, 0)
	}
	for _, keyLen := range []int{118, 119, 120, 121, 127, 128, 16374, 16375, 16376, 16383, 16384, 65000} {
		for _, valueLen := range []int{0, 1, 127, 128} {
			for _, expires := range expiries {
				add(keyLen, valueLen, expires)
			}
		}
	}
	for _, valueLen := range []int{16383, 16384, 2 << 20, 1<<21 - 1} {
		for _, expires := range expiries {
			add(6, valueLen, expires)
		}
	}
	whole := func(t *testing.T, st store.Store, entries []store.Entry) {
		err := st.View(t.Context(), func(r store.Reader) error {
			i := 0
			for got, err := range r.Scan(store.Scan{}) {
				if err != nil {
					return fmt.Errorf("key of %d bytes, value of %d, expiry %d: %w", len(entries[i].Key), len(entries[i].Value), entries[i].ExpiresAt, err)
				}
				same(t, "Scan", entries[i], got)
				got, err = r.Get(entries[i].Key)
				if err != nil {
					return err
				}
				same(t, "Get", entries[i], got)
				i++
			}
			if i != len(entries) {
				t.Errorf("Scan yields %d entries; want %d", i, len(entries))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for name, configure := range map[string]func(badger.Options) badger.Options{
		"inline":              small,
		"value log":           toValueLog(small),
		"encrypted value log": toValueLog(encrypted),
		"no checksums": func(o badger.Options) badger.Options {
			return toValueLog(small)(o).WithVerifyValueChecksum(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			entries := entries
			if name != "value log" { // long ones are slow to encrypt under the race detector
				entries = slices.DeleteFunc(slices.Clone(entries), func(e store.Entry) bool { return len(e.Key)+len(e.Value) > 20_000 })
			}
			dir := t.TempDir()
			st := open(t, dir, configure)
			for i := 0; i < len(entries); i += 10 {
				update(t, st, func(tx store.Txn) error {
					for _, e := range entries[i:min(i+10, len(entries))] {
						if err := tx.Set(e); err != nil {
							return err
						}
						got, err := tx.Get(e.Key)
						if err != nil {
							return err
						}
						same(t, "Get of an own write", e, got)
					}
					return nil
				})
			}
			whole(t, st, entries)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			whole(t, open(t, dir, configure), entries)
		})
	}
}

func same(t *testing.T, name string, want, got store.Entry) {
	t.Helper()
	if !bytes.Equal(want.Key, got.Key) || !bytes.Equal(want.Value, got.Value) || want.ExpiresAt != got.ExpiresAt || want.Meta != got.Meta {
		t.Errorf("%s: key of %d bytes, value of %d, expiry %d, meta %d; want %d, %d, %d, %d", name,
			len(got.Key), len(got.Value), got.ExpiresAt, got.Meta, len(want.Key), len(want.Value), want.ExpiresAt, want.Meta)
	}
}

// Badger takes a damaged block of a table for the end of the table, so that its
// keys seem absent. That a check of all tables finds it is all there is to rely on.
func TestDamagedTable(t *testing.T) {
	var pairs []string
	for i := range 100 { // blocks enough that Open does not read the damaged one
		pairs = append(pairs, fmt.Sprintf("%03d", i), strings.Repeat("v", 1000))
	}
	dir := newDir(t, small, pairs...)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("tables: %v, %v; want one", tables, err)
	}
	verify := func(db *badger.DB) (err error) {
		defer func() {
			if fault := recover(); fault != nil { // a block that it cannot decompress
				err = fmt.Errorf("panic: %v", fault)
			}
		}()
		return db.VerifyChecksum()
	}
	if err := verify(open(t, copyDir(t, dir), small).DB()); err != nil {
		t.Errorf("VerifyChecksum of a whole store: %v", err)
	}
	overwrite(t, tables[0], 20, []byte{0xff, 0xff, 0xff})
	if err := verify(open(t, dir, small).DB()); err == nil {
		t.Error("VerifyChecksum finds nothing wrong with a damaged table")
	}
}
