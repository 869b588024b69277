package migratetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// Ladder takes stores of every version to every later one, in one run and version
// by version, and wants the same of both: empty stores, stores with the fixtures
// of all versions up to where they start, and the old stores on the disk, of
// which it migrates copies. What an old store holds at the newest version must be
// what the file vNNNN.after.txt beside it says. A version without an old store
// fails, and so does an old store whose version is not in its name.
func Ladder(t *testing.T, s Suite) {
	t.Helper()
	s.check(t)
	if update.on {
		if err := s.makeStores(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	starts := []uint32{0}
	for _, m := range s.ladder() {
		starts = append(starts, m.Version)
	}
	for _, start := range starts {
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
			if start == 0 {
				return
			}
			before, err := s.oldStore(t, start)
			if err == nil {
				err = s.climbBothWays(t.Context(), before, start)
			}
			if err == nil {
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
	err = s.withStore(ctx, func(st store.Store) error {
		if err := s.reach(ctx, st, version, fixtures); err != nil {
			return err
		}
		all, err = entries(ctx, st)
		return err
	})
	return all, err
}

// before returns what a store holds before m, with all fixtures.
func (s Suite) before(ctx context.Context, m migrate.Migration) (all []store.Entry, err error) {
	err = s.withStore(ctx, func(st store.Store) error {
		if err := s.reach(ctx, st, m.Version-1, true); err != nil {
			return err
		}
		all, err = s.prepare(ctx, st, m)
		return err
	})
	return all, err
}

// reach takes st, which is empty, to version, and gives it the fixtures on the way
// if they are wanted.
func (s Suite) reach(ctx context.Context, st store.Store, version uint32, fixtures bool) error {
	for _, m := range s.ladder() {
		if m.Version > version {
			break
		}
		if fixtures {
			if err := s.fixture(ctx, st, m); err != nil {
				return err
			}
		}
		if _, err := s.upTo(ctx, st, m.Version); err != nil {
			return err
		}
	}
	return nil
}

// climbBothWays takes what a store at version start holds to each later version
// at once, and compares it with the one that climbed version by version.
func (s Suite) climbBothWays(ctx context.Context, before []store.Entry, start uint32) error {
	return s.withStore(ctx, func(slow store.Store) error {
		if err := load(ctx, slow, before); err != nil {
			return err
		}
		for _, m := range s.ladder() {
			target := m.Version
			if target <= start {
				continue
			}
			if _, err := s.upTo(ctx, slow, target); err != nil {
				return fmt.Errorf("v%d to v%d, version by version: %w", start, target, err)
			}
			want, err := entries(ctx, slow)
			if err != nil {
				return err
			}
			got, err := s.upgrade(ctx, before, target)
			if err != nil {
				return fmt.Errorf("v%d to v%d at once: %w", start, target, err)
			}
			if d := difference(want, got); d != "" {
				return fmt.Errorf("v%d to v%d at once: the store differs from one that climbed version by version (-slow +fast):\n%s\n%s", start, target, d, pure)
			}
		}
		return nil
	})
}

// upgrade returns what a store that holds before holds at version.
func (s Suite) upgrade(ctx context.Context, before []store.Entry, version uint32) (after []store.Entry, err error) {
	err = s.withStore(ctx, func(st store.Store) error {
		if err := load(ctx, st, before); err != nil {
			return err
		}
		if _, err := s.upTo(ctx, st, version); err != nil {
			return err
		}
		after, err = entries(ctx, st)
		return err
	})
	return after, err
}

// upgraded compares what an old store, which held before, holds at the newest
// version with its golden file. If the file is older, it must hold at its version
// before -update takes it to the newest.
func (s Suite) upgraded(ctx context.Context, before []store.Entry, start uint32) error {
	path := s.storeDir(start) + ".after.txt"
	latest := s.registry().Latest()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !s.names(start) {
		return gone(path, start) // it was made with the store
	}
	written, err := writtenAt(path, latest)
	if err != nil {
		return err
	}
	for _, version := range []uint32{written, latest} {
		text, err := s.textAt(ctx, before, start, version)
		if err != nil {
			return err
		}
		switch {
		case version == written:
			err = s.compare(path, text, version, 0)
		case update.on:
			err = write(path, text)
		default:
			err = fmt.Errorf("%s tells of v%d: go test -update takes it to v%d; review the difference", path, written, version)
		}
		if err != nil || version == latest {
			return err
		}
	}
	return nil
}

// textAt is the golden file, at version, of the old store of start, which held before.
func (s Suite) textAt(ctx context.Context, before []store.Entry, start, version uint32) (string, error) {
	after, err := s.upgrade(ctx, before, version)
	return fmt.Sprintf(afterHeader, start, version) + s.text(after), err
}

// afterHeader begins the golden file of an old store.
const afterHeader = "# The old store of v%d at v%d\n"

// writtenAt returns the version that the golden file of an old store tells of, the
// latest if it is not there or is to be made anew.
func writtenAt(path string, latest uint32) (version uint32, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || update.all {
		return latest, nil
	}
	if err != nil {
		return 0, err
	}
	var start uint32
	if _, err := fmt.Sscanf(string(text), afterHeader, &start, &version); err != nil || version == 0 || version > latest {
		return 0, fmt.Errorf("%s does not begin with a version up to v%d: restore it from version control, or review what go test -update=all makes of it", path, latest)
	}
	return version, nil
}

func (s Suite) storeDir(version uint32) string {
	return filepath.Join(s.stores(), fmt.Sprintf("v%04d", version))
}

// oldStore returns what the old store of version holds. It opens a copy, because
// opening changes files. The error matches fs.ErrNotExist if there is no such store.
func (s Suite) oldStore(t *testing.T, version uint32) (all []store.Entry, err error) {
	if _, err := os.Stat(s.storeDir(version)); errors.Is(err, fs.ErrNotExist) {
		if version <= max(s.newestStore(), s.recorded()) {
			never := ""
			if version == s.registry().Latest() {
				never = fmt.Sprintf("; if v%d was never released, go test -update=%d makes it", version, version)
			}
			return nil, fmt.Errorf("%w: restore it from version control; what today's code would make proves nothing%s", err, never)
		}
		return nil, fmt.Errorf("%w: go test -update makes it; commit it", err)
	}
	var misnamed error
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.storeDir(version))); err != nil {
		return nil, err
	}
	err = withStoreIn(t.Context(), dir, small, func(st store.Store) error {
		report, err := s.upTo(t.Context(), st, version)
		stored := report.From
		if newer, ok := errors.AsType[*migrate.DowngradeError](err); ok {
			stored = newer.Stored
		} else if err != nil {
			return err
		}
		switch stored {
		case 0:
			return errors.New("it holds no version of the schema")
		case version:
			all, err = entries(t.Context(), st)
			return err
		default:
			misnamed = fmt.Errorf("%s holds a store of v%d: the folder's name does not match its version", s.storeDir(version), stored)
			return nil
		}
	})
	if err != nil {
		// By its text: the copy that it names is gone, and what is damaged is not missing.
		return nil, fmt.Errorf("%s is damaged: restore it from version control; see there that .gitignore does not leave out its files, such as *.sst, and that none is a pointer of Git LFS: %s",
			s.storeDir(version), strings.ReplaceAll(err.Error(), dir, s.storeDir(version)))
	}
	return all, misnamed
}

// newestStore returns the last version that has an old store, or the golden file of
// one; 0 if none has.
func (s Suite) newestStore() uint32 {
	for _, m := range slices.Backward(s.ladder()) {
		for _, end := range []string{"", ".after.txt"} {
			if _, err := os.Stat(s.storeDir(m.Version) + end); err == nil {
				return m.Version
			}
		}
	}
	return 0
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

// makeStores makes the old stores of new versions, each with its golden file: later
// than all that have one, or an after.txt. It makes those of unreleased versions anew,
// and that of the newest version if -update names it.
func (s Suite) makeStores(ctx context.Context) error {
	ladder := s.ladder()
	newest := max(s.newestStore(), s.recorded())
	for i, m := range ladder {
		last := i == len(ladder)-1
		remake := last && update.version == m.Version || s.unreleased(m.Version)
		if m.Version <= newest && !remake {
			continue // there, or lost
		}
		// Programs of the version wrote the fixture of the next one.
		var left []store.Entry
		var err error
		if last {
			left, err = s.at(ctx, m.Version, true)
		} else {
			left, err = s.before(ctx, ladder[i+1])
		}
		if err != nil {
			return err
		}
		text, err := s.textAt(ctx, left, m.Version, s.registry().Latest())
		if err != nil {
			return err
		}
		if err := makeStore(ctx, s.storeDir(m.Version), left); err != nil {
			return err
		}
		if err := write(s.storeDir(m.Version)+".after.txt", text); err != nil {
			return err
		}
	}
	return nil
}

// makeStore makes a store of entries in dir, in place of what is there.
func makeStore(ctx context.Context, dir string, entries []store.Entry) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := withStoreIn(ctx, dir, small, func(st store.Store) error { return load(ctx, st, entries) }); err != nil {
		return err
	}
	// A megabyte of zeros, which Badger makes again.
	err = os.Remove(filepath.Join(dir, "DISCARD"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
