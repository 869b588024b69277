package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/sysdb"
)

// tables compares system tables to a program's own tables of the same rows in the same
// store, read through the same methods.
func tables(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "tables")
	n := b.pick(20_000, 2_000)
	users, err := shareTable(systables.Users.Table, func(r systables.User) systables.UserID { return r.ID })
	if err != nil {
		return err
	}
	audit, err := shareTable(systables.AuditLogs, func(r systables.AuditLog) systables.AuditID { return r.ID })
	if err != nil {
		return err
	}
	err = withStore(ctx, dir, func(st *badgerstore.Store) error {
		if _, err := startLent(ctx, st); err != nil {
			return err
		}
		return errors.Join(users.fill(ctx, st, n, newUser), audit.fill(ctx, st, n, newAuditLog))
	})
	if err != nil {
		return err
	}
	// As a program finds them: in tables on the disk, and not in memory.
	return withStore(ctx, dir, func(st *badgerstore.Store) error {
		if len(st.DB().Tables()) == 0 {
			return errors.New("the reopened store has no table")
		}
		return errors.Join(users.compare(ctx, b, st, n, newUser), audit.compare(ctx, b, st, n, newAuditLog))
	})
}

// A sharing is a system table beside two others of the same rows. Names of one length
// make keys of one length.
type sharing[K ~string, R any] struct {
	system, shared, twin systables.Table[K, R]
	key                  func(R) K
}

func shareTable[K ~string, R any](system systables.Table[K, R], key func(R) K) (s sharing[K, R], err error) {
	name := system.Definition().Name
	shared, err := systables.NewTable("shared", name, key)
	if err != nil {
		return s, err
	}
	twin, err := systables.NewTable("second", name, key)
	return sharing[K, R]{system, shared, twin, key}, err
}

// fill puts n rows into each of the tables.
func (s sharing[K, R]) fill(ctx context.Context, st store.Store, n int, row func(int) R) error {
	const batch = 500
	for begin := 0; begin < n; begin += batch {
		var rows []R
		for i := begin; i < min(n, begin+batch); i++ {
			rows = append(rows, row(i))
		}
		err := store.Update(ctx, st, func(tx store.Txn) error {
			return errors.Join(s.system.Put(tx, rows...), s.shared.Put(tx, rows...), s.twin.Put(tx, rows...))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compare adds the figures of reads, each in a transaction of its own, and of scans.
func (s sharing[K, R]) compare(ctx context.Context, b *bench, st store.Store, n int, row func(int) R) error {
	keys := make([]K, 500)
	for i := range keys {
		keys[i] = s.key(row(rand.IntN(n)))
	}
	reading := func(name string, t systables.Table[K, R]) contestant[float64] {
		return timedWarm(name, func() error {
			for _, key := range keys {
				err := st.View(ctx, func(r store.Reader) error {
					_, err := t.Get(r, key)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	scanning := func(name string, t systables.Table[K, R]) contestant[float64] {
		return timed(name, func() error {
			return st.View(ctx, func(r store.Reader) error {
				seen := 0
				for _, err := range t.All(r, "") {
					if err != nil {
						return err
					}
					seen++
				}
				if seen != n {
					return fmt.Errorf("%d rows, want %d", seen, n)
				}
				return nil
			})
		})
	}
	for _, way := range []struct {
		name   string
		rounds int
		of     func(string, systables.Table[K, R]) contestant[float64]
	}{{"reads", b.pick(401, 21), reading}, {"scans", b.pick(101, 11), scanning}} {
		times, err := alternate(way.rounds, way.of("shared", s.shared), way.of("system", s.system), way.of("twin", s.twin))
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("%s of %s, over a shared table", way.name, s.system.Name()), ratios(times["system"], times["shared"]), atMost(1.05))
		b.add(fmt.Sprintf("%s of a shared table, over another", way.name), ratios(times["twin"], times["shared"]), unbound)
	}
	return nil
}

// timed returns a contestant that measures the seconds of do.
func timed(name string, do func() error) contestant[float64] {
	return contestant[float64]{name, func() (float64, error) {
		start := time.Now()
		err := do()
		return time.Since(start).Seconds(), err
	}}
}

// timedWarm returns a contestant that does do, and measures the seconds of doing it
// again, so that it does not matter to the processor's caches which one it follows.
func timedWarm(name string, do func() error) contestant[float64] {
	measured := timed(name, do)
	return contestant[float64]{name, func() (float64, error) {
		if err := do(); err != nil {
			return 0, err
		}
		return measured.run()
	}}
}

func newUser(i int) systables.User {
	email := fmt.Sprintf("user.%09d@mail.example.com", i)
	at := systables.Timestamp(1736942400000 + int64(i))
	return systables.User{
		ID:       systables.UserID(fmt.Sprintf("%08x-0000-7000-8000-%012x", uint32(i)*2654435761, i)),
		Username: fmt.Sprintf("user_%09d", i), PasswordHash: "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		Role: "user", Email: &email, AuthType: "password", StorageMode: "table", CreatedAt: at, UpdatedAt: at, LastSeen: &at,
	}
}

func newAuditLog(i int) systables.AuditLog {
	details := fmt.Sprintf(`{"request":%d,"columns":["name","options"]}`, i)
	return systables.AuditLog{
		ID:          systables.AuditID(fmt.Sprintf("audit_%09d", i)),
		Timestamp:   systables.Timestamp(1736942400000 + int64(i)*3),
		ActorUserID: fmt.Sprintf("actor_%04d", i%1000), ActorUsername: fmt.Sprintf("user_%09d", i%1000),
		Action: "table.alter", Target: "app:notes", Details: &details,
	}
}

// opening measures the start-up of a program with system tables, each time in a process
// of its own, in which nothing is warm.
func opening(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "opening")
	starts := func(name, what string) contestant[result] {
		return contestant[result]{name, func() (result, error) { return runChild(ctx, job{What: what, Dir: dir}) }}
	}
	created, err := alternate(b.pick(41, 5), contestant[result]{"create", func() (result, error) {
		if err := os.RemoveAll(dir); err != nil {
			return result{}, err
		}
		return starts("create", "create").run()
	}})
	if err != nil {
		return err
	}
	restarted, err := alternate(b.pick(81, 11), starts("badger", "badger"), starts("initialize", "initialize"),
		starts("restart", "restart"), starts("whole", "create"), starts("twin", "badger"), starts("defaults", "defaults"))
	if err != nil {
		return err
	}
	for _, part := range []struct{ what, name string }{{"version check", "initialize"}, {"all steps", "restart"}} {
		apart, badgers := each(restarted[part.name], seconds), each(restarted[part.name], openSeconds)
		b.add("restart, "+part.what+", in ms", each(apart, milliseconds), below(1))
		b.add("restart, "+part.what+", over Badger's Open", ratios(apart, badgers), below(0.01))
	}
	again := each(restarted["restart"], func(r result) float64 { return r.AgainSeconds })
	alone := each(restarted["badger"], openSeconds)
	b.add("the same in a process that did it before, in ms", each(again, milliseconds), unbound)
	b.add("the same, over Badger's Open", ratios(again, each(restarted["restart"], openSeconds)), unbound)
	b.add("Badger's first read alone, over its Open", ratios(each(restarted["badger"], seconds), alone), unbound)
	b.add("Badger's Open alone, in ms", each(alone, milliseconds), unbound)
	b.add("Badger's Open alone, over itself", ratios(each(restarted["twin"], openSeconds), alone), unbound)
	b.add("Badger's Open with its default options, over that", ratios(each(restarted["defaults"], openSeconds), alone), unbound)
	b.add("restart as a whole, over Badger's Open alone", ratios(each(restarted["whole"], seconds), alone), unbound)
	b.add("new store, Badger's Open included, in ms", each(each(created["create"], seconds), milliseconds), below(100))
	return nil
}

func openSeconds(r result) float64 { return r.OpenSeconds }

func milliseconds(s float64) float64 { return s * 1000 }

// startWhole opens the system tables in dir, be they there or not.
func startWhole(ctx context.Context, dir string) (r result, err error) {
	begun := time.Now()
	db, err := sysdb.Open(ctx, sysdb.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(begun).Seconds()
	return r, db.Close(ctx)
}

// startParts opens the database in dir as badgerstore does, or for "defaults" as Badger
// does by itself, and then takes those steps of the start-up of an existing store that
// what names, or for the two that name none reads one key.
func startParts(ctx context.Context, dir, what string) (r result, err error) {
	o := badger.DefaultOptions(dir).WithLogger(nil)
	if what != "defaults" {
		o = o.WithSyncWrites(true).WithMetricsEnabled(false).WithVerifyValueChecksum(true)
	}
	begun := time.Now()
	handle, err := badger.Open(o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	r.OpenSeconds = time.Since(begun).Seconds()
	st, err := badgerstore.New(handle)
	if err != nil {
		return r, err
	}
	switch what {
	case "badger", "defaults":
		r.Seconds, err = readVersion(handle)
	case "initialize":
		r.Seconds, err = initializeAgain(ctx, st)
	case "restart":
		if r.Seconds, err = startLent(ctx, st); err == nil {
			r.AgainSeconds, err = startLent(ctx, st)
		}
	}
	return r, err
}

// readVersion returns how long Badger takes to read the version.
func readVersion(db *badger.DB) (seconds float64, err error) {
	begun := time.Now()
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte("system:schema_version"))
		if err != nil {
			return err
		}
		_, err = item.ValueCopy(nil)
		return err
	})
	return time.Since(begun).Seconds(), err
}

// initializeAgain returns how long it takes to see that st is at the newest version.
func initializeAgain(ctx context.Context, st store.Store) (seconds float64, err error) {
	begun := time.Now()
	report, err := systables.Initialize(ctx, st)
	seconds = time.Since(begun).Seconds()
	if err == nil && report.From != report.To {
		err = errors.New("the store was not at the newest version")
	}
	return seconds, err
}

// startLent returns how long all steps take in a store that is open.
func startLent(ctx context.Context, st store.Store) (seconds float64, err error) {
	begun := time.Now()
	db, err := sysdb.Open(ctx, sysdb.Config{Store: st, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	seconds = time.Since(begun).Seconds()
	return seconds, db.Close(ctx)
}
