package export_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/export"
)

func open(t *testing.T) store.Store {
	t.Helper()
	st, err := badgerstore.OpenInMemory(t.Context())
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

func definition(t *testing.T, st store.Store, name string) (d systables.Definition) {
	t.Helper()
	err := st.View(t.Context(), func(s store.Reader) error {
		catalog, err := systables.Catalog(s)
		for _, table := range catalog {
			if table.Name == name {
				d = table
			}
		}
		return err
	})
	if err != nil || d.Name == "" {
		t.Fatalf("no table %s: %v", name, err)
	}
	return d
}

// put stores rows, given as maps by their keys, of a table with its schema.
func put(t *testing.T, st store.Store, table string, rows map[string]any) {
	t.Helper()
	err := st.Update(t.Context(), func(tx store.Txn) error {
		for key, row := range rows {
			data, err := value.Marshal(row)
			if err != nil {
				return err
			}
			if err := tx.Set(store.Entry{Key: []byte(table + "/" + key), Value: data}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, st store.Store, d systables.Definition, o export.Options) (data []byte, rows int64, err error) {
	t.Helper()
	var out bytes.Buffer
	err = st.View(t.Context(), func(s store.Reader) (err error) {
		rows, err = export.Parquet(t.Context(), &out, s, d, o)
		return err
	})
	return out.Bytes(), rows, err
}

// read returns the schema of a Parquet file and its rows as text.
func read(t *testing.T, data []byte) (schema string, rows []string) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range f.RowGroups() {
		r := group.Rows()
		for {
			row := make([]parquet.Row, 1)
			n, err := r.ReadRows(row)
			if n == 1 {
				var columns []string
				for _, v := range row[0] {
					columns = append(columns, v.String())
				}
				rows = append(rows, strings.Join(columns, "|"))
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	return f.Schema().String(), rows
}

// every has a column of each type, twice.
var every = systables.Definition{
	Schema: "app", Name: "every", Version: 7,
	Columns: []systables.Column{
		{Name: "text", Type: "Text"}, {Name: "text0", Type: "Text", Nullable: true},
		{Name: "json", Type: "Json"}, {Name: "json0", Type: "Json", Nullable: true},
		{Name: "int", Type: "Int"}, {Name: "int0", Type: "Int", Nullable: true},
		{Name: "bigint", Type: "BigInt"}, {Name: "bigint0", Type: "BigInt", Nullable: true},
		{Name: "double", Type: "Double"}, {Name: "double0", Type: "Double", Nullable: true},
		{Name: "bool", Type: "Bool"}, {Name: "bool0", Type: "Bool", Nullable: true},
		{Name: "created_at", Type: "Timestamp"}, {Name: "ended_at", Type: "Timestamp", Nullable: true},
	},
}

// everyRows are rows of it.
func everyRows() map[string]any {
	return map[string]any{
		"1": map[string]any{
			"text": "", "json": "{}", "int": int32(math.MinInt32), "bigint": int64(math.MinInt64), "double": math.Inf(-1), "bool": false, "created_at": int64(-1),
		},
		"2": map[string]any{
			"text": "zoë\x00 🦉", "text0": "", "json": `{"a":[1]}`, "json0": "null", "int": int32(math.MaxInt32), "int0": int32(0),
			"bigint": int64(math.MaxInt64), "bigint0": int64(0), "double": 0.1, "double0": 0.0, "bool": true, "bool0": false,
			"created_at": int64(1742825304571), "ended_at": int64(0), "unknown": "stays behind",
		},
		"3": map[string]any{
			"text": "c", "text0": nil, "json": "[]", "int": int32(3), "bigint": int64(3), "double": 3.0, "bool": true, "created_at": int64(1742825304572),
		},
	}
}

func TestTypes(t *testing.T) {
	st := open(t)
	put(t, st, "app.every", everyRows())
	put(t, st, "app.every2", map[string]any{"a neighbour": 1})
	data, n, err := write(t, st, every, export.Options{})
	if err != nil {
		t.Fatal(err)
	}
	schema, rows := read(t, data)
	const wantSchema = `message every {
	required binary text (STRING);
	optional binary text0 (STRING);
	required binary json (JSON);
	optional binary json0 (JSON);
	required int32 int (INT(32,true));
	optional int32 int0 (INT(32,true));
	required int64 bigint (INT(64,true));
	optional int64 bigint0 (INT(64,true));
	required double double;
	optional double double0;
	required boolean bool;
	optional boolean bool0;
	required int64 created_at (TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS));
	optional int64 ended_at (TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS));
}`
	if diff := cmp.Diff(wantSchema, schema); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
	want := []string{
		"|<null>|{}|<null>|-2147483648|<null>|-9223372036854775808|<null>|-Inf|<null>|false|<null>|-1|<null>",
		"zoë\x00 🦉||{\"a\":[1]}|null|2147483647|0|9223372036854775807|0|0.1|0|true|false|1742825304571|0",
		"c|<null>|[]|<null>|3|<null>|3|<null>|3|<null>|true|<null>|1742825304572|<null>",
	}
	if diff := cmp.Diff(want, rows); diff != "" || n != 3 {
		t.Errorf("%d rows (-want +got):\n%s", n, diff)
	}
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"kvmigrate.table": "app.every", "kvmigrate.table_version": "7"} {
		if got, _ := f.Lookup(key); got != want {
			t.Errorf("metadata %s is %q, want %q", key, got, want)
		}
	}
}

// TestTables: every table of the catalog can be exported, empty as well.
func TestTables(t *testing.T) {
	st := open(t)
	email := "zoë@example.com"
	err := st.Update(t.Context(), func(tx store.Txn) error {
		return errors.Join(
			systables.Users.Insert(tx, systables.User{ID: "u", Username: "zoë", PasswordHash: "hash", Role: "user", Email: &email, AuthType: "password", StorageMode: "table"}),
			systables.Metrics.Insert(tx, systables.Metric{ID: "m", NodeID: "n", Name: "cpu", Value: 0.5, RecordedAt: 5}),
			systables.Jobs.Insert(tx, systables.Job{ID: "j", Type: "flush", Status: "pending"}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, name := range []string{"audit_logs", "jobs", "live_queries", "metrics", "namespaces", "storages", "users"} {
		data, _, err := write(t, st, definition(t, st, name), export.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, rows[name] = read(t, data)
	}
	want := map[string][]string{
		"audit_logs": nil, "live_queries": nil, "namespaces": nil, "storages": nil,
		"metrics": {"m|n|cpu|0.5|<null>|5"},
		// Without the hash of its password.
		"users": {"u|zoë|user|zoë@example.com|password|<null>|table|<null>|0|0|<null>|<null>|0|<null>|<null>"},
		"jobs":  {"j|flush||<null>|pending|<null>|<null>|<null>|<null>|<null>|0|<null>|<null>||<null>|0|<null>|<null>|<null>|<null>"},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	data, _, err := write(t, st, definition(t, st, "users"), export.Options{Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, rows := read(t, data); !strings.HasPrefix(rows[0], "u|zoë|hash|user") {
		t.Errorf("with secrets the row is %s", rows[0])
	}
}

// TestUnknownColumns: what a later version has brought may be secret, and so is left out
// with what is known to be.
func TestUnknownColumns(t *testing.T) {
	st := open(t)
	put(t, st, "system.storages", map[string]any{"s": map[string]any{
		"storage_id": "s", "storage_name": "S", "storage_type": "s3", "base_directory": "b", "credentials": "hunter2",
		"shared_tables_template": "", "user_tables_template": "", "created_at": 1, "updated_at": 1, "token": "hunter3",
	}})
	put(t, st, "system.vaults", map[string]any{"v": map[string]any{"vault_id": "v"}})
	later := definition(t, st, "storages")
	later.Columns = append(later.Columns, systables.Column{Name: "token", Type: "Text"})
	for secrets, want := range map[bool]string{false: "s|S|<null>|s3|b|||1|1", true: "s|S|<null>|s3|b|hunter2|||1|1|hunter3"} {
		data, _, err := write(t, st, later, export.Options{Secrets: secrets})
		if err != nil {
			t.Fatal(err)
		}
		if _, rows := read(t, data); !cmp.Equal(rows, []string{want}) {
			t.Errorf("with secrets %t the rows are %q, want %q", secrets, rows, want)
		}
	}
	vaults := systables.Definition{Name: "vaults", Columns: []systables.Column{{Name: "vault_id", Type: "Text"}}}
	if _, _, err := write(t, st, vaults, export.Options{}); err == nil || !strings.Contains(err.Error(), "export system.vaults: it has no column that is known not to be secret") {
		t.Errorf("a table of a later version: %v, want it refused", err)
	}
	if _, n, err := write(t, st, vaults, export.Options{Secrets: true}); err != nil || n != 1 {
		t.Errorf("a table of a later version, with secrets: %d rows, %v; want one", n, err)
	}
}

// TestOwnTable: a table of a program's own is not taken for that of the system with its
// name.
func TestOwnTable(t *testing.T) {
	type user struct {
		ID   string `cbor:"user_id"`
		Name string `cbor:"username"`
		PIN  string `cbor:"pin" secret:"true"`
	}
	users, err := systables.NewTable("app", "users", func(u user) string { return u.ID })
	if err != nil {
		t.Fatal(err)
	}
	st := open(t)
	err = st.Update(t.Context(), func(tx store.Txn) error {
		return errors.Join(
			systables.Users.Insert(tx, systables.User{ID: "theirs", Username: "ada", Role: "user", AuthType: "password", StorageMode: "table"}),
			users.Insert(tx, user{"ours", "zoë", "1234"}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := write(t, st, users.Definition(), export.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, rows := read(t, data); !cmp.Equal(rows, []string{"ours|zoë"}) {
		t.Errorf("rows %q, want those of the program's table", rows)
	}
	put(t, st, "app.users", map[string]any{"damaged": 1})
	if _, _, err := write(t, st, users.Definition(), export.Options{}); err == nil || !strings.HasPrefix(err.Error(), "export app.users: ") {
		t.Errorf("a damaged row: %v, want the table named", err)
	}
}

func TestRange(t *testing.T) {
	st := open(t)
	tables := map[string]string{"metrics": "recorded_at", "audit_logs": "timestamp", "namespaces": "created_at"}
	err := st.Update(t.Context(), func(tx store.Txn) (err error) {
		for n := range 10 {
			id, at := fmt.Sprint(n), systables.Timestamp(1000*n)
			err = errors.Join(err,
				systables.Metrics.Insert(tx, systables.Metric{ID: systables.MetricID(id), RecordedAt: at, NodeID: "n", Name: "cpu"}),
				systables.AuditLogs.Insert(tx, systables.AuditLog{ID: systables.AuditID(id), Timestamp: at, Action: "login"}),
				systables.Namespaces.Insert(tx, systables.Namespace{ID: systables.NamespaceID(id), Name: id, CreatedAt: at}),
			)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		o    export.Options
		want string // the first column of the rows
	}{
		"all":  {want: "0123456789"},
		"from": {o: export.Options{From: time.UnixMilli(7000)}, want: "789"},
		"to":   {o: export.Options{To: time.UnixMilli(2000)}, want: "01"},
		"both": {o: export.Options{From: time.UnixMilli(2001), To: time.UnixMilli(4001)}, want: "34"},
		// What is recorded in milliseconds is before a time within its own.
		"within a millisecond": {o: export.Options{From: time.UnixMilli(7000).Add(1), To: time.UnixMilli(9000).Add(1)}, want: "89"},
		"empty":                {o: export.Options{From: time.UnixMilli(5), To: time.UnixMilli(6)}},
	}
	for name, tt := range tests {
		for table := range tables {
			data, n, err := write(t, st, definition(t, st, table), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			_, rows := read(t, data)
			got := ""
			for _, row := range rows {
				got += row[:1]
			}
			if got != tt.want || n != int64(len(tt.want)) {
				t.Errorf("%s of %s: rows %q, %d of them; want %q", name, table, got, n, tt.want)
			}
		}
	}
	timeless := systables.Definition{Schema: "app", Name: "timeless", Columns: []systables.Column{{Name: "id", Type: "Text"}}}
	if _, _, err := write(t, st, timeless, export.Options{To: time.UnixMilli(1)}); err == nil {
		t.Error("a range of a table without a time is no error")
	}
}

func TestBadRows(t *testing.T) {
	tests := map[string]struct {
		row  any
		want string
	}{
		"no map":       {1, "cannot unmarshal"},
		"no value":     {map[string]any{"text": "secret"}, "column json: it has no value"},
		"null":         {map[string]any{"text": nil}, "column text: it has no value"},
		"another type": {map[string]any{"text": 1}, "column text: decode value"},
		"too big":      {map[string]any{"text": "secret", "json": "", "int": int64(math.MaxInt64)}, "column int: decode value"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := open(t)
			put(t, st, "app.every", everyRows())
			put(t, st, "app.every", map[string]any{"29": tt.row})
			_, n, err := write(t, st, every, export.Options{})
			if e, ok := errors.AsType[*systables.RowError](err); !ok || e.Key != "29" || n != 2 || !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("after %d rows: %v; want after two a *RowError of row 29 that matches ErrCorrupt", n, err)
			}
			if text := fmt.Sprint(err); !strings.Contains(text, tt.want) || strings.Contains(text, "29") || strings.Contains(text, "secret") {
				t.Errorf("error %q, want %q in it, and neither the key nor a value", text, tt.want)
			}
		})
	}
	unknown := systables.Definition{Schema: "app", Name: "new", Columns: []systables.Column{{Name: "id", Type: "Decimal"}}}
	if _, _, err := write(t, open(t), unknown, export.Options{}); err == nil || !strings.Contains(err.Error(), "Decimal") {
		t.Errorf("a type of a later program: %v; want it named", err)
	}
}

// many is a snapshot of a table of any size that is not in memory.
type many struct {
	rows   int
	row    func() []byte
	sample func()
}

func (many) Get([]byte) (store.Entry, error) { return store.Entry{}, store.ErrNotFound }

func (m many) Scan(store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for n := range m.rows {
			if n%(m.rows/20) == 0 {
				m.sample()
			}
			if !yield(store.Entry{Key: fmt.Appendf(nil, "app.every/%09d", n), Value: m.row()}, nil) {
				return
			}
		}
	}
}

// TestMemory: what a table takes does not depend on its size.
func TestMemory(t *testing.T) {
	size := 0
	random := rand.NewChaCha8([32]byte{1})
	row := func() []byte {
		row := everyRows()["2"].(map[string]any)
		text := make([]byte, 500) // that cannot be compressed by much
		_, _ = random.Read(text)  // it never fails
		row["text"] = hex.EncodeToString(text)
		data, err := value.Marshal(row)
		if err != nil {
			t.Error(err)
		}
		size += len(data)
		return data
	}
	var most uint64
	sample := func() {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		most = max(most, stats.HeapAlloc)
	}
	sample()
	before := most
	const rows = 50_000
	n, err := export.Parquet(t.Context(), io.Discard, many{rows, row, sample}, every, export.Options{})
	if err != nil || n != rows {
		t.Fatalf("%d rows: %v", n, err)
	}
	if taken := most - before; taken > 30<<20 {
		t.Errorf("%d MiB of rows took %d MiB of memory, want 30 at most", size>>20, taken>>20)
	} else {
		t.Logf("%d MiB of rows took %d MiB", size>>20, taken>>20)
	}
}

func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	samples := 0
	row, err := value.Marshal(everyRows()["2"])
	if err != nil {
		t.Fatal(err)
	}
	s := many{1000, func() []byte { return row }, func() {
		if samples++; samples == 3 {
			cancel()
		}
	}}
	n, err := export.Parquet(ctx, io.Discard, s, every, export.Options{})
	if !errors.Is(err, context.Canceled) || n != 100 {
		t.Errorf("after %d rows: %v; want it to stop where its context ended, after 100", n, err)
	}
	errFull := errors.New("disk full")
	if _, err := export.Parquet(t.Context(), failing{errFull}, many{1000, func() []byte { return row }, func() {}}, every, export.Options{}); !errors.Is(err, errFull) {
		t.Errorf("error %v, want that of the writer", err)
	}
}

type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }
