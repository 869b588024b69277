package migrate

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/go-multierror"
)

// maxNameLen bounds the names of migrations and schemas.
const maxNameLen = 64

// A Registry holds the migrations of one schema that a program knows. The zero
// Registry is empty and ready to use. Its methods may be called concurrently.
type Registry struct {
	mu      sync.Mutex
	entries []entry                // append-only: a ladder shares them
	checked atomic.Pointer[ladder] // the result of the last check, nil after a Register
}

// An entry is a migration and the file that registered it, "" if the file has
// no say.
type entry struct {
	Migration
	file string
}

// A ladder is a registry's migrations, checked and in order: entries[i] has
// version base+i+1 and fingerprints[i] covers it and all before it.
type ladder struct {
	base         uint32 // the version that the first migration leads up from, if the store is not empty
	entries      []entry
	fingerprints []Fingerprint
	faults       error
}

// has reports whether the ladder has the migration that leads to version.
func (l *ladder) has(version uint32) bool {
	return version > l.base && version-l.base <= uint32(len(l.entries))
}

// at returns the migration that leads to version, which the ladder must have.
func (l *ladder) at(version uint32) entry { return l.entries[version-l.base-1] }

// fingerprint returns the fingerprint of the migrations up to version, which the
// ladder must have.
func (l *ladder) fingerprint(version uint32) Fingerprint { return l.fingerprints[version-l.base-1] }

// latest returns the highest version, 0 if there is none.
func (l *ladder) latest() uint32 {
	if len(l.entries) == 0 {
		return 0
	}
	return l.entries[len(l.entries)-1].Version
}

// floors returns the oldest versions whose programs may still read, and write, a
// store at version, which the ladder must have.
func (l *ladder) floors(version uint32) (readable, writable uint32) {
	return l.floor(version, func(m Migration) uint32 {
		if m.ReadableFrom > 0 {
			return m.ReadableFrom
		}
		return m.WritableFrom
	}), l.floor(version, func(m Migration) uint32 { return m.WritableFrom })
}

// floor returns the oldest version from which every migration up to version
// declares that it does no harm.
func (l *ladder) floor(version uint32, declared func(Migration) uint32) (oldest uint32) {
	for v := version; l.has(v); v-- {
		from := declared(l.at(v).Migration)
		oldest = max(oldest, from)
		if from == 0 || oldest >= v || !l.has(v-1) {
			return max(oldest, v)
		}
	}
	return version
}

// next returns the version that a store at version goes to.
func (l *ladder) next(version uint32) uint32 { return max(version, l.base) + 1 }

// A Fingerprint identifies a migration and everything before it: it is a hash of
// the versions and names up to that migration. Two programs whose fingerprints
// at a version agree have the same migrations, by name, up to there.
type Fingerprint [8]byte

// String returns the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Fingerprint) UnmarshalText(text []byte) (err error) {
	*f, err = parseFingerprint(string(text))
	return err
}

// parseFingerprint is the inverse of String.
func parseFingerprint(text string) (Fingerprint, error) {
	f, err := hex.DecodeString(text)
	if err != nil || len(f) != len(Fingerprint{}) {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: want %d hexadecimal digits", text, 2*len(Fingerprint{}))
	}
	return Fingerprint(f), nil
}

// extend returns the fingerprint of a ladder that goes on from f with m.
func (f Fingerprint) extend(m Migration) (next Fingerprint) {
	var room [12 + maxNameLen]byte
	buf := append(room[:0], f[:]...)
	buf = binary.BigEndian.AppendUint32(buf, m.Version)
	buf = append(buf, m.Name...)
	binary.BigEndian.PutUint64(next[:], xxhash.Sum64(buf))
	return next
}

var defaultRegistry Registry

// DefaultRegistry returns the registry that the function [Register] adds to.
func DefaultRegistry() *Registry { return &defaultRegistry }

// NewRegistry returns a registry of the given migrations.
func NewRegistry(migrations ...Migration) *Registry {
	r := &Registry{entries: make([]entry, len(migrations))}
	for i, m := range migrations {
		r.entries[i].Migration = m
	}
	return r
}

// Register adds m to the default registry. It is meant for init functions: it
// reports nothing, and [Registry.Check] reports every fault of every migration
// together. The file that calls it must be named after the migration, for
// example v0002_add_system_metrics.go, so that two branches that take the same
// number meet in version control.
func Register(m Migration) {
	_, file, _, _ := runtime.Caller(1)
	defaultRegistry.add(entry{m, filepath.Base(file)})
}

// Register adds m to r. Like the function Register it reports nothing; any file
// may call it.
func (r *Registry) Register(m Migration) { r.add(entry{Migration: m}) }

func (r *Registry) add(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	if r.checked.Load() != nil { // a load costs less than a store, for each of a thousand
		r.checked.Store(nil)
	}
}

// Check reports every fault of the registered migrations together, as a
// *multierror.Error: gaps and duplicates in the versions, a missing Up, bad or
// repeated names, a file that is not named after its migration. It returns nil
// if there is none; an empty registry has none. The runner checks by itself,
// before it touches the store.
func (r *Registry) Check() error { return r.ladder().faults }

// Migrations returns the migrations in order of their versions.
func (r *Registry) Migrations() []Migration { return migrations(r.ladder().entries) }

// Latest returns the highest version, 0 if the registry is empty.
func (r *Registry) Latest() uint32 {
	return r.ladder().latest()
}

func (r *Registry) ladder() *ladder {
	if l := r.checked.Load(); l != nil {
		return l
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.checked.Load()
	if l == nil {
		l = newLadder(r.entries)
		r.checked.Store(l)
	}
	return l
}

func newLadder(entries []entry) *ladder {
	byVersion := func(a, b entry) int { return cmp.Compare(a.Version, b.Version) }
	if !slices.IsSortedFunc(entries, byVersion) {
		entries = slices.Clone(entries)
		slices.SortStableFunc(entries, byVersion)
	}
	l := &ladder{
		entries:      entries,
		fingerprints: make([]Fingerprint, len(entries)),
		faults:       faults(entries),
	}
	var f Fingerprint
	for i := range entries {
		if b := entries[i].Baseline; b != nil && i == 0 {
			l.base = max(entries[i].Version, 1) - 1
			f, _ = parseFingerprint(b.Fingerprint) // a bad one is among the faults
		} else {
			f = f.extend(entries[i].Migration)
		}
		l.fingerprints[i] = f
	}
	return l
}

// migrations returns the migrations of entries.
func migrations(entries []entry) []Migration {
	ms := make([]Migration, len(entries))
	for i, e := range entries {
		ms[i] = e.Migration
	}
	return ms
}

func faults(sorted []entry) error {
	var faults *multierror.Error
	report := func(format string, args ...any) {
		faults = multierror.Append(faults, fmt.Errorf(format, args...))
	}
	names := newNameTable(sorted)
	next := uint32(1)
	if len(sorted) > 0 && sorted[0].Baseline != nil {
		next = max(sorted[0].Version, 1)
	}
	for i := range sorted {
		e := &sorted[i]
		if err := checkCompatible(&e.Migration); err != nil {
			report("migration %s: %w", e.ID(), err)
		}
		if e.Baseline != nil && i > 0 {
			report("migration %s is a baseline after other migrations: want it to be the first", e.ID())
		}
		switch {
		case e.Version == 0:
			report("migration %q has version 0: versions start at 1", e.Name)
		case e.Version < next:
			report("version %d is registered twice: %q takes it again", e.Version, e.Name)
		case e.Version > next:
			report("version %d (%q) leaves a gap: want version %d next", e.Version, e.Name, next)
			next = e.Version + 1
		default:
			next++
		}
		other := names.add(i)
		if err := checkName(e.Name); err != nil {
			report("migration of version %d: %w", e.Version, err)
		} else if other != nil && other.Version != e.Version {
			report("versions %d and %d are both named %q", other.Version, e.Version, e.Name)
		}
		if e.Up == nil {
			report("migration %s has no Up", e.ID())
		}
		if e.file == "" {
			continue
		}
		var room [2 * maxNameLen]byte // a string for each would cost more than all else
		if want := append(e.appendID(room[:0]), ".go"...); e.file != string(want) {
			report("migration %s is registered in %s: want %s", e.ID(), e.file, string(want))
		}
	}
	return faults.ErrorOrNil()
}

// checkCompatible reports why what m says of other versions cannot be.
func checkCompatible(m *Migration) error {
	if m.ReadableFrom > m.Version || m.WritableFrom > m.Version {
		return errors.New("ReadableFrom and WritableFrom name older versions: want at most its own")
	}
	if m.WritableFrom > 0 && m.ReadableFrom > m.WritableFrom {
		return errors.New("ReadableFrom is beyond WritableFrom: a program that may write may read")
	}
	if m.Baseline == nil {
		return nil
	}
	_, err := parseFingerprint(m.Baseline.Fingerprint)
	return err
}

// A nameTable finds entries by name. It is a hash table of indexes plus 1, because
// a map would be the larger part of what a check of many migrations costs.
type nameTable struct {
	entries []entry
	slots   []uint32 // at least twice as many as entries
}

var nameSeed = maphash.MakeSeed()

func newNameTable(entries []entry) nameTable {
	return nameTable{entries, make([]uint32, 2<<bits.Len(uint(len(entries))))}
}

// add adds entry i and returns the last added one of the same name, or nil.
func (t nameTable) add(i int) (other *entry) {
	name := t.entries[i].Name
	mask := uint64(len(t.slots) - 1)
	slot := maphash.String(nameSeed, name) & mask
	for ; t.slots[slot] != 0; slot = (slot + 1) & mask {
		if e := &t.entries[t.slots[slot]-1]; e.Name == name {
			other = e
			break
		}
	}
	t.slots[slot] = uint32(i) + 1
	return other
}

// checkName reports why name cannot name a migration.
func checkName(name string) error {
	if name == "" || len(name) > maxNameLen {
		return fmt.Errorf("name of %d characters: want 1 to %d", len(name), maxNameLen)
	}
	last := byte('_')
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9' && i > 0, c == '_' && last != '_':
			last = c
		default:
			return errName(name)
		}
	}
	if last == '_' {
		return errName(name)
	}
	return nil
}

func errName(name string) error {
	return fmt.Errorf("name %q: want lower-case words of letters and digits joined by single underscores", name)
}
