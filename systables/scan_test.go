package systables_test

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// collect returns what seq yields, at most limit if that is not 0.
func collect[R any, K comparable](seq iter.Seq2[R, error], key func(R) K, limit int) (keys []K, err error) {
	for row, err := range seq {
		if err != nil {
			return keys, err
		}
		if keys = append(keys, key(row)); len(keys) == limit {
			break
		}
	}
	return keys, nil
}

func TestScans(t *testing.T) {
	st := open(t)
	id := func(u systables.User) systables.UserID { return u.ID }
	if err := update(t, st, func(tx store.Txn) error {
		return systables.Users.Put(tx, userNamed("a", "1"), userNamed("b1", "2"), userNamed("b2", "3"), userNamed("b\xc3\xbf", "4"), userNamed("c", "5"))
	}); err != nil {
		t.Fatal(err)
	}
	err := st.View(t.Context(), func(s store.Reader) error {
		for name, tt := range map[string]struct {
			rows  iter.Seq2[systables.User, error]
			limit int
			want  []systables.UserID
		}{
			"all":             {systables.Users.All(s, ""), 0, []systables.UserID{"a", "b1", "b2", "bÿ", "c"}},
			"prefix":          {systables.Users.All(s, "b"), 0, []systables.UserID{"b1", "b2", "bÿ"}},
			"limit":           {systables.Users.All(s, "b"), 1, []systables.UserID{"b1"}},
			"backward":        {systables.Users.Backward(s, ""), 0, []systables.UserID{"c", "bÿ", "b2", "b1", "a"}},
			"prefix backward": {systables.Users.Backward(s, "b"), 0, []systables.UserID{"bÿ", "b2", "b1"}},
			"last":            {systables.Users.Backward(s, "b"), 1, []systables.UserID{"bÿ"}},
			"none":            {systables.Users.Backward(s, "d"), 0, nil},
		} {
			got, err := collect(tt.rows, id, tt.limit)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keys yields the keys of rows.
func keys[R any](rows iter.Seq2[R, error], key func(R) string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for row, err := range rows {
			if !yield(key(row), err) {
				return
			}
		}
	}
}

func TestByTime(t *testing.T) {
	st := open(t)
	at := time.UnixMilli
	statuses := []string{"pending", "running", "completed", "failed", "cancelled"}
	times := map[string]systables.Timestamp{
		"first": math.MinInt64, "before": -1, "epoch": 0, "z-early": 1000, "a-late": 1002, "twin-1": 1001, "twin-2": 1001, "last": math.MaxInt64,
	}
	if err := update(t, st, func(tx store.Txn) error {
		errs := []error{systables.Namespaces.Insert(tx, systables.Namespace{ID: "epoch", Name: "epoch"})}
		system, err := collect(systables.Tables.All(tx, "system:"), func(r systables.TableRow) systables.TableID { return r.ID }, 0)
		for errs = append(errs, err); len(system) > 0; system = system[1:] {
			errs = append(errs, systables.Tables.Delete(tx, system[0]))
		}
		for id, at := range times {
			table := tableIn("epoch", id)
			table.CreatedAt = at
			user := userNamed(systables.UserID(id), id)
			user.CreatedAt, user.LastSeen = at, &table.UpdatedAt
			if id == "epoch" {
				user.DeletedAt = &at
			} else {
				errs = append(errs, systables.Namespaces.Insert(tx, systables.Namespace{ID: systables.NamespaceID(id), Name: id, CreatedAt: at}))
			}
			errs = append(errs,
				systables.Users.Insert(tx, user), systables.Tables.Insert(tx, table),
				systables.Storages.Insert(tx, systables.Storage{ID: systables.StorageID(id), Name: id, Type: "s3", CreatedAt: at}),
				systables.LiveQueries.Insert(tx, systables.LiveQuery{ID: systables.LiveID(id), CreatedAt: at}),
				systables.AuditLogs.Insert(tx, systables.AuditLog{ID: systables.AuditID(id), Timestamp: at}),
				systables.Metrics.Insert(tx, systables.Metric{ID: systables.MetricID(id), RecordedAt: at}),
				systables.Jobs.Insert(tx, systables.Job{ID: systables.JobID(id), Type: "flush", Status: statuses[len(id)%len(statuses)], CreatedAt: at}))
		}
		return errors.Join(errs...)
	}); err != nil {
		t.Fatal(err)
	}
	all := []string{"first", "before", "epoch", "z-early", "twin-1", "twin-2", "a-late", "last"}
	reversed := []string{"last", "a-late", "twin-2", "twin-1", "z-early", "epoch", "before", "first"}
	tests := map[string]struct {
		r     systables.TimeRange
		limit int
		want  []string
	}{
		"all":                     {systables.TimeRange{}, 0, all},
		"all, newest first":       {systables.TimeRange{NewestFirst: true}, 0, reversed},
		"since":                   {systables.TimeRange{Since: at(1001)}, 0, all[4:]},
		"since, newest first":     {systables.TimeRange{Since: at(1001), NewestFirst: true}, 0, reversed[:4]},
		"until":                   {systables.TimeRange{Until: at(1001)}, 0, all[:4]},
		"until, newest first":     {systables.TimeRange{Until: at(1001), NewestFirst: true}, 0, reversed[4:]},
		"both":                    {systables.TimeRange{Since: at(-1), Until: at(1001)}, 0, all[1:4]},
		"both, newest first":      {systables.TimeRange{Since: at(-1), Until: at(1001), NewestFirst: true}, 0, reversed[4:7]},
		"between two":             {systables.TimeRange{Since: at(2), Until: at(3)}, 0, nil},
		"between, newest first":   {systables.TimeRange{Since: at(2), Until: at(3), NewestFirst: true}, 0, nil},
		"empty":                   {systables.TimeRange{Since: at(1001), Until: at(1001)}, 0, nil},
		"upside down":             {systables.TimeRange{Since: at(1002), Until: at(1000)}, 0, nil},
		"upside down, reverse":    {systables.TimeRange{Since: at(1002), Until: at(1000), NewestFirst: true}, 0, nil},
		"since within a ms":       {systables.TimeRange{Since: at(1001).Add(time.Nanosecond)}, 0, all[6:]},
		"until within a ms":       {systables.TimeRange{Until: at(1001).Add(time.Nanosecond)}, 0, all[:6]},
		"before 1970 within a ms": {systables.TimeRange{Since: at(-1).Add(time.Nanosecond), Until: at(0).Add(time.Nanosecond)}, 0, all[2:3]},
		"the newest two":          {systables.TimeRange{NewestFirst: true}, 2, reversed[:2]},
		"in another time zone":    {systables.TimeRange{Since: at(1001).In(time.FixedZone("", 3600))}, 0, all[4:]},
	}
	err := st.View(t.Context(), func(s store.Reader) error {
		for name, tt := range tests {
			for table, rows := range map[string]iter.Seq2[string, error]{
				"users":        keys(systables.Users.ByTime(s, tt.r), func(r systables.User) string { return string(r.ID) }),
				"namespaces":   keys(systables.Namespaces.ByTime(s, tt.r), func(r systables.Namespace) string { return string(r.ID) }),
				"tables":       keys(systables.Tables.ByTime(s, tt.r), func(r systables.TableRow) string { return r.Name }),
				"storages":     keys(systables.Storages.ByTime(s, tt.r), func(r systables.Storage) string { return string(r.ID) }),
				"live queries": keys(systables.LiveQueries.ByTime(s, tt.r), func(r systables.LiveQuery) string { return string(r.ID) }),
				"jobs":         keys(systables.Jobs.ByTime(s, tt.r), func(r systables.Job) string { return string(r.ID) }),
				"audit logs":   keys(systables.AuditLogs.ByTime(s, tt.r), func(r systables.AuditLog) string { return string(r.ID) }),
				"metrics":      keys(systables.Metrics.ByTime(s, tt.r), func(r systables.Metric) string { return string(r.ID) }),
			} {
				got, err := collect(rows, func(key string) string { return key }, tt.limit)
				if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
					t.Errorf("%s, %s: %v (-want +got):\n%s", table, name, err, diff)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestByTimeOfOwnTables: a table of a program's own goes by its first time, which can be
// null, and says so if it has none.
func TestByTimeOfOwnTables(t *testing.T) {
	type note struct {
		ID   string               `cbor:"id"`
		Sent *systables.Timestamp `cbor:"sent,omitempty"`
	}
	notes, err := systables.NewTable("app", "notes", func(r note) string { return r.ID })
	if err != nil {
		t.Fatal(err)
	}
	type tag struct {
		ID string `cbor:"id"`
		N  int64  `cbor:"n"`
	}
	tags, err := systables.NewTable("app", "tags", func(r tag) string { return r.ID })
	if err != nil {
		t.Fatal(err)
	}
	st := open(t)
	err = update(t, st, func(tx store.Txn) error {
		early, late := systables.Timestamp(1), systables.Timestamp(2)
		if err := notes.Put(tx, note{"a", &late}, note{"b", nil}, note{"c", &early}, note{"d", &late}, note{"e", &late}); err != nil {
			return err
		}
		// The transaction may write meanwhile: what goes, or gets another time, is left out.
		var got []string
		for row, err := range notes.ByTime(tx, systables.TimeRange{}) {
			if err != nil {
				return err
			}
			if got = append(got, row.ID); row.ID == "c" {
				if err := errors.Join(notes.Delete(tx, "a"), notes.Put(tx, note{"d", &early})); err != nil {
					return err
				}
			}
		}
		if diff := cmp.Diff([]string{"c", "e"}, got); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
		_, err := collect(tags.ByTime(tx, systables.TimeRange{}), func(r tag) string { return r.ID }, 0)
		if want := "scan app.tags: it has no column of type Timestamp"; err == nil || err.Error() != want {
			t.Errorf("a table without a time: %v, want %s", err, want)
		}
		return tx.Set(store.Entry{Key: []byte("app.notes/bad"), Value: []byte{1}})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = st.View(t.Context(), func(s store.Reader) error {
		_, err := collect(notes.ByTime(s, systables.TimeRange{}), func(r note) string { return r.ID }, 0)
		if e, ok := errors.AsType[*systables.RowError](err); !ok || e.Key != "bad" || !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("a row that cannot be decoded: %v, want a *RowError with its key that matches ErrCorrupt", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// counted counts the entries that a reader gives out.
type counted struct {
	store.Reader
	n int
}

func (c *counted) Get(key []byte) (store.Entry, error) {
	c.n++
	return c.Reader.Get(key)
}

func (c *counted) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Reader.Scan(s) {
			c.n++
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestByTimeReadsTheRangeAlone: what a range costs does not grow with the table.
func TestByTimeReadsTheRangeAlone(t *testing.T) {
	st := open(t)
	const rows, since, until = 1000, 500, 510
	if err := update(t, st, func(tx store.Txn) error {
		for i := range rows {
			log := systables.AuditLog{ID: systables.AuditID(fmt.Sprint(i * 7919 % rows)), Timestamp: systables.Timestamp(i)}
			if err := systables.AuditLogs.Insert(tx, log); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err := st.View(t.Context(), func(s store.Reader) error {
		for _, newest := range []bool{false, true} {
			c := &counted{Reader: s}
			r := systables.TimeRange{Since: time.UnixMilli(since), Until: time.UnixMilli(until), NewestFirst: newest}
			got, err := collect(systables.AuditLogs.ByTime(c, r), func(r systables.AuditLog) systables.Timestamp { return r.Timestamp }, 0)
			if err != nil || len(got) != until-since {
				t.Errorf("newest first %v: %d rows, %v", newest, len(got), err)
			}
			// A row and its index entry each, and the entry that is beyond the range.
			if most := 2*(until-since) + 1; c.n > most {
				t.Errorf("newest first %v: read %d entries, want at most %d", newest, c.n, most)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestJobsByTimeReadsTheRangeAlone: nor with the number of jobs, of whatever status.
func TestJobsByTimeReadsTheRangeAlone(t *testing.T) {
	st := open(t)
	statuses := []string{"pending", "running", "completed", "failed", "cancelled"}
	const rows, since, until = 1000, 500, 510
	if err := update(t, st, func(tx store.Txn) error {
		for i := range rows {
			job := systables.Job{
				ID: systables.JobID(fmt.Sprint(i * 7919 % rows)), Type: "flush", Status: statuses[i/3%len(statuses)], CreatedAt: systables.Timestamp(i),
			}
			if err := systables.Jobs.Insert(tx, job); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A transaction that writes may read so as well.
	err := update(t, st, func(tx store.Txn) error {
		for _, newest := range []bool{false, true} {
			c := &counted{Reader: tx}
			r := systables.TimeRange{Since: time.UnixMilli(since), Until: time.UnixMilli(until), NewestFirst: newest}
			got, err := collect(systables.Jobs.ByTime(c, r), func(r systables.Job) systables.Timestamp { return r.CreatedAt }, 0)
			if newest {
				slices.Reverse(got)
			}
			if err != nil || len(got) != until-since || !slices.IsSorted(got) {
				t.Errorf("newest first %v: %v, %v", newest, got, err)
			}
			if most := 2*(until-since) + len(statuses); c.n > most {
				t.Errorf("newest first %v: read %d entries, want at most %d", newest, c.n, most)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
