package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate"
)

func nop(context.Context, *migrate.Tx) error { return nil }

// ladder returns migrations 1 to n that do nothing.
func ladder(names ...string) []migrate.Migration {
	var ms []migrate.Migration
	for i, name := range names {
		ms = append(ms, migrate.Migration{Version: uint32(i + 1), Name: name, Up: nop})
	}
	return ms
}

func TestRegistryCheckReportsEveryFaultTogether(t *testing.T) {
	r := migrate.NewRegistry(
		migrate.Migration{Version: 0, Name: "zero", Up: nop},
		migrate.Migration{Version: 1, Name: "one", Up: nop},
		migrate.Migration{Version: 1, Name: "uno", Up: nop},
		migrate.Migration{Version: 4, Name: "Four", Up: nop},
		migrate.Migration{Version: 5, Name: "one", Up: nop},
		migrate.Migration{Version: 6, Name: "six"},
		migrate.Migration{Version: 7, Name: strings.Repeat("x", 65), Up: nop},
	)
	all, ok := errors.AsType[*multierror.Error](r.Check())
	if !ok {
		t.Fatalf("Check() = %v, want a *multierror.Error", r.Check())
	}
	var got []string
	for _, err := range all.Errors {
		got = append(got, err.Error())
	}
	want := []string{
		`migration "zero" has version 0: versions start at 1`,
		`version 1 is registered twice: "uno" takes it again`,
		`version 4 ("Four") leaves a gap: want version 2 next`,
		`migration of version 4: name "Four": want lower-case words of letters and digits joined by single underscores`,
		`versions 1 and 5 are both named "one"`,
		`migration v0006_six has no Up`,
		`migration of version 7: name of 65 characters: want 1 to 64`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestRegistryNames(t *testing.T) {
	for name, valid := range map[string]bool{
		"a": true, "add_users": true, "v2_of_it": true, "a1": true, strings.Repeat("x", 64): true,
		"": false, "_a": false, "a_": false, "a__b": false, "1a": false, "A": false, "a-b": false, "a b": false, "ä": false, "a/b": false,
	} {
		err := migrate.NewRegistry(ladder(name)...).Check()
		if (err == nil) != valid {
			t.Errorf("name %q: Check() = %v, want valid %t", name, err, valid)
		}
	}
}

// TestRegisterChecksFileName registers in the default registry, which is this
// test binary's own, from a file that is not named after the migration.
func TestRegisterChecksFileName(t *testing.T) {
	migrate.Register(migrate.Migration{Version: 1, Name: "misplaced", Up: nop})
	err := migrate.DefaultRegistry().Check()
	want := "migration v0001_misplaced is registered in registry_test.go: want v0001_misplaced.go"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Check() = %v, want it to say %q", err, want)
	}
}

func TestRegistryOrder(t *testing.T) {
	var r migrate.Registry
	for _, v := range []uint32{3, 1, 2} {
		r.Register(migrate.Migration{Version: v, Name: "m" + string('0'+rune(v)), Up: nop})
	}
	var got []string
	for _, m := range r.Migrations() {
		got = append(got, m.ID())
	}
	if diff := cmp.Diff([]string{"v0001_m1", "v0002_m2", "v0003_m3"}, got); diff != "" {
		t.Errorf("Migrations() (-want +got):\n%s", diff)
	}
	if r.Check() != nil || r.Latest() != 3 {
		t.Errorf("Check() = %v, Latest() = %d; want nil, 3", r.Check(), r.Latest())
	}
}

func TestPlan(t *testing.T) {
	r := migrate.NewRegistry(ladder("a", "b", "c")...)
	tests := []struct {
		name           string
		registry       *migrate.Registry
		stored, target uint32
		want           []uint32
		wantErr        error // compared with cmp
	}{
		{name: "fresh", stored: 0, target: 3, want: []uint32{1, 2, 3}},
		{name: "fresh to the middle", stored: 0, target: 2, want: []uint32{1, 2}},
		{name: "upgrade", stored: 1, target: 3, want: []uint32{2, 3}},
		{name: "last step", stored: 2, target: 3, want: []uint32{3}},
		{name: "up to date", stored: 3, target: 3},
		{name: "stay below latest", stored: 2, target: 2},
		{name: "nothing at all", stored: 0, target: 0},
		{name: "empty registry", registry: &migrate.Registry{}, stored: 0, target: 0},
		{name: "newer", stored: 4, target: 3, wantErr: &migrate.DowngradeError{Schema: "app", Stored: 4, Known: 3}},
		{name: "target below", stored: 2, target: 1, wantErr: &migrate.DowngradeError{Schema: "app", Stored: 2, Known: 1}},
		{name: "newest possible", stored: 1<<32 - 1, target: 3, wantErr: &migrate.DowngradeError{Schema: "app", Stored: 1<<32 - 1, Known: 3}},
		{name: "unknown target", stored: 1, target: 4, wantErr: &migrate.UnknownTargetError{Schema: "app", Target: 4, Earliest: 1, Latest: 3}},
		{name: "unknown target of a newer store", stored: 9, target: 8, wantErr: &migrate.UnknownTargetError{Schema: "app", Target: 8, Earliest: 1, Latest: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			registry := r
			if tt.registry != nil {
				registry = tt.registry
			}
			plan, err := registry.Plan("app", tt.stored, tt.target)
			if diff := cmp.Diff(tt.wantErr, err); diff != "" {
				t.Fatalf("error (-want +got):\n%s", diff)
			}
			var got []uint32
			for _, m := range plan.Pending {
				got = append(got, m.Version)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("pending (-want +got):\n%s", diff)
			}
		})
	}
}

// A Runner goes by what its registry holds when it runs, and one registry's
// migrations do not change under those who asked for them.
func TestRegisterAfterUse(t *testing.T) {
	st := openStore(t)
	ms := ladder("a", "b", "c")
	r := migrate.NewRegistry(ms[0])
	runner, err := migrate.New(st, options(r))
	if err != nil {
		t.Fatal(err)
	}
	before := r.Migrations()
	for version := range uint32(3) {
		if version > 0 {
			r.Register(ms[version])
		}
		for _, from := range []uint32{version, version + 1} {
			report, err := runner.Up(t.Context())
			if err != nil || report.From != from || report.To != version+1 {
				t.Errorf("Up() = %+v, %v; want v%d -> v%d", report, err, from, version+1)
			}
		}
	}
	before[0].Name = "x"
	if got := r.Migrations(); len(got) != 3 || got[0].Name != "a" {
		t.Errorf("Migrations() = %v; want a, b and c", got)
	}
}
