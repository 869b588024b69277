package migratetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// A StoreSuite is a kind of store to run migrations on, for authors of stores. What
// package storetest checks, the store must pass before.
type StoreSuite struct {
	// Open returns a new, empty store, which is closed after its run.
	Open func(ctx context.Context) (store.Store, error)

	// Batches is how many batches of a migration may be in memory at a time.
	Batches int

	// Most bounds how many operations fail in each way, and how many commits have an
	// unknown outcome of each fate, spread over all. 0 means every one.
	Most int
}

// RunStore takes stores through a ladder with a migration of each kind: undisturbed,
// with every store operation failing in turn in each of the ways of
// [storetest.Faults] and a second run after it, and with every commit unknown in turn.
// At the end the store must be that of the undisturbed run, and nothing applied twice.
// Batches have six rows at most, so that a few rows make several of them.
func RunStore(t *testing.T, s StoreSuite) {
	want, report, operations, commits := s.undisturbed(t)
	for i, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			for at := range s.spread(operations, i) {
				s.run(t, want, func(st store.Store) {
					o := s.options()
					if fault != storetest.Error {
						o.TurnTTL = deadTTL
					}
					_, err := migrate.Up(t.Context(), storetest.Fail(st, at, fault), o)
					// What fails in a transaction of several migrations is tried again, each alone.
					if err != nil && !errors.Is(err, storetest.ErrFault) {
						t.Errorf("fault at operation %d of some %d: error = %v, want the fault", at, operations, err)
					}
					again, againErr := migrate.Up(t.Context(), st, s.options())
					if againErr != nil {
						t.Errorf("run after a fault at operation %d: %v", at, againErr)
					}
					// In a store that is shared the turn is given back after the last migration.
					if err == nil && fault != storetest.Error && len(again.Applied) > 0 {
						t.Errorf("fault at operation %d of some %d: no error, and the next run applied %d", at, operations, len(again.Applied))
					}
				})
			}
		})
	}
	for i, fate := range storetest.Fates {
		t.Run("Unknown/"+fate.String(), func(t *testing.T) {
			for at := range s.spread(commits, i) {
				s.run(t, want, func(st store.Store) {
					unsure := storetest.Unconfirm(st, fate, func(commit int) bool { return commit == at })
					got, err := migrate.Up(t.Context(), unsure, s.options())
					unsure.Settle()
					if err != nil {
						t.Errorf("run with commit %d unknown: %v", at, err)
					}
					if diff := cmp.Diff(report, got); diff != "" {
						t.Errorf("report of a run with commit %d unknown (-undisturbed +got):\n%s", at, diff)
					}
				})
			}
		})
	}
}

// spread yields the numbers from 1 to n, or some of them, from a start that differs
// with i.
func (s StoreSuite) spread(n, i int) func(yield func(int) bool) {
	step := 1
	if s.Most > 0 {
		step = max(1, n/s.Most)
	}
	return func(yield func(int) bool) {
		for at := 1 + i%step; at <= n; at += step {
			if !yield(at) {
				return
			}
		}
	}
}

// undisturbed runs the ladder and returns what the store then holds, and what it took.
func (s StoreSuite) undisturbed(t *testing.T) (want string, report migrate.Report, operations, commits int) {
	t.Helper()
	s.with(t, func(st store.Store) {
		counted := storetest.Fail(st, 0, storetest.Error)
		committed := storetest.Unconfirm(counted, storetest.Done, func(int) bool { return false })
		var err error
		if report, err = migrate.Up(t.Context(), committed, s.options()); err != nil {
			t.Fatal(err)
		}
		want, operations, commits = contents(t, st), counted.Operations(), committed.Commits()
	})
	if len(report.Applied) != len(storeLadder()) || operations < 400 || commits < 20 {
		t.Fatalf("undisturbed run: %d migrations, %d operations and %d commits: too few to be all of them", len(report.Applied), operations, commits)
	}
	return want, report, operations, commits
}

// run lets do run the ladder on a new store, and wants it to leave want.
func (s StoreSuite) run(t *testing.T, want string, do func(st store.Store)) {
	t.Helper()
	s.with(t, func(st store.Store) {
		do(st)
		if got := contents(t, st); got != want {
			t.Errorf("the store (-undisturbed +got):\n%s", cmp.Diff(want, got))
		}
	})
}

// with calls do with a new store that holds the rows of the ladder.
func (s StoreSuite) with(t *testing.T, do func(st store.Store)) {
	t.Helper()
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, rows := StoreLadder()
	if err := load(t.Context(), st, rows); err != nil {
		t.Fatal(err)
	}
	do(fewEntries{st})
}

func (s StoreSuite) options() migrate.Options {
	return migrate.Options{
		Registry: migrate.NewRegistry(storeLadder()...), AllowUnversioned: true, Batches: s.Batches,
		Program: "kvmigrate test", Logger: slog.New(slog.DiscardHandler), Heartbeat: -1,
		Now: func() time.Time { return noon },
	}
}

// deadTTL is how long a run waits for the turn of one that died.
const deadTTL = 300 * time.Millisecond

// ofTheDead is a turn, with its lock, that a run did not live to give back, and the intent
// that it had carried out by then. The next one takes it if it has something to do.
var ofTheDead = regexp.MustCompile(`(?m)(^"system:schema_intent" .*\n)?^"system:schema_lock" .*\n"system:schema_turn" .*\n`)

func contents(t *testing.T, st store.Store) string {
	t.Helper()
	var out bytes.Buffer
	err := st.View(t.Context(), func(r store.Reader) error { return dump.Write(&out, r, store.Scan{}) })
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out.Bytes(), []byte(`"system:schema_turn"`)) {
		return out.String() // in no time, which is a tenth of that of a run
	}
	return ofTheDead.ReplaceAllString(out.String(), "")
}

// fewEntries is a store whose transactions hold so little that a batch has six rows.
type fewEntries struct{ store.Store }

// Unwrap returns the store below; see [store.As].
func (f fewEntries) Unwrap() store.Store { return f.Store }

func (f fewEntries) Limits() store.Limits {
	l := f.Store.Limits()
	l.TxnEntries = 4 * storeBatch
	return l
}

const storeRows, storeBatch = 20, 6

// StoreLadder returns the migrations of [RunStore], one of each kind, of which none
// can be made twice without that it shows, and the entries that their store holds
// before.
func StoreLadder() (ladder []migrate.Migration, before []store.Entry) {
	for i := range storeRows {
		before = append(before, store.Entry{Key: fmt.Appendf(nil, "app/%06d", i), Value: fmt.Appendf(nil, "row %d", i)})
	}
	return storeLadder(), before
}

func storeLadder() []migrate.Migration {
	rows, index := store.MustPartition("app"), store.MustPartition("app.index")
	mark := func(row int) []byte { return fmt.Appendf(nil, "mark/%d", row) }
	return []migrate.Migration{
		{Version: 1, Name: "plain", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Update([]byte("app/000001"), suffix(" plain"))
		}, Check: func(_ context.Context, r store.Reader) error {
			_, err := r.Get([]byte("app/000001"))
			return err
		}},
		{Version: 2, Name: "stepped", Up: func(_ context.Context, tx *migrate.Tx) error {
			i := uint32(0)
			if c := tx.Cursor(); c != nil {
				i = binary.BigEndian.Uint32(c)
			}
			if i < 5 {
				tx.Continue(binary.BigEndian.AppendUint32(nil, i+1))
			}
			return tx.Update(fmt.Appendf(nil, "app/%06d", i), suffix(" stepped"))
		}},
		{Version: 3, Name: "rewrite", Up: migrate.Rewrite([]byte("app/"), suffix(" rewritten")), Check: func(_ context.Context, r store.Reader) error {
			for e, err := range r.Scan(store.Scan{Prefix: []byte("app/")}) {
				if err != nil {
					return err
				}
				if !bytes.HasSuffix(e.Value, []byte(" rewritten")) {
					return errors.New("a row was left out")
				}
			}
			return nil
		}},
		{Version: 4, Name: "index", Up: migrate.Index(rows, index, func(id, row []byte) (key, value []byte, err error) {
			return row, id, nil
		})},
		{Version: 5, Name: "phases", Up: migrate.Phases(
			migrate.Each([]byte("app/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
				if err := tx.Delete(e.Key); err != nil {
					return err
				}
				e.Key = append([]byte("moved/"), e.Key...)
				return tx.Set(e)
			}),
			func(_ context.Context, tx *migrate.Tx) error {
				return tx.Set(store.Entry{Key: []byte("between"), Value: []byte("phases")})
			},
			migrate.Serial(migrate.DropPrefix(index.Prefix())),
		)},
		// Its batches do not touch the rows that they read, and undo a part of what the
		// ones before them did: one that is committed again, later, shows.
		{Version: 6, Name: "marks", Up: migrate.Each([]byte("moved/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			row, err := strconv.Atoi(strings.TrimPrefix(string(e.Key), "moved/app/"))
			if err != nil {
				return nil //nolint:nilerr // no row of the ladder, but of a test that adds some
			}
			return errors.Join(tx.Delete(mark(row-storeBatch)), tx.Set(store.Entry{Key: mark(row)}))
		})},
	}
}

func suffix(s string) func([]byte) ([]byte, error) {
	return func(v []byte) ([]byte, error) { return append(v, s...), nil }
}
