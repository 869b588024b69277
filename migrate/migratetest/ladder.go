package migratetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// Ladder takes stores of every version to every later one, in one run and version
// by version, and wants the same of both: empty stores, stores with the fixtures
// of all versions up to where they start, and the old stores on the disk, of
// which it migrates copies. What an old store holds at the newest version must be
// what the file vNNNN.after.txt beside it says. An old store whose version is not
// in its name fails, and so does a migration without one, unless no old store is
// there at all.
func Ladder(t *testing.T, s Suite) {
	t.Helper()
	if *update {
		if err := s.makeStores(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s = s.raw()
	for start := range s.registry().Latest() + 1 {
		t.Run(fmt.Sprintf("from v%d", start), func(t *testing.T) {
			for name, fixtures := range map[string]bool{"empty": false, "with fixtures": true} {
				before, err := s.at(t.Context(), start, fixtures)
				if err == nil {
					err = s.climbBothWays(t.Context(), before, start)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			before, err := s.oldStore(t, start)
			if err == nil && before != nil {
				err = s.climbBothWays(t.Context(), before, start)
			}
			if err == nil && before != nil {
				err = s.upgraded(t.Context(), before, start)
			}
			if err != nil {
				t.Errorf("old store: %v", err)
			}
		})
	}
}

// at returns what a store at version holds, which got the fixtures on the way if
// they are wanted.
func (s Suite) at(ctx context.Context, version uint32, fixtures bool) (all []store.Entry, err error) {
	err = withStore(ctx, func(st store.Store) error {
		for _, m := range s.registry().Migrations()[:version] {
			if fixtures {
				if err := s.fixture(ctx, st, m); err != nil {
					return err
				}
			}
			if _, err := s.upTo(ctx, st, m.Version); err != nil {
				return err
			}
		}
		all, err = entries(ctx, st)
		return err
	})
	return all, err
}

// climbBothWays takes what a store at version start holds to each later version
// at once, and compares it with the one that climbed version by version.
func (s Suite) climbBothWays(ctx context.Context, before []store.Entry, start uint32) error {
	return withStore(ctx, func(slow store.Store) error {
		if err := load(ctx, slow, before); err != nil {
			return err
		}
		for target := start + 1; target <= s.registry().Latest(); target++ {
			if _, err := s.upTo(ctx, slow, target); err != nil {
				return fmt.Errorf("v%d to v%d, version by version: %w", start, target, err)
			}
			want, err := s.contents(ctx, slow)
			if err != nil {
				return err
			}
			err = withStore(ctx, func(fast store.Store) error {
				if err := load(ctx, fast, before); err != nil {
					return err
				}
				if _, err := s.upTo(ctx, fast, target); err != nil {
					return err
				}
				got, err := s.contents(ctx, fast)
				if err == nil && got != want {
					err = fmt.Errorf("the store differs from one that climbed version by version (-slow +fast):\n%s", difference(want, got))
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("v%d to v%d at once: %w", start, target, err)
			}
		}
		return nil
	})
}

// upgraded compares what an old store, which held before, holds at the newest
// version with its golden file.
func (s Suite) upgraded(ctx context.Context, before []store.Entry, start uint32) error {
	return withStore(ctx, func(st store.Store) error {
		if err := load(ctx, st, before); err != nil {
			return err
		}
		if _, err := s.upTo(ctx, st, s.registry().Latest()); err != nil {
			return err
		}
		got, err := s.contents(ctx, st)
		if err != nil {
			return err
		}
		return s.compare(s.storeDir(start)+".after.txt", got)
	})
}

func (s Suite) storeDir(version uint32) string {
	return filepath.Join(s.stores(), fmt.Sprintf("v%04d", version))
}

// oldStore returns what the old store of version holds, nil if there are none. It
// opens a copy, because opening changes files.
func (s Suite) oldStore(t *testing.T, version uint32) (all []store.Entry, err error) {
	if _, err := os.Stat(s.stores()); version == 0 || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if _, err := os.Stat(s.storeDir(version)); err != nil {
		return nil, fmt.Errorf("%w: if it was there, restore it; if the version is new, go test -update makes it", err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.storeDir(version))); err != nil {
		return nil, err
	}
	err = withStoreIn(t.Context(), dir, small, func(st store.Store) error {
		report, err := s.upTo(t.Context(), st, version)
		if err != nil {
			return err
		}
		if len(report.Applied) > 0 {
			return fmt.Errorf("%s is at v%d", s.storeDir(version), report.From)
		}
		all, err = entries(t.Context(), st)
		return err
	})
	return all, err
}

var small = badgerstore.Options{Configure: badgerstore.Small}

func withStoreIn(ctx context.Context, dir string, o badgerstore.Options, do func(st store.Store) error) (err error) {
	st, err := badgerstore.Open(ctx, dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return do(st)
}

// makeStores makes the old stores that are missing, with the fixtures of the
// versions up to them and of the next one, which are what their programs wrote.
func (s Suite) makeStores(ctx context.Context) error {
	ladder := s.registry().Migrations()
	for i, m := range ladder {
		dir := s.storeDir(m.Version)
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		before, err := s.at(ctx, m.Version, true)
		if err != nil {
			return err
		}
		if i+1 < len(ladder) {
			wrote, err := read(s.golden(ladder[i+1], "fixture.txt"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			before = append(before, wrote...)
		}
		if err := withStoreIn(ctx, dir, small, func(st store.Store) error { return load(ctx, st, before) }); err != nil {
			return err
		}
		// A megabyte of zeros, which Badger makes again.
		if err := os.Remove(filepath.Join(dir, "DISCARD")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
