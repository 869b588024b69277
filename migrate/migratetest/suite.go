// Package migratetest tests the migrations of a schema: against golden files, from
// every old version, and through a crash at every operation.
//
// # Use
//
// In a test of the package that holds the migrations:
//
//	func TestMigrations(t *testing.T) {
//		migratetest.Run(t, migratetest.Suite{Schema: "notes"})
//	}
//
// [Run] takes the migrations through [Golden], [Ladder], [Converge] and [Crash];
// [Memory] needs rows of the author's making and is called by itself.
//
// # Files
//
// Each version has a folder in testdata/golden, named like its file:
//
//	v0003_add_tags/fixture.txt     entries that the store gets before the migration
//	v0003_add_tags/after.txt       all that the store holds after it
//	v0003_add_tags/bad_NAME.txt    entries that make it fail
//	v0003_add_tags/bad_NAME.error  the error that it then returns
//	v0003_add_tags/unchanged.txt   why it changes nothing, if that is so
//
// Fixtures are written by hand, in the format of package dump: a quoted key and a
// value in diagnostic notation or hex. They stand for what programs of the version
// before wrote, and never change afterwards.
//
// The folder testdata/stores holds a store of each version as programs left it on
// the disk, in v0003, and what becomes of it at the newest version, in
// v0003.after.txt.
//
// # Update
//
// The flag -update writes what is new: the files and the old store of versions that
// are later than all that have an after.txt. It changes no file that is there, and
// makes up for none that was lost: those are history, and are restored from version
// control. Only a v0003.after.txt goes on to a newer version, from where it still
// holds. Of a migration that is marked Unreleased, -update makes the files and the
// old store anew. -update=3 does the same for version 3 if it is the newest; of an
// earlier one it makes the files anew, with those after it, which show its history,
// but no store. -update=all makes all files anew. The differences are there to be
// reviewed.
//
// The package defines the flag, so a package that uses it must not define another of
// the name.
package migratetest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

var update updates

func init() {
	flag.Var(&update, "update", "write the golden files and old stores of new versions; with `version` or \"all\", also those files that are there")
}

// updates is what the flag -update asks for.
type updates struct {
	on      bool
	all     bool
	version uint32 // 0 if none was given
}

// IsBoolFlag says that the flag needs no value.
func (*updates) IsBoolFlag() bool { return true }

func (u *updates) String() string {
	switch {
	case u.all:
		return "all"
	case u.version > 0:
		return strconv.FormatUint(uint64(u.version), 10)
	}
	return strconv.FormatBool(u.on)
}

func (u *updates) Set(text string) error {
	*u = updates{on: text != "false", all: text == "all"}
	if text == "true" || text == "false" || text == "all" {
		return nil
	}
	version, err := strconv.ParseUint(text, 10, 32)
	if err != nil || version == 0 {
		return fmt.Errorf("want a version, \"all\" or nothing")
	}
	u.version = uint32(version)
	return nil
}

// A Suite is the migrations to test. The zero Suite is the default registry and
// schema, with files in testdata.
type Suite struct {
	// Registry holds the migrations. Nil means migrate's default registry.
	Registry *migrate.Registry

	// Schema is the schema's name. Empty means migrate.DefaultSchema.
	Schema string

	// Golden is the folder of the golden files. Empty means testdata/golden.
	Golden string

	// Stores is the folder of the old stores. Empty means testdata/stores.
	Stores string

	// Value, if not nil, is how after.txt shows the value of an entry, for
	// encodings that package dump does not know. An empty text leaves it to
	// package dump. It must show different values differently, and no newline.
	Value func(e store.Entry) string

	// Volatile, if not nil, returns e without what may differ between a store
	// that was upgraded and one that was made at the newest version: a row
	// without the time at which a migration made it, or a zero Entry for one
	// that is left out. It may change e.Value. See Diff.
	Volatile func(e store.Entry) store.Entry

	// Fresh, if not nil, writes to st, a store made at the newest version, what
	// programs of that version write where those before wrote the contents of the
	// old store of version. See Converge.
	Fresh func(ctx context.Context, st store.Store, version uint32) error

	// Open, if not nil, opens a new, empty store for migrations to run in, which is
	// closed afterwards. Nil means Badger in memory. Old stores are on Badger all the
	// same, and Crash has stores of its own: see RunStore.
	Open func(ctx context.Context) (store.Store, error)

	clock   time.Time // when migrations run; zero means noon
	batches int       // as of migrate.Options
}

func (s Suite) registry() *migrate.Registry {
	if s.Registry == nil {
		return migrate.DefaultRegistry()
	}
	return s.Registry
}

// ladder returns the migrations in order. The first may be a baseline, so that
// versions need not begin with 1.
func (s Suite) ladder() []migrate.Migration { return s.registry().Migrations() }

// unreleased reports whether the migration of version may still change.
func (s Suite) unreleased(version uint32) bool {
	return slices.ContainsFunc(s.ladder(), func(m migrate.Migration) bool { return m.Version == version && m.Unreleased })
}

// names reports whether -update is told to write files of version, lost ones too.
func (s Suite) names(version uint32) bool {
	return update.all || update.on && (update.version == version || s.unreleased(version))
}

// remakes reports whether -update makes files of version anew that are there: those
// after a version that it names show that one as well, if only in the history.
func (s Suite) remakes(version uint32) bool {
	return s.names(version) || update.version > 0 && version > update.version
}

// check ends the test if the migrations, or -update, leave nothing to test: what is
// wrong with the registry must not pass for the work of a migration.
func (s Suite) check(t *testing.T) {
	t.Helper()
	if err := s.registry().Check(); err != nil {
		t.Fatalf("no migration was tested, and no file written: mend the registry first: %v", err)
	}
	if update.version > 0 {
		if _, err := s.below(update.version); err != nil {
			t.Fatalf("-update=%d: %v", update.version, err)
		}
	}
}

// released returns the migrations as if all were released: what they leave must be
// the same when they are.
func (s Suite) released() *migrate.Registry {
	r := s.registry()
	ladder := r.Migrations()
	if !slices.ContainsFunc(ladder, func(m migrate.Migration) bool { return m.Unreleased }) {
		return r
	}
	for i := range ladder {
		ladder[i].Unreleased = false
	}
	return migrate.NewRegistry(ladder...)
}

func (s Suite) golden(m migrate.Migration, file string) string {
	dir := s.Golden
	if dir == "" {
		dir = filepath.Join("testdata", "golden")
	}
	return filepath.Join(dir, m.ID(), file)
}

func (s Suite) stores() string {
	if s.Stores == "" {
		return filepath.Join("testdata", "stores")
	}
	return s.Stores
}

// Run runs Golden, Ladder, Converge and Crash as subtests. Like each of them it
// begins with [migrate.Registry.Check], and tests nothing of a registry with faults.
func Run(t *testing.T, s Suite) {
	t.Helper()
	s.check(t)
	t.Run("Golden", func(t *testing.T) { Golden(t, s) })
	t.Run("Ladder", func(t *testing.T) { Ladder(t, s) })
	t.Run("Converge", func(t *testing.T) { Converge(t, s) })
	t.Run("Crash", func(t *testing.T) { Crash(t, s) })
}

// noon is when migrations run, unless the time is what is tested.
var noon = time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC)

func (s Suite) options(r *migrate.Registry) migrate.Options {
	clock := s.clock
	if clock.IsZero() {
		clock = noon
	}
	return migrate.Options{
		Registry: r, Schema: s.Schema,
		// Fixtures come before the version that they are for.
		AllowUnversioned: true,
		Program:          "kvmigrate test", Logger: slog.New(slog.DiscardHandler), Heartbeat: -1,
		Now: func() time.Time { return clock }, Batches: s.batches,
	}
}

// upTo takes st to version.
func (s Suite) upTo(ctx context.Context, st store.Store, version uint32) (migrate.Report, error) {
	r, err := migrate.New(st, s.options(s.released()))
	if err != nil {
		return migrate.Report{}, err
	}
	report, err := r.UpTo(ctx, version)
	if p, ok := errors.AsType[*migrate.PanicError](err); ok {
		if at := inAuthorsFile(p.Stack); at != "" {
			err = fmt.Errorf("at %s: %w", at, err)
		}
	}
	return report, err
}

// inAuthorsFile returns the file and line of the first call in a stack that is in the
// folder of the test, which is that of the migrations; "" if there is none.
func inAuthorsFile(stack []byte) string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(stack)) {
		call, ok := strings.CutPrefix(line, "\t"+filepath.ToSlash(dir)+"/")
		if ok {
			call, _, _ = strings.Cut(strings.TrimSpace(call), " ") // an offset
			return call
		}
	}
	return ""
}

// withStore calls do with an empty store.
func (s Suite) withStore(ctx context.Context, do func(st store.Store) error) (err error) {
	open := s.Open
	if open == nil {
		open = func(ctx context.Context) (store.Store, error) { return badgerstore.OpenInMemory(ctx) }
	}
	st, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if e := st.Close(); err == nil {
			err = e
		}
	}()
	return do(st)
}

// load adds entries to st, in as many transactions as it takes.
func load(ctx context.Context, st store.Store, entries []store.Entry) error {
	most := max(1, min(1000, st.Limits().TxnEntries))
	for len(entries) > 0 {
		n, cost := 0, 0
		for n < len(entries) && n < most && (n == 0 || cost+st.Limits().Cost(entries[n]) <= st.Limits().TxnBytes) {
			cost += st.Limits().Cost(entries[n])
			n++
		}
		err := store.Update(ctx, st, func(tx store.Txn) error {
			for _, e := range entries[:n] {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// text returns the lines of entries.
func (s Suite) text(entries []store.Entry) string {
	var out strings.Builder
	for _, e := range entries {
		out.WriteString(s.line(e))
	}
	return out.String()
}

// line is the line of e, with the text of its value that s.Value gives.
func (s Suite) line(e store.Entry) string {
	line := dump.Line(e)
	if s.Value == nil {
		return line
	}
	text := s.Value(e)
	if text == "" {
		return line
	}
	value := dump.Value(e.Value)
	key := dump.Line(store.Entry{Key: e.Key})
	key = key[:len(key)-len(dump.Value(nil))-1] // up to where a value begins
	return key + text + line[len(key)+len(value):]
}

// entries returns all that st holds.
func entries(ctx context.Context, st store.Store) (all []store.Entry, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{}) {
			if err != nil {
				return err
			}
			e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
			all = append(all, e)
		}
		return nil
	})
	return all, err
}

// difference is the lines in which two contents differ, by key, or "". It shows the
// values as package dump does: a printer could show different ones alike.
func difference(want, got []store.Entry) string {
	if slices.EqualFunc(want, got, same) {
		return ""
	}
	return lineDifference(Suite{}.text(want), Suite{}.text(got))
}

func same(a, b store.Entry) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.ExpiresAt == b.ExpiresAt && a.Meta == b.Meta
}

// lineDifference is the lines in which two texts differ, by key, those of some keys
// if there are many.
func lineDifference(want, got string) string {
	const most = 15 // keys
	before, after := byKey(want), byKey(got)
	keys := map[string]bool{}
	for key, line := range before {
		keys[key] = after[key] != line
	}
	for key, line := range after {
		keys[key] = before[key] != line
	}
	var differing []string
	for key, differs := range keys {
		if differs {
			differing = append(differing, key)
		}
	}
	slices.Sort(differing)
	var out strings.Builder
	for _, key := range differing[:min(most, len(differing))] {
		if line, ok := before[key]; ok {
			out.WriteString("- " + line)
		}
		if line, ok := after[key]; ok {
			out.WriteString("+ " + line)
		}
	}
	if more := len(differing) - most; more > 0 {
		fmt.Fprintf(&out, "… and %s more\n", plural.Of(uint64(more), "key"))
	}
	return out.String()
}

// byKey returns the lines of a dump by their quoted keys.
func byKey(text string) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(text) {
		key, err := strconv.QuotedPrefix(line)
		if err != nil {
			key = line // of an error
		}
		lines[key] = line
	}
	return lines
}
