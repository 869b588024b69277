package badgerstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// row returns an entry of some size, of which entry i comes before entry i+1.
func row(i, size int) store.Entry {
	return store.Entry{Key: fmt.Appendf(nil, "row/%06d", i), Value: []byte(strings.Repeat("0123456789abcdef", size/16))}
}

// sequence yields entries and then err, if that is not nil.
func sequence(entries []store.Entry, err error) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Entry{}, err)
		}
	}
}

// entriesOf returns all entries of st.
func entriesOf(ctx context.Context, st *badgerstore.Store) (all []store.Entry, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			e.Key, e.Value = slices.Clone(e.Key), slices.Clone(e.Value)
			all = append(all, e)
		}
		return nil
	})
	return all, err
}

func equal(a, b store.Entry) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta
}

// TestLoad loads entries of every kind, more than a table holds, and goes on with the
// store as with any other.
func TestLoad(t *testing.T) {
	kinds := []store.Entry{
		{Key: []byte("\x00\xff"), Value: []byte("binary")},
		{Key: []byte("empty"), Value: []byte{}},
		{Key: []byte("expires"), Value: []byte("later"), ExpiresAt: 1 << 40},
		{Key: []byte("meta"), Value: []byte("x"), ExpiresAt: 1<<40 + 1, Meta: 0xfe},
		row(0, 1<<21), // in the value log
		{Key: []byte(strings.Repeat("z", 65000)), Value: []byte("the longest key")},
	}
	var many []store.Entry
	for i := range 20_000 {
		many = append(many, row(i, i%800))
	}
	tables := func(o badger.Options) badger.Options { return badgerstore.Small(o).WithBaseTableSize(4 << 10) }
	encrypted := func(o badger.Options) badger.Options {
		return badgerstore.Small(o).WithEncryptionKey([]byte("0123456789abcdef")).WithIndexCacheSize(8 << 20)
	}
	for name, tt := range map[string]struct {
		entries   []store.Entry
		configure func(badger.Options) badger.Options
	}{
		"none":      {nil, badgerstore.Small},
		"kinds":     {kinds, badgerstore.Small},
		"many":      {many, tables},
		"encrypted": {kinds, encrypted},
	} {
		t.Run(name, func(t *testing.T) {
			o := replaceOptions
			o.Configure = tt.configure
			check := func(ctx context.Context, st *badgerstore.Store, more ...store.Entry) error {
				got, err := entriesOf(ctx, st)
				if want := slices.Concat(tt.entries, more); !slices.EqualFunc(want, got, equal) { // which cmp takes long for
					t.Errorf("entries (-want +got):\n%s", cmp.Diff(want, got))
				}
				return err
			}
			dir := filepath.Join(t.TempDir(), "store")
			_, err := badgerstore.Replace(t.Context(), dir, o,
				func(ctx context.Context, st *badgerstore.Store) error {
					if err := st.Load(ctx, sequence(tt.entries, nil)); err != nil {
						return err
					}
					return check(ctx, st)
				},
				func(ctx context.Context, st *badgerstore.Store) error { return check(ctx, st) })
			if err != nil {
				t.Fatal(err)
			}
			st, err := badgerstore.Open(t.Context(), dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(st.DB().Tables()); name == "many" && n < 2 {
				t.Errorf("%d tables: the test loads too little", n)
			}
			err = store.Update(t.Context(), st, set(strings.Repeat("~", 10), "written afterwards"))
			after := store.Entry{Key: []byte(strings.Repeat("~", 10)), Value: []byte("written afterwards")}
			if err := errors.Join(err, check(t.Context(), st, after), st.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLoadFails: what cannot be loaded leaves the store that was to be replaced.
func TestLoadFails(t *testing.T) {
	broken := errors.New("the sequence is broken")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx     context.Context //nolint:containedctx // of one case
		entries iter.Seq2[store.Entry, error]
		want    error
	}{
		"no order":      {t.Context(), sequence([]store.Entry{row(2, 16), row(1, 16)}, nil), store.ErrInvalidKey},
		"twice":         {t.Context(), sequence([]store.Entry{row(1, 16), row(1, 16)}, nil), store.ErrInvalidKey},
		"no key":        {t.Context(), sequence([]store.Entry{{Value: []byte("x")}}, nil), store.ErrInvalidKey},
		"Badger's key":  {t.Context(), sequence([]store.Entry{{Key: []byte("!badger!head")}}, nil), store.ErrInvalidKey},
		"broken":        {t.Context(), sequence([]store.Entry{row(1, 16)}, broken), broken},
		"broken, large": {t.Context(), sequence([]store.Entry{row(1, 1<<20), row(2, 1<<20), row(3, 1<<20)}, broken), broken},
		"cancelled":     {cancelled, sequence([]store.Entry{row(1, 16)}, nil), context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			makeStore(t, dir, "old")
			_, err := badgerstore.Replace(t.Context(), dir, replaceOptions,
				func(_ context.Context, st *badgerstore.Store) error { return st.Load(tt.ctx, tt.entries) }, checkIs("new"))
			wantError(t, "Replace", err, tt.want)
			wantStore(t, "the store", dir, "old")
		})
	}
}

// TestLoadRefuses stores that a kill would leave half loaded, or that are in use, before
// it asks for an entry.
func TestLoadRefuses(t *testing.T) {
	load := func(t *testing.T, what string, st *badgerstore.Store) {
		t.Helper()
		err := st.Load(t.Context(), func(func(store.Entry, error) bool) { t.Errorf("%s: Load asked for an entry", what) })
		wantError(t, what, err, store.ErrUnsupported)
	}
	dir := filepath.Join(t.TempDir(), "store")
	st, err := badgerstore.Open(t.Context(), dir, replaceOptions)
	if err != nil {
		t.Fatal(err)
	}
	load(t, "a store that a program opened", st)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = badgerstore.Replace(t.Context(), dir, replaceOptions,
		func(ctx context.Context, st *badgerstore.Store) error {
			err := st.View(ctx, func(store.Reader) error {
				load(t, "a store with an open transaction", st)
				return nil
			})
			if err != nil {
				return err
			}
			if err := fillWith("new")(ctx, st); err != nil {
				return err
			}
			load(t, "a store that holds something", st)
			return checkIs("new")(ctx, st)
		},
		func(ctx context.Context, st *badgerstore.Store) error {
			load(t, "a store that is checked", st)
			return checkIs("new")(ctx, st)
		})
	if err != nil {
		t.Fatal(err)
	}
	wantStore(t, "the store", dir, "new")
}
