package migratetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// Converge upgrades a store of each version, in which no program wrote anything, to
// the newest version, and wants what a store holds that is made at the newest: the
// same by the measure of [Diff]. The upgrade is a day later, so that it shows what a
// migration makes of the time: declare that in Suite.Volatile.
//
// If Suite.Fresh is set, the old stores on the disk are upgraded as well, each to
// what a new store holds in which Fresh has written the same. Without it, what
// becomes of the data of an old store is for its golden file to say; see [Ladder].
func Converge(t *testing.T, s Suite) {
	t.Helper()
	s.check(t)
	latest := s.registry().Latest()
	for _, m := range s.ladder() {
		version := m.Version
		if version == latest {
			continue
		}
		t.Run(fmt.Sprintf("from v%d", version), func(t *testing.T) {
			empty, err := s.at(t.Context(), version, false)
			if err == nil {
				err = s.converge(t.Context(), empty, func(store.Store) error { return nil })
			}
			if err != nil {
				t.Errorf("empty: %v", err)
			}
			if s.Fresh == nil {
				return
			}
			old, err := s.oldStore(t, version)
			if errors.Is(err, fs.ErrNotExist) {
				return // Ladder says it
			}
			if err == nil {
				err = s.converge(t.Context(), old, func(st store.Store) error { return s.Fresh(t.Context(), st, version) })
			}
			if err != nil {
				t.Errorf("old store: %v", err)
			}
		})
	}
}

// converge compares a store that held before and is upgraded with one that is made
// at the newest version and filled by fill.
func (s Suite) converge(ctx context.Context, before []store.Entry, fill func(store.Store) error) error {
	latest := s.registry().Latest()
	return s.withStore(ctx, func(upgraded store.Store) error {
		later := s
		later.clock = noon.Add(24 * time.Hour)
		if err := load(ctx, upgraded, before); err != nil {
			return err
		}
		if _, err := later.upTo(ctx, upgraded, latest); err != nil {
			return err
		}
		return s.withStore(ctx, func(fresh store.Store) error {
			if _, err := s.upTo(ctx, fresh, latest); err != nil {
				return err
			}
			if err := fill(fresh); err != nil {
				return err
			}
			d, err := Diff(ctx, s, fresh, upgraded)
			if err == nil && d != "" {
				err = fmt.Errorf("at v%d the store differs from one made at v%d (-fresh +upgraded):\n%s\n"+
					"Where they rightly differ, as by the time of a migration, leave it out in Suite.Volatile; otherwise write the next migration so that it makes them the same", latest, latest, d)
			}
			return err
		})
	})
}

// Diff returns the lines in which two stores differ, by key, some of them if there
// are many; "" if they hold the same. Not compared is what Suite.Volatile leaves
// out, and of the schema's history all but the fingerprint of the last record, which
// says by which migrations a store came to its version. Diff writes to neither.
func Diff(ctx context.Context, s Suite, want, got store.Store) (string, error) {
	before, err := entries(ctx, want)
	if err != nil {
		return "", err
	}
	after, err := entries(ctx, got)
	if err != nil {
		return "", err
	}
	return difference(s.stable(before), s.stable(after)), nil
}

// stable returns what does not depend on when and how a store was made.
func (s Suite) stable(all []store.Entry) []store.Entry {
	all = s.lasting(all)
	if s.Volatile == nil {
		return all
	}
	var stable []store.Entry
	for _, e := range all {
		if e = s.Volatile(e); len(e.Key) > 0 {
			stable = append(stable, e)
		}
	}
	return stable
}

// lasting returns all, but of the history only what identifies the migrations.
func (s Suite) lasting(all []store.Entry) []store.Entry {
	var lasting []store.Entry
	history := -1 // where its last record is
	for _, e := range all {
		switch {
		case !strings.HasPrefix(string(e.Key), s.recordPrefix()+"history:"):
			lasting = append(lasting, e)
		case history < 0:
			history = len(lasting)
			lasting = append(lasting, e)
		default:
			lasting[history] = e
		}
	}
	if history >= 0 {
		lasting[history].Value = fingerprint(lasting[history].Value)
	}
	return lasting
}

// fingerprint returns the fingerprint in a history record, or the whole record if it
// has none.
func fingerprint(record []byte) []byte {
	row, err := value.UnmarshalMap(record)
	if err != nil || row["f"] == nil {
		return record
	}
	return row["f"]
}

// recordPrefix starts the keys of what the runner keeps of the schema.
func (s Suite) recordPrefix() string {
	schema := s.Schema
	if schema == "" {
		schema = migrate.DefaultSchema
	}
	return schema + ":schema_"
}
