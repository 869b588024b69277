package migratetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

// Golden climbs the ladder one version at a time. Before each migration the store
// gets the entries of its fixture.txt, and afterwards all that it holds must be
// what after.txt says. A fixture bad_NAME.txt, tried on a copy, must make the
// migration fail with the error in bad_NAME.error, and leave the store at the
// version before. A migration that does not run fails, and so does a folder that
// belongs to none.
func Golden(t *testing.T, s Suite) {
	t.Helper()
	if err := s.strangers(); err != nil {
		t.Error(err)
	}
	err := withStore(t.Context(), func(st store.Store) error {
		for _, m := range s.registry().Migrations() {
			if err := s.climb(t.Context(), st, m); err != nil {
				return err // the next would start from nowhere
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// climb takes st through m and compares what it then holds.
func (s Suite) climb(ctx context.Context, st store.Store, m migrate.Migration) error {
	if err := s.fixture(ctx, st, m); err != nil {
		return err
	}
	if err := s.badFixtures(ctx, st, m); err != nil {
		return err
	}
	report, err := s.upTo(ctx, st, m.Version)
	if err != nil {
		return fmt.Errorf("%s: %w", m.ID(), err)
	}
	if len(report.Applied) != 1 {
		return fmt.Errorf("%s did not run: %d migrations were applied", m.ID(), len(report.Applied))
	}
	got, err := s.contents(ctx, st)
	if err != nil {
		return err
	}
	return s.compare(s.golden(m, "after.txt"), got)
}

// fixture adds the entries of m's fixture to st, if there is one.
func (s Suite) fixture(ctx context.Context, st store.Store, m migrate.Migration) error {
	entries, err := read(s.golden(m, "fixture.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return load(ctx, st, entries)
}

func read(path string) ([]store.Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	entries, err := dump.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return entries, nil
}

// badFixtures tries each of m's bad fixtures on a copy of st.
func (s Suite) badFixtures(ctx context.Context, st store.Store, m migrate.Migration) error {
	paths, err := filepath.Glob(s.golden(m, "bad_*.txt"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		bad, err := read(path)
		if err != nil {
			return err
		}
		before, err := entries(ctx, st)
		if err != nil {
			return err
		}
		err = withStore(ctx, func(st store.Store) error {
			if err := load(ctx, st, append(before, bad...)); err != nil {
				return err
			}
			report, err := s.upTo(ctx, st, m.Version)
			if err == nil {
				return fmt.Errorf("%s: %s succeeded on it, want an error", path, m.ID())
			}
			if report.To != m.Version-1 {
				return fmt.Errorf("%s: %s failed and left the store at v%d", path, m.ID(), report.To)
			}
			return s.compare(strings.TrimSuffix(path, ".txt")+".error", err.Error()+"\n")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compare holds got against the golden file at path, or makes it that.
func (s Suite) compare(path, got string) error {
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(got), 0o644)
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: go test -update writes it; review what it says", err)
	}
	if err != nil {
		return err
	}
	if string(want) != got {
		return fmt.Errorf("%s (-want +got):\n%s\ngo test -update accepts it", path, difference(string(want), got))
	}
	return nil
}

// strangers finds folders of the golden files whose migration is gone or renamed.
func (s Suite) strangers() error {
	known := map[string]bool{}
	for _, m := range s.registry().Migrations() {
		known[m.ID()] = true
	}
	dir := filepath.Dir(filepath.Dir(s.golden(migrate.Migration{}, "after.txt")))
	folders, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		folder := filepath.Join(dir, f.Name())
		if !known[f.Name()] {
			return fmt.Errorf("%s belongs to no migration", folder)
		}
		files, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := strangeFile(folder, file.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// strangeFile finds a file that no test looks at, as after a slip in its name.
func strangeFile(folder, name string) error {
	bad := strings.HasPrefix(name, "bad_")
	switch {
	case name == "fixture.txt", name == "after.txt", bad && strings.HasSuffix(name, ".txt"):
		return nil
	case bad && strings.HasSuffix(name, ".error"):
		fixture := strings.TrimSuffix(name, ".error") + ".txt"
		if _, err := os.Stat(filepath.Join(folder, fixture)); err != nil {
			return fmt.Errorf("%s is the error of a fixture that is gone: %w", filepath.Join(folder, name), err)
		}
		return nil
	}
	return fmt.Errorf("%s is no file of a migration: want fixture.txt, after.txt, bad_NAME.txt or bad_NAME.error", filepath.Join(folder, name))
}
