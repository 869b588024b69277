package systables_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/sample"
)

// open returns an initialized store on disk.
func open(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: small})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := systables.Initialize(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	return st
}

// small keeps tests from mapping Badger's default gigabytes.
func small(o badger.Options) badger.Options {
	return o.WithMemTableSize(16 << 20).WithValueLogFileSize(16 << 20)
}

func update(t *testing.T, st store.Store, fn func(store.Txn) error) error {
	t.Helper()
	return store.Update(t.Context(), st, fn)
}

func text(t *testing.T, st store.Store) string {
	t.Helper()
	var out bytes.Buffer
	err := st.View(t.Context(), func(s store.Reader) error { return dump.Write(&out, s, store.Scan{}) })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestRowsMatchCatalog holds the Go row types against the catalog that the
// newest migration leaves on disk, column by column.
func TestRowsMatchCatalog(t *testing.T) {
	rows := map[string]any{
		"users": systables.User{}, "namespaces": systables.Namespace{}, "tables": systables.TableRow{},
		"storages": systables.Storage{}, "live_queries": systables.LiveQuery{}, "jobs": systables.Job{},
		"audit_logs": systables.AuditLog{}, "metrics": systables.Metric{},
	}
	st := open(t)
	var catalog []systables.Definition
	err := st.View(t.Context(), func(s store.Reader) (err error) {
		catalog, err = systables.Catalog(s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string][]systables.Column{}, map[string][]systables.Column{}
	for _, d := range catalog {
		for _, c := range d.Columns {
			want[d.Name] = append(want[d.Name], systables.Column{Name: c.Name, Type: c.Type, Nullable: c.Nullable})
		}
		if diff := cmp.Diff([]string{d.Columns[0].Name}, d.PrimaryKey); diff != "" {
			t.Errorf("primary key of %s (-want +got):\n%s", d.Name, diff)
		}
	}
	for name, row := range rows {
		got[name] = columns(t, reflect.TypeOf(row))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("catalog and Go rows differ (-catalog +rows):\n%s", diff)
	}
}

// columns returns what a row type says of its columns.
func columns(t *testing.T, row reflect.Type) []systables.Column {
	t.Helper()
	var out []systables.Column
	for i := range row.NumField() {
		f := row.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("cbor"), ",")
		c := systables.Column{Name: name}
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			c.Nullable, typ = true, typ.Elem()
		}
		if c.Nullable != (options == "omitempty") {
			t.Errorf("%s.%s: a null column is absent, so a pointer has omitempty and nothing else has", row, f.Name)
		}
		switch {
		case typ == reflect.TypeFor[systables.Timestamp]():
			c.Type = "Timestamp"
		case typ == reflect.TypeFor[systables.JSON]():
			c.Type = "Json"
		default:
			c.Type = map[reflect.Kind]string{
				reflect.String: "Text", reflect.Int32: "Int", reflect.Int64: "BigInt", reflect.Float64: "Double", reflect.Bool: "Bool",
			}[typ.Kind()]
		}
		out = append(out, c)
	}
	return out
}

func TestCatalogRows(t *testing.T) {
	st := open(t)
	var got []string
	err := st.View(t.Context(), func(s store.Reader) error {
		for row, err := range systables.Tables.All(s, "system:") {
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%s %s %s", row.ID, row.Type, *row.Comment))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"system:audit_logs SYSTEM Audit log of administrative actions",
		"system:jobs SYSTEM Background jobs for database maintenance",
		"system:live_queries SYSTEM Active WebSocket live query subscriptions",
		"system:metrics SYSTEM Runtime metrics by node",
		"system:namespaces SYSTEM Database namespaces for multi-tenancy",
		"system:storages SYSTEM Storage configurations for data persistence",
		"system:tables SYSTEM Tables of every namespace",
		"system:users SYSTEM System users for authentication and authorization",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows of system.tables (-want +got):\n%s", diff)
	}
}

func TestTable(t *testing.T) {
	st := open(t)
	ada := systables.User{ID: "u1", Username: "ada", Role: "dba"}
	insert := func(u systables.User) func(store.Txn) error {
		return func(tx store.Txn) error { return systables.Users.Insert(tx, u) }
	}
	if err := update(t, st, insert(ada)); err != nil {
		t.Fatal(err)
	}
	before := text(t, st)
	rename := func(id systables.UserID, name string) func(store.Txn) error {
		return func(tx store.Txn) error {
			return systables.Users.Update(tx, id, func(u systables.User) (systables.User, error) {
				u.Username = name
				return u, nil
			})
		}
	}
	refused := []struct {
		name string
		do   func(store.Txn) error
		want error
	}{
		{"insert a taken key", insert(systables.User{ID: "u1", Username: "bob"}), systables.ErrExists},
		{"insert a taken username", insert(systables.User{ID: "u2", Username: "ada"}), systables.ErrExists},
		{"update a missing row", rename("u9", "x"), systables.ErrNotFound},
		{"delete a missing row", func(tx store.Txn) error { return systables.Users.Delete(tx, "u9") }, systables.ErrNotFound},
		{"get a missing row", func(tx store.Txn) error { _, err := systables.Users.Get(tx, "u9"); return err }, systables.ErrNotFound},
		{"rename to a taken username", func(tx store.Txn) error {
			if err := systables.Users.Insert(tx, systables.User{ID: "u2", Username: "bob"}); err != nil {
				return err
			}
			return rename("u2", "ada")(tx)
		}, systables.ErrExists},
	}
	for _, tt := range refused {
		err := update(t, st, tt.do)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.want)
		}
		if _, ok := errors.AsType[*systables.RowError](err); !ok {
			t.Errorf("%s: error %T is no *RowError", tt.name, err)
		}
	}
	if diff := cmp.Diff(before, text(t, st)); diff != "" {
		t.Errorf("refused operations changed the store (-want +got):\n%s", diff)
	}

	// A renamed user is found by the new name only, and frees the old one.
	if err := update(t, st, rename("u1", "ada.l")); err != nil {
		t.Fatal(err)
	}
	if err := update(t, st, insert(systables.User{ID: "u2", Username: "ada"})); err != nil {
		t.Fatal(err)
	}
	err := st.View(t.Context(), func(s store.Reader) error {
		for name, want := range map[string]systables.UserID{"ada.l": "u1", "ada": "u2"} {
			got, err := systables.UserByName(s, name)
			if err != nil || got.ID != want {
				t.Errorf("UserByName(%q) = %q, %v; want %q", name, got.ID, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Deleting every row leaves nothing of it.
	err = update(t, st, func(tx store.Txn) error {
		return errors.Join(systables.Users.Delete(tx, "u1"), systables.Users.Delete(tx, "u2"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, st); strings.Contains(got, `"system.users`) {
		t.Errorf("deleted users left entries:\n%s", got)
	}
}

func TestOneUsernameUnderConcurrentInserts(t *testing.T) {
	st := open(t)
	const writers = 16
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			errs[i] = store.Update(context.Background(), st, func(tx store.Txn) error {
				return systables.Users.Insert(tx, systables.User{ID: systables.UserID(fmt.Sprint(i)), Username: "same"})
			})
		})
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, systables.ErrExists):
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers inserted the username, want 1", won)
	}
}

func TestInitializeScenarios(t *testing.T) {
	set := func(key string, value []byte) func(store.Txn) error {
		return func(tx store.Txn) error { return tx.Set(store.Entry{Key: []byte(key), Value: value}) }
	}
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: small})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	// An existing deployment without a version, here with a user in it.
	row := []byte("\xa1\x68username\x63ada")
	if err := update(t, st, set("system.users/u1", row)); err != nil {
		t.Fatal(err)
	}
	latest := migrate.DefaultRegistry().Latest()
	report, err := systables.Initialize(t.Context(), st)
	if err != nil || report.From != 0 || report.To != latest {
		t.Fatalf("first Initialize = v%d -> v%d, %v; want v0 -> v%d", report.From, report.To, err, latest)
	}
	err = st.View(t.Context(), func(s store.Reader) error {
		if u, err := systables.UserByName(s, "ada"); err != nil || u.Username != "ada" {
			t.Errorf("user from before v1 by name: %+v, %v", u, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := text(t, st)
	if report, err = systables.Initialize(t.Context(), st); err != nil || len(report.Applied) != 0 {
		t.Fatalf("second Initialize applied %d, %v; want nothing", len(report.Applied), err)
	}
	if diff := cmp.Diff(before, text(t, st)); diff != "" {
		t.Errorf("restart changed the store (-want +got):\n%s", diff)
	}
	for _, stored := range []uint32{999, 4294967295} {
		if err := update(t, st, set(migrations.Schema+":schema_version", []byte{byte(stored >> 24), byte(stored >> 16), byte(stored >> 8), byte(stored)})); err != nil {
			t.Fatal(err)
		}
		_, err := systables.Initialize(t.Context(), st)
		if e, ok := errors.AsType[*migrate.DowngradeError](err); !ok || e.Stored != stored || e.Known != latest {
			t.Errorf("store at v%d: error = %v, want a DowngradeError", stored, err)
		}
	}
}

func TestSample(t *testing.T) {
	st := open(t)
	if err := sample.Load(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	states := map[string]int{}
	err := st.View(t.Context(), func(s store.Reader) error {
		for job, err := range systables.Jobs.All(s, "") {
			if err != nil {
				return err
			}
			states[job.Status]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"pending": 24, "running": 24, "completed": 24, "failed": 24, "cancelled": 24}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("jobs by state (-want +got):\n%s", diff)
	}
}
