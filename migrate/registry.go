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
	mu         sync.Mutex
	migrations []Migration            // append-only: a ladder shares them
	misplaced  []error                // for each whose file is not named after it
	checked    atomic.Pointer[ladder] // the result of the last check, nil after a Register
}

// A ladder is a registry's migrations, checked and in order: migrations[i] has
// version base+i+1 and fingerprints[i] covers it and all before it.
type ladder struct {
	base         uint32 // the version that the first migration leads up from, if the store is not empty
	migrations   []Migration
	fingerprints []Fingerprint
	faults       error
}

// has reports whether the ladder has the migration that leads to version.
func (l *ladder) has(version uint32) bool {
	return version > l.base && version-l.base <= uint32(len(l.migrations))
}

// at returns the migration that leads to version, which the ladder must have.
func (l *ladder) at(version uint32) Migration { return l.migrations[version-l.base-1] }

// fingerprint returns the fingerprint of the migrations up to version, which the
// ladder must have.
func (l *ladder) fingerprint(version uint32) Fingerprint { return l.fingerprints[version-l.base-1] }

// latest returns the highest version, 0 if there is none.
func (l *ladder) latest() uint32 {
	if len(l.migrations) == 0 {
		return 0
	}
	return l.migrations[len(l.migrations)-1].Version
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
		from := declared(l.at(v))
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

// chain fills in l.fingerprints, and the base they begin at.
func (l *ladder) chain() {
	l.fingerprints = make([]Fingerprint, len(l.migrations))
	var f Fingerprint
	var room [12 + maxNameLen]byte
	for i := range l.migrations {
		m := &l.migrations[i]
		if m.Baseline != nil && i == 0 {
			l.base = max(m.Version, 1) - 1
			f, _ = parseFingerprint(m.Baseline.Fingerprint) // a bad one is among the faults
		} else {
			buf := append(room[:0], f[:]...)
			buf = binary.BigEndian.AppendUint32(buf, m.Version)
			buf = append(buf, m.Name...)
			binary.BigEndian.PutUint64(f[:], xxhash.Sum64(buf))
		}
		l.fingerprints[i] = f
	}
}

var defaultRegistry Registry

// DefaultRegistry returns the registry that the function [Register] adds to.
func DefaultRegistry() *Registry { return &defaultRegistry }

// NewRegistry returns a registry of the given migrations.
func NewRegistry(migrations ...Migration) *Registry {
	return &Registry{migrations: slices.Clone(migrations)}
}

// Register adds m to the default registry. It is meant for init functions: it
// reports nothing, and [Registry.Check] reports every fault of every migration
// together. The file that calls it must be named after the migration, for
// example v0002_add_system_metrics.go, so that two branches that take the same
// number meet in version control.
func Register(m Migration) {
	_, file, _, _ := runtime.Caller(1)
	defaultRegistry.add(m, filepath.Base(file))
}

// Register adds m to r. Like the function Register it reports nothing; any file
// may call it.
func (r *Registry) Register(m Migration) { r.add(m, "") }

// add adds m, which file registers; "" has no say.
func (r *Registry) add(m Migration, file string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.migrations = append(r.migrations, m)
	var room [2 * maxNameLen]byte // a string for each would cost more than all else
	if want := append(m.appendID(room[:0]), ".go"...); file != "" && file != string(want) {
		r.misplaced = append(r.misplaced, fmt.Errorf("migration %s is registered in %s: want %s", m.ID(), file, string(want)))
	}
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
func (r *Registry) Migrations() []Migration { return slices.Clone(r.ladder().migrations) }

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
		l = newLadder(r.migrations, r.misplaced)
		r.checked.Store(l)
	}
	return l
}

func newLadder(migrations []Migration, misplaced []error) *ladder {
	if !inOrder(migrations) {
		migrations = slices.Clone(migrations)
		slices.SortStableFunc(migrations, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
	}
	l := &ladder{migrations: migrations}
	l.faults = multierror.Append(faults(migrations), misplaced...).ErrorOrNil()
	l.chain()
	return l
}

// inOrder reports whether migrations are in order of their versions. A function that
// compares two would be given copies of them, each larger than all else there is to read.
func inOrder(migrations []Migration) bool {
	for i := 1; i < len(migrations); i++ {
		if migrations[i].Version < migrations[i-1].Version {
			return false
		}
	}
	return true
}

func faults(sorted []Migration) (faults *multierror.Error) {
	report := func(format string, args ...any) {
		faults = multierror.Append(faults, fmt.Errorf(format, args...))
	}
	var names map[string]uint32 // the last version of each, if one may be taken twice
	if namesMayRepeat(sorted) {
		names = map[string]uint32{}
	}
	next := uint32(1)
	if len(sorted) > 0 && sorted[0].Baseline != nil {
		next = max(sorted[0].Version, 1)
	}
	for i := range sorted {
		m := &sorted[i]
		if err := checkCompatible(m); err != nil {
			report("migration %s: %w", m.ID(), err)
		}
		if m.Baseline != nil && i > 0 {
			report("migration %s is a baseline after other migrations: want it to be the first", m.ID())
		}
		switch {
		case m.Version == 0:
			report("migration %q has version 0: versions start at 1", m.Name)
		case m.Version < next:
			report("version %d is registered twice: %q takes it again", m.Version, m.Name)
		case m.Version > next:
			report("version %d (%q) leaves a gap: want version %d next", m.Version, m.Name, next)
			next = m.Version + 1
		default:
			next++
		}
		other, taken := names[m.Name]
		if names != nil {
			names[m.Name] = m.Version
		}
		if err := checkName(m.Name); err != nil {
			report("migration of version %d: %w", m.Version, err)
		} else if taken && other != m.Version {
			report("versions %d and %d are both named %q", other, m.Version, m.Name)
		}
		if m.Up == nil {
			report("migration %s has no Up", m.ID())
		}
	}
	return faults
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

// namesMayRepeat reports whether two migrations may have one name: whether they have one
// hash. It keeps the hashes in a table of its own, because a map of the names would be
// the larger part of what a check of many migrations costs.
func namesMayRepeat(migrations []Migration) bool {
	seed := maphash.MakeSeed()
	hashes := make([]uint32, 2<<bits.Len(uint(len(migrations)))) // 0 is a free place
	last := uint64(len(hashes) - 1)
	for i := range migrations {
		full := maphash.String(seed, migrations[i].Name)
		hash, place := uint32(full>>32)|1, full&last
		for ; hashes[place] != 0; place = (place + 1) & last {
			if hashes[place] == hash {
				return true
			}
		}
		hashes[place] = hash
	}
	return false
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
