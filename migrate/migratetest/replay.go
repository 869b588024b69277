package migratetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
)

// Replay proves that a baseline makes what the migrations made that it stands for. The
// registry of s begins with the baseline, and old holds all migrations, those before it
// included. At the version of the baseline and at each after it that both have, a new
// store of the one must be, by the measure of [Diff], a new store of the other; the
// fingerprints are part of it. It belongs to the change that squashes, or stays as long
// as a test keeps the old migrations.
func Replay(t *testing.T, s Suite, old *migrate.Registry) {
	t.Helper()
	s.check(t)
	ladder := s.ladder()
	if len(ladder) == 0 || ladder[0].Baseline == nil {
		t.Fatal("the registry does not begin with a baseline")
	}
	for _, m := range ladder {
		if m.Version > old.Latest() {
			break
		}
		t.Run(m.ID(), func(t *testing.T) {
			if err := s.replay(t.Context(), old, m.Version); err != nil {
				t.Error(err)
			}
		})
	}
}

func (s Suite) replay(ctx context.Context, old *migrate.Registry, version uint32) error {
	replayed := s
	replayed.Registry = old
	return s.withStore(ctx, func(want store.Store) error {
		if _, err := replayed.upTo(ctx, want, version); err != nil {
			return fmt.Errorf("the old migrations: %w", err)
		}
		return s.withStore(ctx, func(got store.Store) error {
			if _, err := s.upTo(ctx, got, version); err != nil {
				return fmt.Errorf("the baseline: %w", err)
			}
			d, err := Diff(ctx, s, want, got)
			if err == nil && d != "" {
				err = fmt.Errorf("at v%d the baseline does not make what the old migrations made (-old +baseline):\n%s\n"+
					"A difference in %shistory: is one of Baseline.Fingerprint, which is that of the old v%d", version, d, s.recordPrefix(), s.ladder()[0].Version)
			}
			return err
		})
	})
}
