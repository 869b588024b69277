package etcdstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/migratetest"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

// TestCrashes: migrations survive on etcd what they survive on Badger.
func TestCrashes(t *testing.T) {
	client := newClient(t, sharedAddress(t))
	for _, batches := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d batches", batches), func(t *testing.T) {
			migratetest.RunStore(t, migratetest.StoreSuite{Batches: batches, Most: 5, Open: func(ctx context.Context) (store.Store, error) {
				return etcdstore.New(ctx, client, newPrefix(), etcdstore.Options{Logger: quiet})
			}})
		})
	}
}

// rewriteLadder adds a suffix to every row once; visit is called before each.
func rewriteLadder(visit func(row []byte)) *migrate.Registry {
	return migrate.NewRegistry(migrate.Migration{
		Version: 1, Name: "rewrite", Up: migrate.Rewrite([]byte("rows/"), func(row []byte) ([]byte, error) {
			visit(row)
			return append(row, " rewritten"...), nil
		}),
	})
}

func migrateOptions(r *migrate.Registry) migrate.Options {
	return migrate.Options{Registry: r, AllowUnversioned: true, Logger: slog.New(slog.DiscardHandler), Heartbeat: -1}
}

const migratedRows = 300

// rowsToMigrate are rows with different values.
func rowsToMigrate() []store.Entry {
	rows := numbered(migratedRows, "")
	for i := range rows {
		rows[i].Value = fmt.Appendf(nil, "row %d", i)
	}
	return rows
}

// wantRewritten fails the test unless every row was rewritten once.
func wantRewritten(t *testing.T, st store.Store) {
	t.Helper()
	wantRows(t, st, " rewritten")
}

// wantRows fails the test unless every row has that suffix, once.
func wantRows(t *testing.T, st store.Store, suffix string) {
	t.Helper()
	var want, got []string
	for _, e := range rowsToMigrate() {
		want = append(want, fmt.Sprintf("%s=%s%s", e.Key, e.Value, suffix))
	}
	err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: []byte("rows/")}) {
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%s=%s", e.Key, e.Value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestMigrationLosesConnection cuts the connection at a commit in the middle of a
// migration: the run goes on, and no row is rewritten twice, also not by a request
// that arrives when the run is over or further on.
func TestMigrationLosesConnection(t *testing.T) {
	for _, test := range []struct {
		name      string
		rule      rule
		releaseAt string // the row, "" for the end of the run
	}{
		{"request lost", dropRequest, ""},
		{"response lost", dropResponse, ""},
		{"request arrives after the run", holdRequest, ""},
		{"request arrives during the run", holdRequest, "row 270"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startProxy(t, sharedAddress(t))
			st := open(t, newPrefix(), etcdstore.Options{}, p.address())
			fill(t, st, rowsToMigrate())
			p.set(test.rule, "row 150 rewritten")
			report, err := migrate.Up(t.Context(), st, migrateOptions(rewriteLadder(func(row []byte) {
				if string(row) == test.releaseAt {
					p.release()
				}
			})))
			if err != nil || len(report.Applied) != 1 || report.Applied[0].KeysWritten != migratedRows {
				t.Errorf("Up = %+v, %v; want one migration of %d rows", report, err, migratedRows)
			}
			if r := p.left(); r != passOn {
				t.Error("the proxy has met no request to cut")
			}
			p.release()
			wantRewritten(t, st)
		})
	}
}

// TestLeaderKilled: a migration goes on when the leader of the cluster dies, and
// when the next one stands still for a while.
func TestLeaderKilled(t *testing.T) {
	cluster := startCluster(t, 3)
	st := open(t, newPrefix(), etcdstore.Options{}, addresses(cluster)...)
	fill(t, st, rowsToMigrate())
	leader, _ := leader(t, cluster)
	var killed atomic.Bool
	report, err := migrate.Up(t.Context(), st, migrateOptions(rewriteLadder(func(row []byte) {
		if string(row) == "row 150" && !killed.Swap(true) {
			leader.signal(syscall.SIGKILL)
		}
	})))
	if err != nil || len(report.Applied) != 1 {
		t.Errorf("Up = %+v, %v; want one migration", report, err)
	}
	wantRewritten(t, st)
}

// TestFollowerStopped: a migration does not wait for one follower.
func TestFollowerStopped(t *testing.T) {
	cluster := startCluster(t, 3)
	leader, followers := leader(t, cluster)
	st := open(t, newPrefix(), etcdstore.Options{}, leader.address)
	fill(t, st, rowsToMigrate())
	followers[0].signal(syscall.SIGSTOP)
	if _, err := migrate.Up(t.Context(), st, migrateOptions(rewriteLadder(func([]byte) {}))); err != nil {
		t.Error(err)
	}
	followers[0].signal(syscall.SIGCONT)
	wantRewritten(t, st)
}

// TestServerWithLowerLimitsMigrates: a batch that the server refuses as too large is
// halved until it fits.
func TestServerWithLowerLimitsMigrates(t *testing.T) {
	address := startServer(t, lowRequestBytes)
	st := open(t, newPrefix(), etcdstore.Options{}, address)
	for _, e := range rowsToMigrate() {
		e.Value = append(e.Value, strings.Repeat(" ", 2000)...)
		put(t, st, e)
	}
	var visited atomic.Int64
	_, err := migrate.Up(t.Context(), st, migrateOptions(rewriteLadder(func([]byte) { visited.Add(1) })))
	if err != nil {
		t.Error(err)
	}
	if n := visited.Load(); n <= migratedRows {
		t.Errorf("%d rows were visited: no batch was refused and halved", n)
	}
}

// TestManyRunners: several runners at once share a migration, and no row is
// rewritten twice.
func TestManyRunners(t *testing.T) {
	prefix := newPrefix()
	fill(t, open(t, prefix, etcdstore.Options{}, sharedAddress(t)), rowsToMigrate())
	errs := make(chan error)
	const runners = 3
	for range runners {
		st := open(t, prefix, etcdstore.Options{}, sharedAddress(t))
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := migrate.Up(ctx, st, migrateOptions(rewriteLadder(func([]byte) {})))
			errs <- err
		}()
	}
	for range runners {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	wantRewritten(t, open(t, prefix, etcdstore.Options{}, sharedAddress(t)))
}
