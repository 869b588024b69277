package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
)

// declared is a ladder whose migrations declare {ReadableFrom, WritableFrom}.
func declared(floors ...[2]uint32) []migrate.Migration {
	ms := make([]migrate.Migration, len(floors))
	for i, f := range floors {
		ms[i] = migrate.Migration{Version: uint32(i + 1), Name: fmt.Sprintf("m%d", i+1), Up: nop, ReadableFrom: f[0], WritableFrom: f[1]}
	}
	return ms
}

func TestOlderProgram(t *testing.T) {
	st := openStore(t)
	ladder := declared([2]uint32{}, [2]uint32{}, [2]uint32{2, 0}, [2]uint32{1, 3}, [2]uint32{1, 4})
	mustUp(t, st, ladder)
	before := contents(t, st)
	for known, want := range map[int]struct{ readable, writable bool }{
		1: {false, false}, // v2 says nothing
		2: {true, false},  // v3 to v5 let it read, v3 not write
		3: {true, false},  // v5 wants v4
		4: {true, true},
		5: {true, true},
	} {
		for _, readOnly := range []bool{false, true} {
			o := options(migrate.NewRegistry(ladder[:known]...))
			o.AllowReadOnly = readOnly
			report, err := migrate.Up(t.Context(), st, o)
			r, newErr := migrate.New(st, o)
			if newErr != nil {
				t.Fatal(newErr)
			}
			status, statusErr := r.Status(t.Context())
			plan, planErr := r.Plan(t.Context(), uint32(known))
			if (statusErr == nil) != (err == nil) || (planErr == nil) != (err == nil) || status.ReadOnly != report.ReadOnly || len(status.Pending)+len(plan.Pending) > 0 {
				t.Errorf("v%d, %t: Status = %+v, %v and Plan = %+v, %v; want nothing pending, and an error if Up has one: %v", known, readOnly, status, statusErr, plan, planErr, err)
			}
			switch {
			case want.writable:
				if diff := cmp.Diff(migrate.Report{Schema: "system", From: 5, To: 5}, report); err != nil || diff != "" {
					t.Errorf("Up of v%d, %t = %v (-want +got):\n%s", known, readOnly, err, diff)
				}
			case want.readable && readOnly:
				if diff := cmp.Diff(migrate.Report{Schema: "system", From: 5, To: 5, ReadOnly: true}, report); err != nil || diff != "" {
					t.Errorf("Up of v%d, read-only = %v (-want +got):\n%s", known, err, diff)
				}
			default:
				e, ok := errors.AsType[*migrate.DowngradeError](err)
				if !ok || e.Readable != want.readable || e.WrittenBy != "test v1" {
					t.Errorf("Up of v%d, %t = %v; want a DowngradeError with Readable %t", known, readOnly, err, want.readable)
				}
			}
		}
	}
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("the store changed (-want +got):\n%s", diff)
	}
}

func TestOlderProgramOfAnotherHistory(t *testing.T) {
	st := openStore(t)
	mustUp(t, st, declared([2]uint32{}, [2]uint32{0, 1}))
	other := migrate.Migration{Version: 1, Name: "other", Up: nop}
	if _, err := up(t, st, []migrate.Migration{other}); !isType[*migrate.RenamedError](err) {
		t.Errorf("Up = %v; want a RenamedError", err)
	}
}

func TestOlderProgramWhileUnderWay(t *testing.T) {
	st := openStore(t)
	ladder := declared([2]uint32{}, [2]uint32{0, 1}, [2]uint32{0, 1})
	ladder[2].Up = func(_ context.Context, tx *migrate.Tx) error {
		if tx.Cursor() != nil {
			return errBoom
		}
		tx.Continue([]byte("on"))
		return nil
	}
	if _, err := up(t, st, ladder); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	if _, err := up(t, st, ladder[:1]); !isType[*migrate.UnderWayError](err) {
		t.Errorf("Up = %v; want an UnderWayError: what is half done is no version", err)
	}
}

func TestUpToIsNoOlderProgram(t *testing.T) {
	st := openStore(t)
	ladder := declared([2]uint32{}, [2]uint32{0, 1})
	mustUp(t, st, ladder)
	r, err := migrate.New(st, options(migrate.NewRegistry(ladder...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpTo(t.Context(), 1); !isType[*migrate.DowngradeError](err) {
		t.Errorf("UpTo(1) of a store at v2 = %v; want a DowngradeError", err)
	}
}

// For ladders of all kinds, a program may use a store exactly if every migration
// that it lacks says so.
func TestFloors(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		ladder := declared(make([][2]uint32, 2+random.IntN(6))...)
		for i := range ladder {
			version := uint32(i + 1)
			if random.IntN(4) > 0 {
				ladder[i].WritableFrom = random.Uint32N(version) + 1
			}
			if random.IntN(2) > 0 {
				ladder[i].ReadableFrom = random.Uint32N(max(1, ladder[i].WritableFrom)) + 1
			}
			if ladder[i].WritableFrom == 0 {
				ladder[i].ReadableFrom = random.Uint32N(version + 1)
			}
		}
		st, closeStore := inMemory(t)
		if _, err := up(t, st, ladder); err != nil {
			t.Fatalf("%+v: %v", ladder, err)
		}
		for known := 1; known < len(ladder); known++ {
			readable, writable := true, true
			for _, m := range ladder[known:] {
				from := m.ReadableFrom
				if from == 0 {
					from = m.WritableFrom
				}
				readable = readable && from > 0 && from <= uint32(known)
				writable = writable && m.WritableFrom > 0 && m.WritableFrom <= uint32(known)
			}
			o := options(migrate.NewRegistry(ladder[:known]...))
			o.AllowReadOnly = true
			report, err := migrate.Up(t.Context(), st, o)
			if (err == nil) != readable || err == nil && report.ReadOnly == writable {
				t.Errorf("v%d of %+v: Up = %+v, %v; want readable %t, writable %t", known, ladder, report, err, readable, writable)
			}
		}
		closeStore()
	}
}

func TestUnreleased(t *testing.T) {
	ladder := declared(make([][2]uint32, 4)...)
	dev := func(from int) []migrate.Migration {
		ms := append([]migrate.Migration{}, ladder...)
		for i := from - 1; i < len(ms); i++ {
			ms[i].Unreleased = true
		}
		return ms
	}
	for _, test := range []struct {
		name    string
		before  []migrate.Migration // that the store went through
		data    bool                // whether it has data
		program []migrate.Migration
		allow   bool
		want    uint32 // the version that is refused, 0 if none is
	}{
		{"fresh store", nil, false, dev(1), false, 0},
		{"data from before kvmigrate", nil, true, dev(3), false, 3},
		{"store of a released program", ladder[:2], false, dev(3), false, 3},
		{"only a later one is unreleased", ladder[:1], false, dev(4), false, 4},
		{"asked for", ladder[:2], false, dev(3), true, 0},
		{"store of an unreleased program", dev(2)[:2], false, dev(2), false, 0},
		{"nothing pending", ladder, false, dev(3), false, 0},
		{"released since", dev(2)[:3], false, ladder, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := openStore(t)
			if test.data {
				put(t, st, "stray", nil)
			}
			if test.before != nil {
				mustUp(t, st, test.before)
			}
			before := contents(t, st)
			o := options(migrate.NewRegistry(test.program...))
			o.AllowUnversioned, o.AllowUnreleased = true, test.allow
			_, err := migrate.Up(t.Context(), st, o)
			if test.want == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*migrate.UnreleasedError](err)
			if !ok || e.Version != test.want || !errors.Is(err, migrate.ErrRefused) {
				t.Errorf("Up = %v; want an UnreleasedError for v%d", err, test.want)
			}
			if diff := cmp.Diff(before, contents(t, st)); diff != "" {
				t.Errorf("store after a refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnreleasedIsRecorded(t *testing.T) {
	st := openStore(t)
	ladder := declared(make([][2]uint32, 2)...)
	ladder[1].Unreleased = true
	o := options(migrate.NewRegistry(ladder...))
	o.Logger = slog.New(slog.DiscardHandler)
	mustRun(t, st, o)
	if got := historyOf(t, st, ladder); got[0].Unreleased || !got[1].Unreleased {
		t.Errorf("history %+v; want v2 alone unreleased", got)
	}
}
