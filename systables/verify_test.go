package systables_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
)

// verify returns what Verify finds in st, as codes with their partitions and
// columns, sorted. It wants st to be unchanged.
func verify(t *testing.T, st store.Store, sample int) (migrate.Verification, []string) {
	t.Helper()
	r, err := migrate.New(st, migrate.Options{Schema: migrations.Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	before := text(t, st)
	found, err := r.Verify(t.Context(), migrate.VerifyOptions{Check: systables.Verify, Sample: sample})
	if diff := cmp.Diff(before, text(t, st)); diff != "" {
		t.Errorf("Verify changed the store (-want +got):\n%s", diff)
	}
	if err != nil && (!errors.Is(err, migrate.ErrFindings) || strings.Contains(err.Error(), "secret")) {
		t.Fatalf("the error does not match ErrFindings or tells a key: %v", err)
	}
	var got []string
	for _, f := range found.Findings {
		got = append(got, strings.TrimSpace(f.Code+" "+strings.TrimPrefix(f.Partition, "system.")+" "+f.Column))
	}
	slices.Sort(got)
	return found, got
}

// openFull returns a store at the newest version in which each table has rows.
func openFull(t *testing.T) store.Store {
	t.Helper()
	st := open(t)
	err := update(t, st, func(tx store.Txn) error {
		labels := systables.JSON(`{"a":1}`)
		errs := []error{
			systables.Namespaces.Insert(tx, systables.Namespace{ID: "ns", Name: "ns"}),
			systables.Storages.Insert(tx, systables.Storage{ID: "local", Name: "local", Type: "filesystem"}),
			systables.LiveQueries.Insert(tx, systables.LiveQuery{ID: "l"}),
			systables.AuditLogs.Insert(tx, systables.AuditLog{ID: "a"}),
			systables.Metrics.Insert(tx, systables.Metric{ID: "m", Labels: &labels}),
		}
		for i := range 30 {
			u := user()
			u.ID, u.Username = systables.UserID(fmt.Sprintf("u%d", i)), fmt.Sprintf("zoë\x00%d", i)
			errs = append(errs, systables.Users.Insert(tx, u), systables.Jobs.Insert(tx, systables.Job{
				ID: systables.JobID(fmt.Sprintf("j%d", i)), Type: "flush", Status: []string{"pending", "running", "failed"}[i%3], CreatedAt: systables.Timestamp(-i),
			}))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A damage is one thing done to a store, and what is to be found of it. Damages of
// one store touch different rows.
type damage struct {
	name string
	do   func(t *testing.T, tx store.Txn) error
	want []string
}

func damages() []damage {
	set := func(key string, v any) func(*testing.T, store.Txn) error {
		return func(t *testing.T, tx store.Txn) error {
			return tx.Set(store.Entry{Key: []byte(key), Value: encode(t, v)})
		}
	}
	del := func(key string) func(*testing.T, store.Txn) error {
		return func(_ *testing.T, tx store.Txn) error { return tx.Delete([]byte(key)) }
	}
	// change sets a column of a row, or removes it if v is nil.
	change := func(key, column string, v any) func(*testing.T, store.Txn) error {
		return func(t *testing.T, tx store.Txn) error {
			e, err := tx.Get([]byte(key))
			if err != nil {
				return err
			}
			row, err := value.UnmarshalMap(e.Value)
			if err != nil {
				return err
			}
			if err := row.Set(column, v); err != nil {
				return err
			}
			if v == nil {
				delete(row, column)
			}
			e.Value = encode(t, row)
			return tx.Set(e)
		}
	}
	alter := func(table string, change func(*systables.Definition)) func(*testing.T, store.Txn) error {
		return func(t *testing.T, tx store.Txn) error {
			for _, d := range systables.Definitions() {
				if d.Name == table {
					change(&d)
					return tx.Set(store.Entry{Key: []byte("system:table:" + table), Value: encode(t, d)})
				}
			}
			return fmt.Errorf("no table %s", table)
		}
	}
	status := func(status string, created int64, id string) string {
		key := tuple.AppendInt(tuple.AppendString(nil, status), created)
		return "system.jobs.status/" + string(tuple.AppendString(key, id))
	}
	username := func(name string) string {
		return "system.users.username/" + string(tuple.AppendString(nil, name))
	}
	return []damage{
		{"a migration of another name", change("system:schema_history:0000000002", "name", "quotas"), []string{"history_name"}},
		{"an unknown record", set("system:schema_secret", 1), []string{"record_unknown"}},

		{"definition gone", del("system:table:metrics"), []string{"catalog_missing metrics"}},
		{"definition malformed", set("system:table:storages", "secret"), []string{"catalog_malformed storages"}},
		{"definition under another name", set("system:table:secret", map[string]any{"name": "other"}), []string{"catalog_malformed"}},
		{"definition of an unknown table", set("system:table:quotas", map[string]any{"name": "quotas", "version": 1}), []string{"catalog_row quotas", "catalog_unknown quotas"}},
		{"index on no column", set("system:table:ghosts", map[string]any{"name": "ghosts", "indexes": []any{map[string]any{"name": "x", "columns": []string{"y"}}}}), []string{"catalog_malformed"}},
		{"a column of another type", alter("namespaces", func(d *systables.Definition) { d.Columns[1].Type = "Json" }), []string{"catalog_differs namespaces"}},
		{"an index too few", alter("users", func(d *systables.Definition) { d.Indexes = nil }), []string{"catalog_differs users"}},
		{"version and key", alter("audit_logs", func(d *systables.Definition) { d.Version, d.PrimaryKey = 9, nil }), []string{"catalog_differs audit_logs"}},
		{"no row in system.tables", del("system.tables/system:live_queries"), []string{"catalog_row live_queries"}},
		{"another version there", change("system.tables/system:jobs", "schema_version", 7), []string{"catalog_row jobs"}},

		{"row malformed", func(_ *testing.T, tx store.Txn) error {
			return tx.Set(store.Entry{Key: []byte("system.audit_logs/secret"), Value: []byte("\xff")})
		}, []string{"row_malformed audit_logs"}},
		{"null", change("system.users/u1", "password_hash", nil), []string{"row_null users password_hash"}},
		{"another type", change("system.users/u2", "created_at", "secret"), []string{"row_type users created_at"}},
		{"no role", change("system.users/u3", "role", "secret"), []string{"row_value users role"}},
		{"no JSON", change("system.metrics/m", "labels", "secret"), []string{"row_value metrics labels"}},
		{"an unknown column", change("system.live_queries/l", "secret", 1), []string{"row_undeclared live_queries secret"}},
		{"another key", change("system.namespaces/ns", "namespace_id", "secret"), []string{"row_key namespaces namespace_id"}},
		{"several in one row", func(t *testing.T, tx store.Txn) error {
			return errors.Join(change("system.storages/local", "storage_type", "tape")(t, tx), change("system.storages/local", "created_at", nil)(t, tx))
		}, []string{"row_null storages created_at", "row_value storages storage_type"}},

		{"index entry gone", del(username("zoë\x004")), []string{"index_missing users"}},
		{"index entry of another row", set(username("zoë\x005"), "u6"), []string{"index_duplicate users", "index_stale users"}},
		{"index entry of no row", set(username("secret"), "secret"), []string{"index_dangling users"}},
		{"index entry that names none", set(username("secret 2"), 7), []string{"index_malformed users"}},
		{"a job's entry gone", del(status("pending", -3, "j3")), []string{"index_missing jobs"}},
		{"a job's entry stale", set(status("completed", -4, "j4"), "j4"), []string{"index_stale jobs"}},
		{"a job that waits without its entry", change("system.jobs/j8", "not_before", 5), []string{"index_missing jobs"}},
		{"an entry of a job that does not wait", set("system.jobs.queue/"+string(tuple.AppendString(tuple.AppendInt(nil, 5), "j9")), "j9"), []string{"index_stale jobs"}},
		{"job gone", del("system.jobs/j5"), []string{"index_dangling jobs"}},
		{"job changed beside its index", change("system.jobs/j6", "status", "cancelled"), []string{"index_missing jobs", "index_stale jobs"}},
		{"an index entry that outlives its row", func(_ *testing.T, tx store.Txn) error {
			e, err := tx.Get([]byte("system.jobs/j7"))
			if err != nil {
				return err
			}
			e.ExpiresAt = 4102444800
			return tx.Set(e)
		}, []string{"index_expiry jobs"}},

		{"unknown partition", set("system.secrets/1", 1), []string{"undeclared secrets"}},
		{"unknown index", set("system.users.email/1", 1), []string{"undeclared users.email"}},
		{"a key in no partition", set("system.users", 1), []string{"undeclared"}},
		{"a key beside the catalog", set("system:secret", 1), []string{"undeclared"}},
	}
}

func TestVerify(t *testing.T) {
	found, got := verify(t, openFull(t), 0)
	if got != nil || found.Skipped != nil {
		t.Fatalf("a store as it should be has findings: %v, skipped %v", got, found.Skipped)
	}
	checked := map[string]uint64{"history records": uint64(migrate.DefaultRegistry().Latest()), "catalog entries": 8, "tables": 8, "rows": 30 + 30 + 5 + 8, "index entries": 62}
	if diff := cmp.Diff(checked, found.Checked); diff != "" {
		t.Errorf("checked (-want +got):\n%s", diff)
	}
	var all []string
	together := openFull(t)
	for _, d := range damages() {
		do := func(tx store.Txn) error { return d.do(t, tx) }
		st := openFull(t)
		if err := errors.Join(update(t, st, do), update(t, together, do)); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		for _, sample := range []int{0, 1000} {
			if _, got := verify(t, st, sample); !slices.Equal(d.want, got) {
				t.Errorf("%s, sample %d: findings (-want +got):\n%s", d.name, sample, cmp.Diff(d.want, got))
			}
		}
		all = append(all, d.want...)
	}
	slices.Sort(all)
	if _, got := verify(t, together, 0); !slices.Equal(all, got) {
		t.Errorf("all damages together (-want +got):\n%s", cmp.Diff(all, got))
	}
}

// TestVerifySample: a sample looks at so many of each table and index.
func TestVerifySample(t *testing.T) {
	found, got := verify(t, openFull(t), 5)
	if got != nil {
		t.Errorf("findings %v", got)
	}
	want := map[string]uint64{"history records": uint64(migrate.DefaultRegistry().Latest()), "catalog entries": 8, "tables": 8, "rows": 3*5 + 5, "index entries": 12}
	if diff := cmp.Diff(want, found.Checked); diff != "" {
		t.Errorf("checked (-want +got):\n%s", diff)
	}
}

// oldStores are what Verify finds in the stores of testdata, before an upgrade and
// after it: they hold fixtures with rows that are not as they should be, so that
// migrations meet such. At v1 there is none but one that the enumerations of the
// newest version do not allow.
var oldStores = map[uint32][2]map[string]int{
	1: {{}, {"row_value": 3}},
	2: {{"row_null": 29, "row_undeclared": 7, "undeclared": 2}, {"row_null": 29, "row_undeclared": 5, "row_value": 3, "undeclared": 2}},
	3: {{"row_null": 43, "row_undeclared": 6, "undeclared": 2}, {"row_null": 43, "row_undeclared": 6, "row_value": 7, "undeclared": 2}},
	4: {{"row_null": 43, "row_undeclared": 6, "undeclared": 2}, {"row_null": 43, "row_undeclared": 6, "row_value": 7, "undeclared": 2}},
	5: {{"row_null": 48, "row_undeclared": 7, "undeclared": 2}, {"row_null": 48, "row_undeclared": 7, "row_value": 7, "undeclared": 2}},
	6: {{"row_null": 67, "row_undeclared": 8, "row_value": 8, "undeclared": 2}, {"row_null": 67, "row_undeclared": 8, "row_value": 8, "undeclared": 2}},
}

// TestVerifyOldStores verifies copies of the old stores, opened read-only, and wants
// their files to stay as they are.
func TestVerifyOldStores(t *testing.T) {
	for version := uint32(1); version <= migrate.DefaultRegistry().Latest(); version++ {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(dir, os.DirFS(fmt.Sprintf("../testdata/stores/v%04d", version))); err != nil {
				t.Fatal(err)
			}
			for i, what := range []string{"before the upgrade", "after it"} {
				before := files(t, dir)
				st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{
					MustExist: true,
					Configure: func(o badger.Options) badger.Options { return small(o).WithReadOnly(true) },
				})
				if err != nil {
					t.Fatal(err)
				}
				found, got := verify(t, st, 0)
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, files(t, dir)); diff != "" {
					t.Errorf("%s: Verify changed files (-want +got):\n%s", what, diff)
				}
				codes := map[string]int{}
				for _, f := range got {
					code, _, _ := strings.Cut(f, " ")
					codes[code]++
				}
				if diff := cmp.Diff(oldStores[version][i], codes); diff != "" {
					t.Errorf("%s: findings (-want +got):\n%s", what, diff)
				}
				if compared := found.Version == found.Latest; compared != (found.Skipped == nil) {
					t.Errorf("%s: skipped %v", what, found.Skipped)
				}
				if i == 0 {
					upgrade(t, dir)
				}
			}
		})
	}
}

func upgrade(t *testing.T, dir string) {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{MustExist: true, Configure: small})
	if err != nil {
		t.Fatal(err)
	}
	_, err = systables.Initialize(t.Context(), st)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

// files returns the sums of all files in dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		sums[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// TestVerifyUnderWay: while a migration is under way rows are not held against a
// catalog that is behind or ahead of them.
func TestVerifyUnderWay(t *testing.T) {
	st := openFull(t)
	ladder := migrate.DefaultRegistry().Migrations()
	next := migrate.Migration{Version: uint32(len(ladder)) + 1, Name: "empty_users", Up: migrate.Phases(
		migrate.Rewrite([]byte("system.users/"), func([]byte) ([]byte, error) { return []byte{0xa0}, nil }),
		migrate.Rewrite([]byte("system.jobs/"), func([]byte) ([]byte, error) { return nil, errors.New("stopped") }),
	)}
	o := migrate.Options{
		Registry: migrate.NewRegistry(append(ladder, next)...), Schema: migrations.Schema, Logger: slog.New(slog.DiscardHandler),
	}
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Up(t.Context()); err == nil {
		t.Fatal("the migration was not stopped")
	}
	found, err := r.Verify(t.Context(), migrate.VerifyOptions{Check: systables.Verify})
	if err != nil || found.Progress == nil || found.Checked["rows"] != 0 || len(found.Skipped) != 1 {
		t.Errorf("Verify = %+v, %v; want no findings, and that rows were skipped", found, err)
	}
	// To a program without that migration the store is not as it should be.
	if _, got := verify(t, st, 0); !slices.Equal([]string{"progress_newer"}, got) {
		t.Errorf("findings of the older program: %v", got)
	}
}

// TestVerifyWithoutCatalog: a store that is still to be initialized has nothing to
// be held against.
func TestVerifyWithoutCatalog(t *testing.T) {
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: small})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if found, got := verify(t, st, 0); got != nil || found.Stored || len(found.Skipped) != 2 {
		t.Errorf("empty store: findings %v, %+v", got, found)
	}
}
