package systables_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
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

// TestDefinitionsMatchCatalog holds the Go row types and indexes against the
// catalog that the newest migration leaves on disk.
func TestDefinitionsMatchCatalog(t *testing.T) {
	st := open(t)
	var want []systables.Definition
	err := st.View(t.Context(), func(s store.Reader) (err error) {
		want, err = systables.Catalog(s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := systables.Definitions()
	unlike := cmp.Options{
		cmpopts.IgnoreFields(systables.Definition{}, "Comment"), cmpopts.IgnoreFields(systables.Column{}, "Comment", "Values", "NotEmpty", "JSON", "Secret"),
	}
	if diff := cmp.Diff(want, got, unlike); diff != "" {
		t.Errorf("catalog and Go tables differ (-catalog +tables):\n%s", diff)
	}
	// The catalog says in the comment which values a column can have.
	for i, d := range got {
		for j, c := range d.Columns {
			comment := want[i].Columns[j].Comment
			if c.Values != nil && !strings.HasSuffix(comment, strings.Join(c.Values, ", ")) {
				t.Errorf("column %s of %s can have %v and its comment is %q", c.Name, d.Name, c.Values, comment)
			}
			if c.JSON != strings.HasPrefix(comment, "JSON") {
				t.Errorf("column %s of %s: JSON is %v and its comment is %q", c.Name, d.Name, c.JSON, comment)
			}
		}
	}
}

// TestNullColumnsAreAbsent: a pointer has omitempty, and nothing else has.
func TestNullColumnsAreAbsent(t *testing.T) {
	for _, row := range []any{
		systables.User{}, systables.Namespace{}, systables.TableRow{}, systables.Storage{},
		systables.LiveQuery{}, systables.Job{}, systables.AuditLog{}, systables.Metric{},
	} {
		typ := reflect.TypeOf(row)
		for i := range typ.NumField() {
			f := typ.Field(i)
			if null := f.Type.Kind() == reflect.Pointer; null != strings.HasSuffix(f.Tag.Get("cbor"), ",omitempty") {
				t.Errorf("%s.%s: null = %v and its tag is %s", typ, f.Name, null, f.Tag)
			}
		}
	}
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
	named := func(id systables.UserID, name string) systables.User {
		u := user()
		u.ID, u.Username = id, name
		return u
	}
	insert := func(id systables.UserID, name string) func(store.Txn) error {
		return func(tx store.Txn) error { return systables.Users.Insert(tx, named(id, name)) }
	}
	if err := update(t, st, insert("u1", "ada")); err != nil {
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
		{"insert a taken key", insert("u1", "bob"), systables.ErrExists},
		{"insert a taken username", insert("u2", "ada"), systables.ErrExists},
		{"update a missing row", rename("u9", "x"), systables.ErrNotFound},
		{"delete a missing row", func(tx store.Txn) error { return systables.Users.Delete(tx, "u9") }, systables.ErrNotFound},
		{"get a missing row", func(tx store.Txn) error { _, err := systables.Users.Get(tx, "u9"); return err }, systables.ErrNotFound},
		{"rename to a taken username", func(tx store.Txn) error {
			if err := insert("u2", "bob")(tx); err != nil {
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
	if err := update(t, st, insert("u2", "ada")); err != nil {
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
				u := user()
				u.ID, u.Username = systables.UserID(fmt.Sprint(i)), "same"
				return systables.Users.Insert(tx, u)
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
	const future = 4102444800
	put(t, st, store.Entry{Key: []byte("system.users/u1"), Value: row, ExpiresAt: future})
	latest := migrate.DefaultRegistry().Latest()
	report, err := systables.Initialize(t.Context(), st)
	if err != nil || report.From != 0 || report.To != latest {
		t.Fatalf("first Initialize = v%d -> v%d, %v; want v0 -> v%d", report.From, report.To, err, latest)
	}
	err = st.View(t.Context(), func(s store.Reader) error {
		if u, err := systables.UserByName(s, "ada"); err != nil || u.Username != "ada" {
			t.Errorf("user from before v1 by name: %+v, %v", u, err)
		}
		if e, err := s.Get([]byte("system.users.username/\x02ada\x00")); err != nil || e.ExpiresAt != future {
			t.Errorf("index entry of the user expires at %d, %v; want with it, at %d", e.ExpiresAt, err, future)
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

func put(t *testing.T, st store.Store, entries ...store.Entry) {
	t.Helper()
	err := update(t, st, func(tx store.Txn) error {
		for _, e := range entries {
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

// encode returns the encoding of v.
func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := value.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// byStatus returns the keys of the jobs with that status, as far as the first
// error.
func byStatus(s store.Reader, status string) ([]systables.JobID, error) {
	var ids []systables.JobID
	for job, err := range systables.JobsByStatus(s, status) {
		if err != nil {
			return ids, err
		}
		if job.Status != status {
			return ids, fmt.Errorf("job %s has status %q", job.ID, job.Status)
		}
		ids = append(ids, job.ID)
	}
	return ids, nil
}

// TestQueuedJobs: a job is in the queue while its NotBefore is set, and found by its
// idempotency key while it has one.
func TestQueuedJobs(t *testing.T) {
	st := open(t)
	at := func(n systables.Timestamp) *systables.Timestamp { return &n }
	key := func(s string) *string { return &s }
	want := func(queue []systables.JobID, keys map[string]systables.JobID) {
		t.Helper()
		err := st.View(t.Context(), func(s store.Reader) error {
			var got []systables.JobID
			for job, err := range systables.QueuedJobs(s) {
				if err != nil {
					return err
				}
				got = append(got, job.ID)
			}
			if diff := cmp.Diff(queue, got); diff != "" {
				t.Errorf("queue (-want +got):\n%s", diff)
			}
			for key, id := range keys {
				job, err := systables.JobByIdempotencyKey(s, key)
				if job.ID != id || (id == "") != errors.Is(err, systables.ErrNotFound) {
					t.Errorf("job with key %q is %s, %v; want %q", key, job.ID, err, id)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := update(t, st, func(tx store.Txn) (err error) {
		for _, job := range []systables.Job{
			{ID: "e", NotBefore: at(5)}, {ID: "d", NotBefore: at(5), IdempotencyKey: key("")},
			{ID: "c", IdempotencyKey: key("nightly")}, {ID: "b", NotBefore: at(math.MaxInt64)},
			{ID: "a", NotBefore: at(math.MinInt64), IdempotencyKey: key("nightly\x00")}, {ID: "f"},
		} {
			job.Type, job.Status = "flush", "pending"
			err = errors.Join(err, systables.Jobs.Insert(tx, job))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want([]systables.JobID{"a", "d", "e", "b"}, map[string]systables.JobID{"": "d", "nightly": "c", "nightly\x00": "a", "other": ""})

	set := func(change func(*systables.Job)) func(systables.Job) (systables.Job, error) {
		return func(job systables.Job) (systables.Job, error) { change(&job); return job, nil }
	}
	err = update(t, st, func(tx store.Txn) error {
		return errors.Join(
			systables.Jobs.Update(tx, "e", set(func(j *systables.Job) { j.NotBefore = nil })),
			systables.Jobs.Update(tx, "f", set(func(j *systables.Job) { j.NotBefore, j.IdempotencyKey = at(6), key("other") })),
			systables.Jobs.Update(tx, "a", set(func(j *systables.Job) { j.NotBefore, j.IdempotencyKey = at(7), nil })),
			systables.Jobs.Delete(tx, "d"),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	want([]systables.JobID{"f", "a", "b"}, map[string]systables.JobID{"": "", "nightly": "c", "nightly\x00": "", "other": "f"})
	err = update(t, st, func(tx store.Txn) error {
		return systables.Jobs.Insert(tx, systables.Job{ID: "g", Type: "flush", Status: "pending", IdempotencyKey: key("nightly")})
	})
	if !errors.Is(err, systables.ErrExists) {
		t.Errorf("a second job with one key: %v, want ErrExists", err)
	}
}

func TestJobsByStatus(t *testing.T) {
	st := open(t)
	err := update(t, st, func(tx store.Txn) error {
		for _, j := range []systables.Job{
			{ID: "d", Status: "pending", CreatedAt: 5},
			{ID: "c", Status: "pending", CreatedAt: 5},
			{ID: "b", Status: "pending", CreatedAt: math.MaxInt64},
			{ID: "a", Status: "pending", CreatedAt: -1},
			{ID: "e", Status: "pending", CreatedAt: math.MinInt64},
			{ID: "готово", Status: "running"},
		} {
			j.Type = "flush"
			if err := systables.Jobs.Insert(tx, j); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Statuses that only a store from elsewhere has.
	for id, status := range map[systables.JobID]string{"f": "pend", "g": "pend\x00ing", "h": ""} {
		key := tuple.AppendString(tuple.AppendInt(tuple.AppendString(nil, status), 0), string(id))
		put(t, st,
			store.Entry{Key: []byte("system.jobs/" + id), Value: encode(t, systables.Job{ID: id, Status: status})},
			store.Entry{Key: append([]byte("system.jobs.status/"), key...), Value: encode(t, id)},
		)
	}
	want := func(s store.Reader, want map[string][]systables.JobID) {
		t.Helper()
		for status, ids := range want {
			got, err := byStatus(s, status)
			if err != nil {
				t.Errorf("jobs with status %q: %v", status, err)
			}
			if diff := cmp.Diff(ids, got); diff != "" {
				t.Errorf("jobs with status %q (-want +got):\n%s", status, diff)
			}
		}
	}
	err = st.View(t.Context(), func(s store.Reader) error {
		want(s, map[string][]systables.JobID{
			"pending": {"e", "a", "c", "d", "b"}, "pend": {"f"}, "pend\x00ing": {"g"},
			"": {"h"}, "running": {"готово"}, "p": nil, "completed": nil,
		})
		for job, err := range systables.JobsByStatus(s, "pending") {
			if err != nil || job.ID != "e" {
				t.Errorf("the first pending job is %s, %v; want e", job.ID, err)
			}
			break
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	// What changes in a transaction is seen in it; a change of another column, of
	// the key's order, or none at all moves nothing else.
	set := func(change func(*systables.Job)) func(systables.Job) (systables.Job, error) {
		return func(j systables.Job) (systables.Job, error) { change(&j); return j, nil }
	}
	err = update(t, st, func(tx store.Txn) error {
		err := errors.Join(
			systables.Jobs.Update(tx, "a", set(func(j *systables.Job) { j.Status = "running" })),
			systables.Jobs.Update(tx, "c", set(func(j *systables.Job) { j.NodeID = "node-1" })),
			systables.Jobs.Update(tx, "e", set(func(j *systables.Job) { j.CreatedAt = 6 })),
			systables.Jobs.Delete(tx, "d"),
		)
		want(tx, map[string][]systables.JobID{"pending": {"c", "e", "b"}, "running": {"a", "готово"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	// The jobs that a loop has yet to come to can go while it runs.
	err = update(t, st, func(tx store.Txn) error {
		var got []systables.JobID
		for job, err := range systables.JobsByStatus(tx, "pending") {
			if err != nil {
				return err
			}
			got = append(got, job.ID)
			if job.ID == "c" {
				err := errors.Join(
					systables.Jobs.Update(tx, "e", set(func(j *systables.Job) { j.Status = "failed" })),
					systables.Jobs.Delete(tx, "b"),
				)
				if err != nil {
					return err
				}
			}
		}
		if diff := cmp.Diff([]systables.JobID{"c"}, got); diff != "" {
			t.Errorf("jobs of a loop that removes the next (-want +got):\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	// Deleting every job leaves nothing of it.
	err = update(t, st, func(tx store.Txn) error {
		var errs []error
		for _, id := range []systables.JobID{"a", "c", "e", "f", "g", "h", "готово"} {
			errs = append(errs, systables.Jobs.Delete(tx, id))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, st); strings.Contains(got, `"system.jobs`) {
		t.Errorf("deleted jobs left entries:\n%s", got)
	}
}

// TestIndexAgainstRows: an index that the rows contradict is corrupt, and says so
// without its keys.
func TestIndexAgainstRows(t *testing.T) {
	const statusKey, nameKey = "system.jobs.status/\x02secret\x00", "system.users.username/\x02secret\x00"
	job := func(j systables.Job) store.Entry {
		return store.Entry{Key: []byte("system.jobs/" + string(j.ID)), Value: encode(t, j)}
	}
	user := func(u systables.User) store.Entry {
		return store.Entry{Key: []byte("system.users/" + string(u.ID)), Value: encode(t, u)}
	}
	ref := func(key string, v any) store.Entry { return store.Entry{Key: []byte(key), Value: encode(t, v)} }
	byStatus := func(s store.Reader) error { _, err := byStatus(s, "secret"); return err }
	byName := func(s store.Reader) error { _, err := systables.UserByName(s, "secret"); return err }
	tests := map[string]struct {
		entries []store.Entry
		read    func(store.Reader) error
	}{
		"job: no row":         {[]store.Entry{ref(statusKey, "secret-id")}, byStatus},
		"job: another status": {[]store.Entry{ref(statusKey, "secret-id"), job(systables.Job{ID: "secret-id", Status: "done"})}, byStatus},
		"job: no reference":   {[]store.Entry{ref(statusKey, 7)}, byStatus},
		"job: no row of it": {[]store.Entry{
			ref(statusKey, "secret-id"), {Key: []byte("system.jobs/secret-id"), Value: []byte{0xff}},
		}, byStatus},
		"user: no row":       {[]store.Entry{ref(nameKey, "secret-id")}, byName},
		"user: another name": {[]store.Entry{ref(nameKey, "secret-id"), user(systables.User{ID: "secret-id", Username: "ada"})}, byName},
		"user: no reference": {[]store.Entry{{Key: []byte(nameKey), Value: []byte{0xff}}}, byName},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := open(t)
			put(t, st, tt.entries...)
			err := st.View(t.Context(), tt.read)
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("error = %v, want store.ErrCorrupt", err)
			}
			if _, ok := errors.AsType[*systables.RowError](err); !ok {
				t.Errorf("error %T is no *RowError", err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a key: %v", err)
			}
		})
	}
}

// TestIndexEntriesExpireWithRows: a row that expires keeps doing so when it is
// changed, and its index entries with it.
func TestIndexEntriesExpireWithRows(t *testing.T) {
	st := open(t)
	const future = 4102444800
	put(t, st,
		store.Entry{Key: []byte("system.jobs/j"), Value: encode(t, systables.Job{ID: "j", Status: "pending"}), ExpiresAt: future, Meta: 7},
		store.Entry{Key: []byte("system.users/u1"), Value: encode(t, user()), ExpiresAt: future, Meta: 7},
	)
	err := update(t, st, func(tx store.Txn) error {
		return errors.Join(
			systables.Jobs.Update(tx, "j", func(j systables.Job) (systables.Job, error) { j.Status = "running"; return j, nil }),
			systables.Users.Update(tx, "u1", func(u systables.User) (systables.User, error) { u.Username = "bob"; return u, nil }),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(text(t, st)) {
		if table, rest, _ := strings.Cut(line, "/"); strings.HasPrefix(table, `"system.jobs`) || strings.HasPrefix(table, `"system.users`) {
			_, expiry, _ := strings.Cut(rest, " expires=")
			got[table[1:]] += strings.TrimSpace(expiry)
		}
	}
	want := map[string]string{
		"system.jobs": "4102444800 meta=0x07", "system.jobs.status": "4102444800",
		"system.users": "4102444800 meta=0x07", "system.users.username": "4102444800",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("expiries (-want +got):\n%s", diff)
	}
}
