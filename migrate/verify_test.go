package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// secret is in keys and values, and must never be in a text.
const secret = "hunter2"

// verified verifies st, which it wants to find unchanged, and returns what it found
// as codes with their versions.
func verified(t *testing.T, st store.Store, o migrate.Options, v migrate.VerifyOptions) (migrate.Verification, []string) {
	t.Helper()
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	whole := st
	if damaged, ok := st.(torn); ok {
		whole = damaged.Store
	}
	before := contents(t, whole)
	found, err := r.Verify(t.Context(), v)
	if diff := cmp.Diff(before, contents(t, whole)); diff != "" {
		t.Errorf("Verify changed the store (-want +got):\n%s", diff)
	}
	if all, ok := errors.AsType[*multierror.Error](err); (err != nil) != (len(found.Findings) > 0) || err != nil && (!ok || len(all.Errors) != len(found.Findings)) {
		t.Fatalf("%d findings and the error %T: %v", len(found.Findings), err, err)
	}
	if err != nil && (!errors.Is(err, migrate.ErrFindings) || strings.Contains(err.Error(), secret)) {
		t.Errorf("the error does not match ErrFindings or tells a key: %v", err)
	}
	var codes []string
	for _, f := range found.Findings {
		code := f.Code
		if f.Version != 0 {
			code += fmt.Sprintf(" v%d", f.Version)
		}
		codes = append(codes, code)
	}
	return found, codes
}

// halfWay is a ladder whose third migration takes steps and stops after the second
// of them.
func halfWay() []migrate.Migration {
	ms := ladder("one", "two", "three", "four")
	ms[2].Up = func(_ context.Context, tx *migrate.Tx) error {
		if tx.Cursor() != nil && string(tx.Cursor()) == "2" {
			return errors.New("stopped")
		}
		next := "1"
		if string(tx.Cursor()) == "1" {
			next = "2"
		}
		tx.Continue([]byte(next))
		return nil
	}
	return ms
}

// changed returns the map that is stored under key with one more column set.
func changed(t *testing.T, st store.Store, key, column string, v any) []byte {
	t.Helper()
	var data []byte
	err := st.View(t.Context(), func(s store.Reader) error {
		e, err := s.Get([]byte(key))
		if err != nil {
			return err
		}
		m, err := value.UnmarshalMap(e.Value)
		if err != nil {
			return err
		}
		if err := m.Set(column, v); err != nil {
			return err
		}
		data, err = value.Marshal(m)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestVerifyRecords(t *testing.T) {
	const version, progress, lock, turn = "system:schema_version", "system:schema_progress", "system:schema_lock", "system:schema_turn"
	history := func(n uint64) string { return fmt.Sprintf("system:schema_history:%010d", n) }
	trail := func(n int) string { return fmt.Sprintf("system:schema_trail:%010d", n) }
	type damage = func(*testing.T, store.Store)
	set := func(key, data string) damage {
		return func(t *testing.T, st store.Store) { put(t, st, key, []byte(data)) }
	}
	change := func(key, column string, v any) damage {
		return func(t *testing.T, st store.Store) { put(t, st, key, changed(t, st, key, column, v)) }
	}
	del := func(keys ...string) damage {
		return func(t *testing.T, st store.Store) {
			for _, key := range keys {
				remove(t, st, key)
			}
		}
	}
	mark := func(n int) damage {
		return set(trail(n), "\xa2\x62to\x41a\x64from\xf6")
	}
	// The store is at v2 with v3 under way, or at v4 with nothing.
	tests := map[string]struct {
		atRest bool
		damage []damage
		want   []string
	}{
		"nothing, under way": {},
		"nothing, at rest":   {atRest: true},

		"version of three bytes":    {true, []damage{set(version, "abc")}, []string{"version_malformed"}},
		"version gone":              {true, []damage{del(version)}, []string{"version_missing"}},
		"a newer version":           {true, []damage{set(version, "\x00\x00\x00\x06")}, []string{"version_newer v6", "history_missing v5"}},
		"an older version":          {true, []damage{set(version, "\x00\x00\x00\x02")}, []string{"history_beyond v3", "history_beyond v4"}},
		"a hole in the history":     {true, []damage{del(history(2))}, []string{"history_missing v2"}},
		"a long hole":               {true, []damage{del(history(1), history(2), history(3))}, []string{"history_missing v1"}},
		"no end of the history":     {true, []damage{del(history(4))}, []string{"history_missing v4"}},
		"no history":                {true, []damage{del(history(1), history(2), history(3), history(4))}, []string{"history_missing v1"}},
		"a hole and one too many":   {true, []damage{del(history(3)), set(history(4294967295), secret)}, []string{"history_missing v3", "history_beyond v4294967295", "history_malformed v4294967295"}},
		"no number in a key":        {true, []damage{set("system:schema_history:"+secret, "x"), set("system:schema_history:00001", "x")}, []string{"history_key", "history_key"}},
		"a malformed record":        {true, []damage{set(history(3), secret)}, []string{"history_malformed v3"}},
		"a record of another":       {true, []damage{change(history(3), "version", 7)}, []string{"history_version v3"}},
		"another name":              {true, []damage{change(history(2), "name", "quotas")}, []string{"history_name v2"}},
		"another fingerprint":       {true, []damage{change(history(3), "f", "0000000000000000")}, []string{"history_fingerprint v3"}},
		"no fingerprint":            {true, []damage{change(history(3), "f", "nonsense")}, []string{"history_malformed v3"}},
		"finished before started":   {true, []damage{change(history(4), "started", int64(1)<<53)}, []string{"history_time v4"}},
		"finished before the one":   {true, []damage{change(history(2), "finished", int64(1)<<53)}, []string{"history_time v3"}},
		"an unknown record":         {true, []damage{set("system:schema_versions", secret), set("system:schema_lock2", "")}, []string{"record_unknown", "record_unknown"}},
		"progress of before":        {true, []damage{set(progress, "\xa1\x67version\x04"), set(lock, "\xa1\x65token\x50"+strings.Repeat("t", 16))}, []string{"progress_leftover v4"}},
		"progress that is none":     {true, []damage{set(progress, secret), set(lock, "\xa1\x65token\x50"+strings.Repeat("t", 16))}, []string{"progress_malformed"}},
		"a lock alone":              {true, []damage{set(lock, "\xa1\x65token\x50"+strings.Repeat("t", 16))}, []string{"lock_leftover"}},
		"a lock that is none alone": {true, []damage{set(lock, secret)}, []string{"lock_leftover", "lock_malformed"}},
		"a turn with its lock":      {true, []damage{set(lock, "\xa1\x65token\x50"+strings.Repeat("t", 16)), set(turn, "\xa1\x65token\x50"+strings.Repeat("t", 16))}, nil},
		"a turn that is none":       {true, []damage{set(lock, "\xa1\x65token\x50"+strings.Repeat("t", 16)), set(turn, secret)}, []string{"turn_malformed"}},
		"nodes and an intent": {true, []damage{
			set("system:schema_node:00000000000000aa", "\xa2\x63min\x01\x63max\x02"), set("system:schema_beat:00000000000000aa", "\x07"), set("system:schema_intent", "\xa1\x66target\x05"),
		}, nil},
		"nodes and an intent that are none": {true, []damage{
			set("system:schema_node:00000000000000aa", secret), set("system:schema_beat:00000000000000aa", secret), set("system:schema_intent", secret),
		}, []string{"intent_malformed", "node_malformed", "node_malformed"}},
		"a trail alone": {true, []damage{mark(1)}, []string{"trail_leftover"}},

		"progress of a later version": {false, []damage{change(progress, "version", 4)}, []string{"progress_version v4"}},
		"progress of an unknown":      {false, []damage{set(version, "\x00\x00\x00\x04"), change(progress, "version", 5)}, []string{"history_missing v3", "progress_newer v5"}},
		"another name under way":      {false, []damage{change(progress, "name", "quotas")}, []string{"progress_name v3"}},
		"another fingerprint there":   {false, []damage{change(progress, "f", "0000000000000000")}, []string{"progress_fingerprint v3"}},
		"no phase":                    {false, []damage{change(progress, "phase", 0)}, []string{"progress_phase v3"}},
		"no lock":                     {false, []damage{del(lock)}, []string{"lock_missing"}},
		"a lock that is none":         {false, []damage{set(lock, secret)}, []string{"lock_malformed"}},
		"a token too short":           {false, []damage{change(lock, "token", []byte("x"))}, []string{"lock_malformed"}},
		"a trail":                     {false, []damage{mark(1), mark(2)}, nil},
		"a trail too long":            {false, []damage{mark(3)}, []string{"trail_beyond"}},
		"a mark that is none":         {false, []damage{set(trail(1), secret)}, []string{"trail_malformed"}},
		"a mark without number":       {false, []damage{set("system:schema_trail:"+secret, "")}, []string{"trail_key"}},

		"all of the above": {false, []damage{
			del(history(1)), change(history(2), "version", 9), change(history(2), "finished", 1), set(history(3), secret),
			change(progress, "name", "quotas"), change(progress, "phase", 0), set(lock, secret), mark(9), set("system:schema_"+secret, ""),
		}, []string{
			"history_missing v1", "history_version v2", "history_time v2", "history_beyond v3", "history_malformed v3",
			"progress_name v3", "progress_phase v3", "lock_malformed", "trail_beyond", "record_unknown",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			o := options(migrate.NewRegistry(halfWay()...))
			if tt.atRest {
				o = options(migrate.NewRegistry(ladder("one", "two", "three", "four")...))
			}
			if _, err := migrate.Up(t.Context(), st, o); (err == nil) != tt.atRest {
				t.Fatal(err)
			}
			for _, damage := range tt.damage {
				damage(t, st)
			}
			found, got := verified(t, st, o, migrate.VerifyOptions{})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s%v", diff, found.Err())
			}
			if tt.want == nil && (found.Progress == nil) != tt.atRest {
				t.Errorf("progress %v", found.Progress)
			}
		})
	}
}

func TestVerifyUnversioned(t *testing.T) {
	for _, allow := range []bool{false, true} {
		st := openStore(t)
		o := options(migrate.NewRegistry(ladder("one")...))
		o.AllowUnversioned = allow
		if found, codes := verified(t, st, o, migrate.VerifyOptions{}); codes != nil || found.Stored || len(found.Pending) != 1 {
			t.Errorf("empty store: %v, %+v", codes, found)
		}
		put(t, st, "row", nil)
		want := []string{"unversioned"}
		if allow {
			want = nil
		}
		if _, codes := verified(t, st, o, migrate.VerifyOptions{}); !slices.Equal(codes, want) {
			t.Errorf("allowed %v: findings %v, want %v", allow, codes, want)
		}
	}
}

// TestVerifyUndeclared: each undeclared partition is one finding and each other key
// too; what is declared, and the records of any schema, are passed over.
func TestVerifyUndeclared(t *testing.T) {
	st := openStore(t)
	o := options(migrate.NewRegistry(ladder("one")...))
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"notes/1", "notes/2", "notes", "notes.tag/x", "notes.old/1", "notes.old/2", "other:schema_version", "other:schema_history:1",
		"\x00" + secret, "\xff\xff", "Users/1", "z/\xff", "z/a",
	} {
		put(t, st, key, nil)
	}
	check := func(within string) []string {
		t.Helper()
		found, _ := verified(t, st, o, migrate.VerifyOptions{Check: func(_ context.Context, v *migrate.Verifier) error {
			return v.Undeclared([]byte(within), []byte("notes/"), []byte("notes.tag/"))
		}})
		var got []string
		for _, f := range found.Findings {
			got = append(got, fmt.Sprintf("%s %q %q", f.Code, f.Partition, f.Key))
		}
		return got
	}
	want := []string{
		`undeclared "" "\x00hunter2"`, `undeclared "" "Users/1"`, `undeclared "" "notes"`,
		`undeclared "notes.old" "notes.old/1"`, `undeclared "z" "z/a"`, `undeclared "" "\xff\xff"`,
	}
	if diff := cmp.Diff(want, check("")); diff != "" {
		t.Errorf("whole store (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`undeclared "notes.old" "notes.old/1"`}, check("notes.")); diff != "" {
		t.Errorf("within notes. (-want +got):\n%s", diff)
	}
}

// TestVerifyHoldsFewFindings: of a code it keeps a hundred and counts the others.
func TestVerifyHoldsFewFindings(t *testing.T) {
	st := openStore(t)
	o := options(migrate.NewRegistry(ladder("one")...))
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	load(t, st, many("loose:", 250)...)
	found, codes := verified(t, st, o, migrate.VerifyOptions{Check: func(_ context.Context, v *migrate.Verifier) error {
		return v.Undeclared(nil)
	}})
	if len(codes) != 100 || found.More["undeclared"] != 150 || len(found.More) != 1 {
		t.Errorf("%d findings and %v more, want 100 and 150", len(codes), found.More)
	}
}

// torn is a store whose value under one key comes back damaged.
type torn struct {
	store.Store
	key string
}

func (s torn) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.Store.View(ctx, func(r store.Reader) error { return fn(tornReader{r, s.key}) })
}

type tornReader struct {
	store.Reader
	key string
}

func (r tornReader) damage(op string) error {
	return &store.Error{Op: op, Key: []byte(r.key), Err: store.ErrCorrupt}
}

func (r tornReader) Get(key []byte) (store.Entry, error) {
	if string(key) == r.key {
		return store.Entry{}, r.damage("get")
	}
	return r.Reader.Get(key)
}

func (r tornReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range r.Reader.Scan(s) {
			if err == nil && !s.KeysOnly && string(e.Key) == r.key {
				yield(store.Entry{}, r.damage("scan"))
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestVerifyDamagedValues: a value that comes back damaged is one finding, and what
// follows it is looked at.
func TestVerifyDamagedValues(t *testing.T) {
	st := openStore(t)
	o := options(migrate.NewRegistry(ladder("one", "two")...))
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	load(t, st, many("rows/", 50)...)
	rows := entriesOf(t, st, "rows/")
	for _, tt := range []struct {
		key    string
		sample int
		seen   int
		want   []string
	}{
		{string(rows[0].Key), 0, 49, []string{"damaged"}},
		{string(rows[20].Key), 0, 49, []string{"damaged"}},
		{string(rows[49].Key), 0, 49, []string{"damaged"}},
		{string(rows[20].Key), 60, 49, []string{"damaged"}},
		{"system:schema_history:0000000001", 0, 50, []string{"damaged", "history_missing v1"}},
		{"system:schema_version", 0, 50, []string{"version_malformed"}},
	} {
		seen := 0
		_, got := verified(t, torn{st, tt.key}, o, migrate.VerifyOptions{Sample: tt.sample, Check: func(_ context.Context, v *migrate.Verifier) error {
			for _, err := range v.Entries([]byte("rows/")) {
				if err != nil {
					return err
				}
				seen++
			}
			return nil
		}})
		if diff := cmp.Diff(tt.want, got); diff != "" || seen != tt.seen {
			t.Errorf("damage at %q: saw %d of %d; findings (-want +got):\n%s", tt.key, seen, tt.seen, diff)
		}
	}
}

// TestVerifySample: a sample has as many entries as asked for, none twice, from all
// parts of the keys, also if those crowd.
func TestVerifySample(t *testing.T) {
	st := openStore(t)
	o := options(migrate.NewRegistry(ladder("one")...))
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	var entries []store.Entry
	for i := range 1000 {
		entries = append(entries, store.Entry{Key: fmt.Appendf(nil, "even/%06d", i)})
		entries = append(entries, store.Entry{Key: fmt.Appendf(nil, "crowd/%s%06d", strings.Repeat("same", i%2), i)})
	}
	entries = append(entries, store.Entry{Key: []byte("even")}, store.Entry{Key: []byte("even0")}, store.Entry{Key: []byte("crowd/")}, store.Entry{Key: []byte("crowd/\xff")})
	load(t, st, entries...)
	for _, tt := range []struct {
		prefix string
		n      int
		want   int
	}{
		{"even/", 1, 1}, {"even/", 2, 2}, {"even/", 100, 100}, {"even/", 999, 0}, {"even/", 1000, 1000}, {"even/", 5000, 1000},
		{"crowd/", 100, 100}, {"none/", 10, 0},
	} {
		keys := map[string]bool{}
		parts := map[string]int{}
		_, codes := verified(t, st, o, migrate.VerifyOptions{Sample: tt.n, Check: func(_ context.Context, v *migrate.Verifier) error {
			for e, err := range v.Entries([]byte(tt.prefix)) {
				if err != nil {
					return err
				}
				if keys[string(e.Key)] || !bytes.HasPrefix(e.Key, []byte(tt.prefix)) {
					t.Errorf("%s: yields %q twice, or wrongly", tt.prefix, e.Key)
				}
				keys[string(e.Key)] = true
				parts[string(e.Key[:min(len(e.Key), len("even/0000"))])]++
			}
			return nil
		}})
		if codes != nil {
			t.Errorf("findings %v", codes)
		}
		if tt.want == 0 && tt.n == 999 {
			if len(keys) < 500 {
				t.Errorf("sample of 999 of 1000 has %d", len(keys))
			}
			continue
		}
		if len(keys) != tt.want {
			t.Errorf("%s: sample of %d has %d entries, want %d", tt.prefix, tt.n, len(keys), tt.want)
		}
		if tt.prefix == "even/" && tt.n == 100 && len(parts) != 10 {
			t.Errorf("a sample of 100 reaches the tenths %v", parts)
		}
	}
}

// TestVerifyStops: what keeps it from looking is no finding.
func TestVerifyStops(t *testing.T) {
	st := openStore(t)
	o := options(migrate.NewRegistry(ladder("one")...))
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	put(t, st, "system:schema_"+secret, nil)
	r, err := migrate.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(t.Context())
	for name, tt := range map[string]struct {
		check func(context.Context, *migrate.Verifier) error
		want  error
	}{
		"an error":  {func(context.Context, *migrate.Verifier) error { return boom }, boom},
		"a panic":   {func(context.Context, *migrate.Verifier) error { panic(boom) }, boom},
		"cancelled": {func(_ context.Context, v *migrate.Verifier) error { cancel(); return v.Undeclared(nil) }, context.Canceled},
	} {
		found, err := r.Verify(ctx, migrate.VerifyOptions{Check: tt.check})
		if !errors.Is(err, tt.want) || errors.Is(err, migrate.ErrFindings) {
			t.Errorf("%s: error = %v, want %v", name, err, tt.want)
		}
		if ctx.Err() == nil && (len(found.Findings) != 1 || found.Version != 1) {
			t.Errorf("%s: what was found is gone: %+v", name, found)
		}
		if ctx.Err() != nil {
			ctx, cancel = context.WithCancel(t.Context())
		}
	}
	cancel()
	if _, err := r.Verify(ctx, migrate.VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: error = %v", err)
	}
}

// TestVerifyOtherBeginnings: a store that was created by a baseline or adopted, and
// one that older programs may use, are as they should be to every program that may.
func TestVerifyOtherBeginnings(t *testing.T) {
	created, replayed, adopted, newer := openStore(t), openStore(t), openStore(t), openStore(t)
	mustUp(t, created, squashed(t))
	mustUp(t, replayed, long)
	put(t, adopted, "stray", nil)
	adopting := options(migrate.NewRegistry(long...))
	adopting.Adopt = func(context.Context, store.Reader) (uint32, error) { return 4, nil }
	if _, codes := verified(t, adopted, adopting, migrate.VerifyOptions{}); codes != nil {
		t.Errorf("findings before it is adopted: %v", codes)
	}
	if _, err := migrate.Up(t.Context(), adopted, adopting); err != nil {
		t.Fatal(err)
	}
	mustUp(t, newer, declared([2]uint32{}, [2]uint32{1, 1}))
	tooOld, halfCreated := openStore(t), openStore(t)
	mustUp(t, tooOld, long[:2])
	half := squashed(t)
	half[0].Up = func(_ context.Context, tx *migrate.Tx) error {
		if tx.Cursor() != nil {
			return errBoom
		}
		tx.Continue([]byte("on"))
		return nil
	}
	if _, err := up(t, halfCreated, half); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	renamed := append([]migrate.Migration{}, long...)
	renamed[3].Name = "vier"
	for _, tt := range []struct {
		name    string
		st      store.Store
		program []migrate.Migration
		want    []string
	}{
		{"created", created, squashed(t), nil},
		{"created, before the squash", created, long, nil},
		{"replayed", replayed, squashed(t), nil},
		{"adopted", adopted, long, nil},
		{"adopted, squashed", adopted, squashed(t), nil},
		{"lets older programs use it", newer, declared([2]uint32{}), nil},
		{"too old", tooOld, squashed(t), []string{"version_too_old v2"}},
		{"being created", halfCreated, half, nil},
		{"being created another way", halfCreated, long, []string{"progress_version v3"}},
		{"created, of another name", created, renamed, []string{"history_name v4"}},
		{"adopted, of another name", adopted, renamed, []string{"history_name v4"}},
	} {
		if _, got := verified(t, tt.st, options(migrate.NewRegistry(tt.program...)), migrate.VerifyOptions{}); !slices.Equal(tt.want, got) {
			t.Errorf("%s: findings %v, want %v", tt.name, got, tt.want)
		}
	}
	remove(t, created, "system:schema_history:0000000004")
	if _, got := verified(t, created, options(migrate.NewRegistry(squashed(t)...)), migrate.VerifyOptions{}); !slices.Equal([]string{"history_missing v4"}, got) {
		t.Errorf("a hole after the beginning: findings %v", got)
	}
}

// TestVerifyObserver: the observer is told at the end how many entries were read, those
// that the program's own check read among them.
func TestVerifyObserver(t *testing.T) {
	st := openStore(t)
	o := options(migrate.NewRegistry(ladder("one", "two")...))
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Fatal(err)
	}
	read := func(check func(*migrate.Verifier) error) (entries uint64) {
		v := migrate.VerifyOptions{
			Check:    func(_ context.Context, v *migrate.Verifier) error { return check(v) },
			Observer: func(n uint64) { entries = n },
		}
		verified(t, st, o, v)
		return entries
	}
	records := read(func(*migrate.Verifier) error { return nil })
	var counted uint64
	all := read(func(v *migrate.Verifier) error {
		for _, err := range v.All(nil) {
			if err != nil {
				return err
			}
			counted++
		}
		_, err := v.Get([]byte("none"))
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	})
	if records == 0 || counted == 0 || all != records+counted+1 {
		t.Errorf("read %d entries with a check that reads %d and one that is not there, and %d without", all, counted, records)
	}
}
