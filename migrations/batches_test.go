package migrations_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
)

// manyRows is more rows of a table than a transaction of openStore holds, and
// someRows more than a batch.
const manyRows, someRows = 7_000, 3_200

// users are n rows of system.users as programs at v1 and v2 wrote them.
func users(t *testing.T, n int) []store.Entry {
	return rows(t, n, "system.users/user-%06d", func(i int) map[string]any {
		return map[string]any{
			"user_id": fmt.Sprintf("user-%06d", i), "username": fmt.Sprintf("zoë.%d", i), "password_hash": "$2b$12$", "role": "user",
			"auth_type": "password", "storage_mode": "table", "created_at": 1742825304571 + i, "updated_at": 1742825304571,
		}
	})
}

// jobs are n rows of system.jobs as programs from v1 to v3 wrote them. Many have
// their status and creation in common.
func jobs(t *testing.T, n int) []store.Entry {
	return rows(t, n, "system.jobs/job-%06d", func(i int) map[string]any {
		return map[string]any{
			"job_id": fmt.Sprintf("job-%06d", i), "job_type": "flush", "namespace_id": "ns_00", "node_id": "node-1",
			"status": []string{"pending", "running", "completed", "failed", "cancelled"}[i%5], "created_at": 1742825304571 - i*7919%1000,
		}
	})
}

func rows(t *testing.T, n int, key string, row func(i int) map[string]any) []store.Entry {
	t.Helper()
	entries := make([]store.Entry, n)
	for i := range entries {
		data, err := value.Marshal(row(i))
		if err != nil {
			t.Fatal(err)
		}
		entries[i] = store.Entry{Key: fmt.Appendf(nil, key, i), Value: data}
	}
	return entries
}

// entriesOf returns what st holds under prefix.
func entriesOf(t *testing.T, st store.Store, prefix string) []store.Entry {
	t.Helper()
	var entries []store.Entry
	err := st.View(t.Context(), func(s store.Reader) error {
		for e, err := range s.Scan(store.Scan{Prefix: []byte(prefix)}) {
			if err != nil {
				return err
			}
			e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// compareEntries takes the long way only if there is a difference.
func compareEntries(t *testing.T, what string, want, got []store.Entry) {
	t.Helper()
	same := slices.EqualFunc(want, got, func(a, b store.Entry) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta
	})
	if !same {
		t.Errorf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}

// mustRun takes st from the version before to version, and wants that the
// migration took several batches and wrote keys.
func mustRun(t *testing.T, st store.Store, version uint32, keys uint64) {
	t.Helper()
	report, err := run(t, st, version)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Applied); n != 1 {
		t.Fatalf("UpTo(%d) applied %d migrations, want 1", version, n)
	}
	// Two batches and the catalog; a row that is changed twice is counted twice.
	if a := report.Applied[0]; a.Transactions < 3 || a.KeysWritten != keys || a.KeysDeleted != 0 {
		t.Errorf("v%d took %d transactions, wrote %d keys and deleted %d; want 3 or more, %d and none", version, a.Transactions, a.KeysWritten, a.KeysDeleted, keys)
	}
}

func TestUsersInBatches(t *testing.T) {
	st := openStore(t)
	if n := st.Limits().TxnEntries; n >= manyRows {
		t.Fatalf("a transaction holds %d entries, which is all of the rows", n)
	}
	if _, err := run(t, st, 2); err != nil {
		t.Fatal(err)
	}
	before := users(t, manyRows)
	put(t, st, before)
	mustRun(t, st, 3, manyRows+2)

	for i, e := range before {
		row, err := value.UnmarshalMap(e.Value)
		if err == nil {
			err = row.Set("failed_login_attempts", 0)
		}
		if err == nil {
			before[i].Value, err = value.Marshal(row)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	compareEntries(t, "users at v3", before, entriesOf(t, st, "system.users/"))
	err := st.View(t.Context(), func(s store.Reader) error {
		n := 0
		for user, err := range systables.Users.All(s, "") {
			if err != nil {
				return err
			}
			if user.FailedLoginAttempts != 0 || user.LockedUntil != nil || user.LastLoginAt != nil {
				t.Errorf("user %s is locked out: %+v", user.ID, user)
			}
			n++
		}
		if n != manyRows {
			t.Errorf("the typed table has %d users, want %d", n, manyRows)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestJobsInBatches: the indexes have what the typed table would have put there.
// Deleting the jobs through it leaves nothing, and inserting them again leaves
// the store as the migrations made it.
func TestJobsInBatches(t *testing.T) {
	st := openStore(t)
	if _, err := run(t, st, 3); err != nil {
		t.Fatal(err)
	}
	before := jobs(t, manyRows)
	put(t, st, before)
	mustRun(t, st, 4, manyRows+2)
	compareEntries(t, "jobs at v4", before, entriesOf(t, st, "system.jobs/"))
	if _, err := run(t, st, 5); err != nil {
		t.Fatal(err)
	}
	const pending = manyRows / 5 // of them are in the queue
	mustRun(t, st, 6, manyRows+pending+2)
	migrated := entriesOf(t, st, "system.jobs")
	if n := len(migrated); n != 2*manyRows+pending {
		t.Errorf("%d rows and index entries, want two for each of %d jobs and one for each of %d pending ones", n, manyRows, pending)
	}

	var all []systables.Job
	err := st.View(t.Context(), func(s store.Reader) error {
		for _, status := range []string{"cancelled", "completed", "failed", "pending", "running"} {
			for job, err := range systables.JobsByStatus(s, status) {
				if err != nil {
					return err
				}
				if n := len(all); n > 0 && all[n-1].Status == job.Status && all[n-1].CreatedAt > job.CreatedAt {
					t.Fatalf("job %s comes after %s, which was created later", job.ID, all[n-1].ID)
				}
				all = append(all, job)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	each := func(change func(store.Txn, systables.Job) error) {
		for chunk := range slices.Chunk(all, 1000) {
			err := store.Update(t.Context(), st, func(tx store.Txn) error {
				for _, job := range chunk {
					if err := change(tx, job); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	each(func(tx store.Txn, job systables.Job) error { return systables.Jobs.Delete(tx, job.ID) })
	compareEntries(t, "jobs after all are deleted", nil, entriesOf(t, st, "system.jobs"))
	each(systables.Jobs.Insert)
	compareEntries(t, "jobs after all are inserted again", migrated, entriesOf(t, st, "system.jobs"))
}

// TestBadRow: a row that cannot be decoded stops the migration, which goes on to
// the end once the row is repaired.
func TestBadRow(t *testing.T) {
	tests := []struct {
		version uint32
		prefix  string
		rows    func(*testing.T, int) []store.Entry
		bad     string
	}{
		{3, "system.users", users, "ff"},
		{3, "system.users", users, "f6"}, // null
		{4, "system.jobs", jobs, "a0a0"},
		{4, "system.jobs", jobs, "a1667374617475730a"}, // {"status": 10}
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("v%d/%s", tt.version, tt.bad), func(t *testing.T) {
			st := openStore(t)
			if _, err := run(t, st, tt.version-1); err != nil {
				t.Fatal(err)
			}
			rows := tt.rows(t, someRows)
			put(t, st, rows)
			good := rows[someRows*3/4]
			bad := good
			if _, err := fmt.Sscanf(tt.bad, "%x", &bad.Value); err != nil {
				t.Fatal(err)
			}
			put(t, st, []store.Entry{bad})

			_, err := run(t, st, tt.version)
			if e, ok := errors.AsType[*migrate.MigrationError](err); !ok || e.Version != tt.version {
				t.Fatalf("error = %v, want a *MigrationError of v%d", err, tt.version)
			}
			if e, ok := errors.AsType[*store.Error](err); !ok || !bytes.Equal(e.Key, bad.Key) {
				t.Errorf("error %v is of key %q, want %q", err, e.Key, bad.Key)
			}
			_, id, _ := strings.Cut(string(bad.Key), "/")
			if text := err.Error(); strings.Contains(text, id) || !strings.Contains(text, "row of "+tt.prefix) {
				t.Errorf("error %q: want the table in it, and not the key", text)
			}
			wantVersion(t, st, tt.version-1)

			put(t, st, []store.Entry{good})
			mustRun(t, st, tt.version, someRows+2)

			smooth := openStore(t)
			if _, err := run(t, smooth, tt.version-1); err != nil {
				t.Fatal(err)
			}
			put(t, smooth, rows)
			mustRun(t, smooth, tt.version, someRows+2)
			compareEntries(t, "repaired store", entriesOf(t, smooth, tt.prefix), entriesOf(t, st, tt.prefix))
		})
	}
}

// TestCatalogMissing: a table that the catalog does not have cannot be altered.
func TestCatalogMissing(t *testing.T) {
	tests := map[string]struct {
		version uint32
		missing string
	}{
		"definition of users": {3, "system:table:users"},
		"row of users":        {3, "system.tables/system:users"},
		"definition of jobs":  {4, "system:table:jobs"},
		"row of jobs":         {4, "system.tables/system:jobs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			if _, err := run(t, st, tt.version-1); err != nil {
				t.Fatal(err)
			}
			err := store.Update(t.Context(), st, func(tx store.Txn) error { return tx.Delete([]byte(tt.missing)) })
			if err != nil {
				t.Fatal(err)
			}
			_, err = run(t, st, tt.version)
			if _, ok := errors.AsType[*migrate.MigrationError](err); !ok || !errors.Is(err, store.ErrNotFound) {
				t.Errorf("error = %v, want a *MigrationError that matches store.ErrNotFound", err)
			}
			wantVersion(t, st, tt.version-1)
		})
	}
}

func wantVersion(t *testing.T, st store.Store, version uint32) {
	t.Helper()
	want := []store.Entry{{Key: []byte("system:schema_version"), Value: binary.BigEndian.AppendUint32(nil, version)}}
	compareEntries(t, "version", want, entriesOf(t, st, "system:schema_version"))
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{
		Configure: func(o badger.Options) badger.Options {
			return o.WithMemTableSize(4 << 20).WithValueThreshold(64 << 10).WithValueLogFileSize(16 << 20)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// run takes st to version under a clock that stands still, so that two runs
// write the same bytes.
func run(t *testing.T, st store.Store, version uint32) (migrate.Report, error) {
	t.Helper()
	r, err := migrate.New(st, migrate.Options{
		Schema:  migrations.Schema,
		Program: "kvmigrate test",
		Logger:  slog.New(slog.DiscardHandler),
		Now:     func() time.Time { return time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.UpTo(t.Context(), version)
}

// put adds entries to st, in transactions that such a store holds.
func put(t *testing.T, st store.Store, entries []store.Entry) {
	t.Helper()
	for chunk := range slices.Chunk(entries, 2000) {
		err := store.Update(t.Context(), st, func(tx store.Txn) error {
			for _, e := range chunk {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
