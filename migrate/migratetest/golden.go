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

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

// Golden climbs the ladder one version at a time. Before each migration the store
// gets the entries of its fixture.txt, and afterwards all that it holds must be
// what after.txt says. A fixture bad_NAME.txt, tried on a copy, must make the
// migration fail with the error in bad_NAME.error, as the migration returned it,
// and leave the store at the version before.
//
// A migration that does not run fails, and so does one that changes nothing, unless
// a file unchanged.txt says why. A folder that belongs to no migration fails as well.
func Golden(t *testing.T, s Suite) {
	t.Helper()
	s.check(t)
	if faults := s.climb(t.Context()); faults != nil {
		for _, err := range faults.Errors {
			t.Error(err)
		}
	}
}

// climb takes a store through all migrations and returns every fault, nil if there
// is none.
func (s Suite) climb(ctx context.Context) (faults *multierror.Error) {
	report := func(err error) {
		if err != nil {
			faults = multierror.Append(faults, err)
		}
	}
	report(s.strangers())
	recorded := s.recorded()
	if update.on {
		if err := s.makeStores(ctx); err != nil { // now: after.txt says that a version has one
			return multierror.Append(faults, err)
		}
	}
	report(s.withStore(ctx, func(st store.Store) error {
		for _, m := range s.ladder() {
			before, err := s.prepare(ctx, st, m)
			if err != nil {
				return err
			}
			report(s.badFixtures(ctx, before, m, recorded))
			if err := s.run(ctx, st, m); err != nil {
				return err // the next would start from nowhere
			}
			after, err := entries(ctx, st)
			if err != nil {
				return err
			}
			report(s.changes(m, before, after))
			report(s.compare(s.golden(m, "after.txt"), s.text(after), m.Version, recorded))
		}
		return nil
	}))
	return faults
}

// prepare gives st the fixture of m and returns what it then holds.
func (s Suite) prepare(ctx context.Context, st store.Store, m migrate.Migration) ([]store.Entry, error) {
	if err := s.fixture(ctx, st, m); err != nil {
		return nil, err
	}
	return entries(ctx, st)
}

func (s Suite) run(ctx context.Context, st store.Store, m migrate.Migration) error {
	report, err := s.upTo(ctx, st, m.Version)
	if err != nil {
		return fmt.Errorf("%s.go: %w", m.ID(), err)
	}
	if len(report.Applied) != 1 {
		return fmt.Errorf("%s.go did not run: %d migrations were applied", m.ID(), len(report.Applied))
	}
	return nil
}

// changes finds a migration that changes nothing, and one that does although it is
// said not to.
func (s Suite) changes(m migrate.Migration, before, after []store.Entry) error {
	path := s.golden(m, "unchanged.txt")
	reason, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unchanged := slices.EqualFunc(s.withoutRecords(before), s.withoutRecords(after), same)
	switch {
	case err == nil && strings.TrimSpace(string(reason)) == "":
		return fmt.Errorf("%s is empty: let it say why %s changes nothing", path, m.ID())
	case err == nil && !unchanged:
		return fmt.Errorf("%s is there, but %s changes entries: delete the file", path, m.ID())
	case err != nil && unchanged:
		return fmt.Errorf("%s.go changes nothing but the version: give %s entries for it to change; if it is right to change none, say why in %s",
			m.ID(), s.golden(m, "fixture.txt"), path)
	}
	return nil
}

// withoutRecords returns all but what the runner keeps of the schema.
func (s Suite) withoutRecords(all []store.Entry) []store.Entry {
	return slices.DeleteFunc(slices.Clone(all), func(e store.Entry) bool {
		return strings.HasPrefix(string(e.Key), s.recordPrefix())
	})
}

// recorded returns the last version that has an after.txt.
func (s Suite) recorded() uint32 {
	for _, m := range slices.Backward(s.ladder()) {
		if _, err := os.Stat(s.golden(m, "after.txt")); err == nil {
			return m.Version
		}
	}
	return 0
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

// badFixtures tries each of m's bad fixtures on a store that holds before.
func (s Suite) badFixtures(ctx context.Context, before []store.Entry, m migrate.Migration, recorded uint32) error {
	paths, err := filepath.Glob(s.golden(m, "bad_*.txt"))
	if err != nil {
		return err
	}
	var faults *multierror.Error
	for _, path := range paths {
		if err := s.badFixture(ctx, before, m, path, recorded); err != nil {
			faults = multierror.Append(faults, err)
		}
	}
	return faults.ErrorOrNil()
}

func (s Suite) badFixture(ctx context.Context, before []store.Entry, m migrate.Migration, path string, recorded uint32) error {
	bad, err := read(path)
	if err != nil {
		return err
	}
	return s.withStore(ctx, func(st store.Store) error {
		if err := load(ctx, st, slices.Concat(before, bad)); err != nil {
			return err
		}
		report, err := s.upTo(ctx, st, m.Version)
		if err == nil {
			return fmt.Errorf("%s: %s succeeded on it, want an error: mend the migration, or move the entries to fixture.txt", path, m.ID())
		}
		if report.To != report.From {
			return fmt.Errorf("%s: %s failed and left the store at v%d", path, m.ID(), report.To)
		}
		return s.compare(strings.TrimSuffix(path, ".txt")+".error", cause(err).Error()+"\n", m.Version, recorded)
	})
}

// cause returns what the migration returned of the error of a run: the words of
// this module around it may change.
func cause(err error) error {
	for {
		switch e := err.(type) { //nolint:errorlint // only the outer layers go
		case *migrate.MigrationError:
			err = e.Err
		case *store.Error:
			err = e.Err
		default:
			return err
		}
	}
}

// compare holds got, which is of version, against the golden file at path, or makes
// it that if -update says so. The files of versions up to recorded were there.
func (s Suite) compare(path, got string, version, recorded uint32) error {
	want, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && version <= recorded && !s.names(version):
		return gone(path, version)
	case missing && update.on, err == nil && s.remakes(version):
		return write(path, got)
	case missing:
		return fmt.Errorf("%s is missing: go test -update writes it; review what it says", path)
	case err != nil:
		return err
	case string(want) != got:
		accept := fmt.Sprintf("If v%d was never released, go test -update=%d accepts it; otherwise undo what changed it", version, version)
		if s.unreleased(version) {
			accept = "go test -update accepts it"
		}
		return fmt.Errorf("%s (-want +got):\n%s\n%s", path, lineDifference(string(want), got), accept)
	}
	return nil
}

// gone is the error of a file of version that was there.
func gone(path string, version uint32) error {
	return fmt.Errorf("%s is gone: restore it from version control; if it never was there, go test -update=%d writes it", path, version)
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// strangers finds folders of the golden files whose migration is gone or renamed,
// and files that no test looks at.
func (s Suite) strangers() error {
	known := map[string]bool{}
	for _, m := range s.ladder() {
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
			return fmt.Errorf("%s belongs to no migration: rename or delete it", folder)
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
	case name == "fixture.txt", name == "after.txt", name == "unchanged.txt", bad && strings.HasSuffix(name, ".txt"):
		return nil
	case bad && strings.HasSuffix(name, ".error"):
		fixture := strings.TrimSuffix(name, ".error") + ".txt"
		if _, err := os.Stat(filepath.Join(folder, fixture)); err != nil {
			return fmt.Errorf("%s is the error of a fixture that is gone: %w", filepath.Join(folder, name), err)
		}
		return nil
	}
	return fmt.Errorf("%s is no file of a migration: want fixture.txt, after.txt, unchanged.txt, bad_NAME.txt or bad_NAME.error", filepath.Join(folder, name))
}
