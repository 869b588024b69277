package migrations_test

import (
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

// TestFrozen finds a released migration that was edited.
func TestFrozen(t *testing.T) {
	if err := frozen.Check("."); err != nil {
		t.Error(err)
	}
}
