// Package backup writes the entries of a store to one file and restores them.
//
// # What a backup is
//
// A backup holds all entries of one snapshot, of all schemas, with their expiry and
// user meta. It is compressed, and sealed by a checksum over the whole file.
// docs/on-disk-format.md has its bytes. Neither taking nor restoring one interprets a
// value or compares a version, so a program works with the backups and the stores of
// programs that are newer than itself.
//
// # Taking
//
// [Take] writes to a temporary file, makes it durable, reads it back whole, and only
// then gives it its name, which has the schema, the version and the content in it. A
// backup of the same entries that is there already is used again. Whatever goes
// wrong, there is either a good file or none, and the store is only read.
//
// migrate.Options.Backup takes one before the first pending migration.
//
// # Restoring
//
// [Restore] fills an empty store, after it has read the whole file; [Compare] says
// whether a store holds what a backup does. badgerstore.Replace puts a store that was
// filled in this way in the place of another.
//
// # Secrets
//
// A backup of an encrypted store is encrypted with the same key, by age. Files are
// readable by their owner alone.
package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/disk"
)

// Options say where backups are kept, and how many.
type Options struct {
	// Dir is the directory of the backups, which is created if need be. Give
	// each store one of its own, for Keep counts all backups of a schema in it.
	// One inside the store's, which a restore puts aside as a whole, is refused
	// with ErrInsideStore.
	Dir string

	// Keep is how many backups of a schema stay, newest first and the one just
	// taken or used again included, whatever store they are of. Damaged files
	// do not count and stay too, and so does the one of UpgradedFrom. 0 keeps
	// all.
	Keep int

	// UpgradedFrom, if not nil, is the version at which the last upgrade began.
	// The way back from that is its backup, the newest good one of the lowest
	// version from there on, and Keep never removes it: up to one backup more
	// than Keep stays. A migrate.Runner sets it.
	UpgradedFrom *uint32

	// Key encrypts the backup: at least 16 bytes from a random source, and not
	// a password that people remember. Nil means the key of the store if that
	// is encrypted ([store.Encrypter]), and otherwise no encryption.
	Key []byte

	// Plaintext leaves the backup of an encrypted store in the clear.
	Plaintext bool

	// Headroom is how many bytes must stay free in Dir's file system beside
	// the backup, which is taken to need as much as the store does. 0 means a
	// tenth of the store and 16 MiB.
	Headroom uint64

	// Observer, if not nil, is told how far it is, about once a second and at
	// the end of each stage, by one goroutine.
	Observer func(Progress)
}

// A Header says what a backup is of.
type Header struct {
	Schema  string    // on whose behalf it was taken
	Version uint32    // of that schema in the store, 0 if it has none
	Program string    // that took it
	Created time.Time // UTC, milliseconds
}

// An Info is what a file says of itself.
type Info struct {
	Header
	Path      string
	Size      int64  // of the file, in bytes
	Entries   uint64 // in it
	Bytes     uint64 // of their keys and values
	Encrypted bool
	Content   string // identifies the entries: 16 hexadecimal digits
}

// A Taken is a backup that [Take] made or found.
type Taken struct {
	Info
	Reused  bool     // whether it was there already
	Removed []string // the backups that Options.Keep left no room for

	// Warning is what is wrong beside: damaged backups, or old ones that could
	// not be removed. Several are a *multierror.Error. Nil if nothing is.
	Warning error
}

// Take makes a backup of all entries of st. describe says what it is of, from the
// snapshot that is saved; an error of it ends Take and is returned unchanged. If Dir
// has a good backup with that schema and version and the same entries, but for those
// that have expired since, it is used again and nothing is written.
//
// The error is a [*NoSpaceError] if there is no room, and matches [ErrInsideStore] for a
// Dir that would be moved away with the store. Whatever the error, the store
// was only read and Dir has no new file. What a killed Take left there the next one
// removes. It may be called concurrently, also by several processes.
func Take(ctx context.Context, st store.Store, o Options, describe func(store.Reader) (Header, error)) (Taken, error) {
	key, err := o.key(st)
	if err != nil {
		return Taken{}, err
	}
	if err := o.checkDir(st); err != nil {
		return Taken{}, err
	}
	var warnings *multierror.Error
	var taken Taken
	var temp *temporary
	meter := newMeter(o.Observer)
	err = st.View(ctx, func(s store.Reader) error {
		h, err := describe(s)
		if err != nil {
			return err
		}
		h.Created = h.Created.UTC().Truncate(time.Millisecond)
		if !fileName.MatchString(h.name("0000000000000000")) {
			return fmt.Errorf("a schema cannot be named %q", h.Schema)
		}
		if err := disk.MkdirAll(o.Dir, 0o700); err != nil {
			return fmt.Errorf("make the directory of backups: %w", err)
		}
		if err := removeLeftovers(o.Dir); err != nil {
			warnings = multierror.Append(warnings, err)
		}
		found, damaged, err := findSame(ctx, s, o.Dir, h, key, meter)
		if err != nil {
			return err
		}
		if damaged != nil {
			warnings = multierror.Append(warnings, damaged)
		}
		if found != nil {
			taken = Taken{Info: *found, Reused: true}
			return disk.Sync(o.Dir) // whoever gave it its name may have been killed before this
		}
		if err := o.checkSpace(ctx, st); err != nil {
			return err
		}
		if temp, err = newTemporary(o.Dir); err != nil {
			return full(o.Dir, err)
		}
		taken.Info, err = write(ctx, temp.file, s, h, key, meter)
		return err
	})
	if temp != nil {
		defer temp.discard()
	}
	if err == nil && temp != nil {
		err = temp.publish(ctx, &taken.Info, key, meter)
	}
	if err != nil {
		return Taken{}, full(o.Dir, err)
	}
	if o.Keep > 0 {
		var err error
		if taken.Removed, err = prune(ctx, o, taken.Info); err != nil {
			warnings = appendNew(warnings, err)
		}
	}
	taken.Warning = warnings.ErrorOrNil()
	return taken, nil
}

// key returns the key to encrypt with, nil for none.
func (o Options) key(st store.Store) ([]byte, error) {
	if o.Plaintext {
		if o.Key != nil {
			return nil, errors.New("a backup cannot have a key and be plaintext")
		}
		return nil, nil
	}
	return keyOf(o.Key, st)
}

// checkDir refuses a directory inside that of the store.
func (o Options) checkDir(st store.Store) error {
	if o.Dir == "" {
		return errors.New("no directory is named for backups")
	}
	l, ok := store.As[store.Locator](st)
	if !ok || l.Dir() == "" {
		return nil
	}
	own, err := os.Stat(l.Dir())
	if err != nil {
		return nil //nolint:nilerr // the store knows better what is wrong with it
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	for at := dir; ; at = filepath.Dir(at) {
		// What does not exist yet is in its parent, and a link is where it leads.
		if real, err := filepath.EvalSymlinks(at); err == nil && real != at {
			at = real
		}
		if info, err := os.Stat(at); err == nil && os.SameFile(info, own) {
			return ErrInsideStore
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// keyOf returns key, or that of st if there is none.
func keyOf(key []byte, st store.Store) ([]byte, error) {
	if key == nil {
		if e, ok := store.As[store.Encrypter](st); ok {
			key = e.EncryptionKey()
		}
	}
	if len(key) == 0 {
		return nil, nil
	}
	if len(key) < leastKey {
		return nil, fmt.Errorf("the key of a backup has %d bytes and must have at least %d", len(key), leastKey)
	}
	return key, nil
}

// checkSpace looks for room before anything is written.
func (o Options) checkSpace(ctx context.Context, st store.Store) error {
	var size uint64
	if s, ok := store.As[store.Sizer](st); ok {
		var err error
		if size, err = s.Size(ctx); err != nil {
			return fmt.Errorf("estimate the size of the backup: %w", err)
		}
	}
	headroom := o.Headroom
	if headroom == 0 {
		headroom = size/10 + 16<<20
	}
	free, err := disk.Free(o.Dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // a full disk is found when it is met
	}
	if err != nil {
		return err
	}
	if free < size+headroom {
		return &NoSpaceError{Dir: o.Dir, Need: size + headroom, Free: free}
	}
	return nil
}

// A temporary is the file of a backup that has no name yet. Its lock tells a live one
// from what a killed process left.
type temporary struct {
	file    *os.File
	release func() error
}

const temporaryPattern = ".kvbackup-*.tmp"

func newTemporary(dir string) (*temporary, error) {
	const attempts = 100
	for range attempts {
		f, err := os.CreateTemp(dir, temporaryPattern) // readable by its owner alone
		if err != nil {
			return nil, err
		}
		release, err := disk.Lock(f.Name())
		switch {
		case err == nil:
			if isAt(f, f.Name()) {
				return &temporary{f, release}, nil
			}
			_ = release()
		case !errors.Is(err, disk.ErrLocked) && !errors.Is(err, os.ErrNotExist):
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		// Another process took it for a leftover before it was locked.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the files of new backups vanish from " + dir)
}

func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}

// publish makes the file durable, reads it back, and gives it the name of what is in
// it.
func (t *temporary) publish(ctx context.Context, info *Info, key []byte, m *meter) error {
	if err := errors.Join(t.file.Sync(), t.file.Close()); err != nil {
		return err
	}
	back, err := Verify(ctx, t.file.Name(), RestoreOptions{Key: key, Observer: m.observer})
	if err != nil {
		return fmt.Errorf("read the backup back: %w", err)
	}
	if back.Content != info.Content || back.Entries != info.Entries {
		return fmt.Errorf("read the backup back: %w: it is not what was written", ErrDamaged)
	}
	*info = back
	info.Path = filepath.Join(filepath.Dir(t.file.Name()), info.name(info.Content))
	if err := os.Rename(t.file.Name(), info.Path); err != nil {
		return err
	}
	return disk.Sync(filepath.Dir(info.Path))
}

// discard removes the file unless it was published.
func (t *temporary) discard() {
	_ = t.file.Close() // at the second time an error
	if err := os.Remove(t.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = os.Truncate(t.file.Name(), 0) // the next Take removes it
	}
	_ = t.release()
}

// removeLeftovers removes the temporary files of killed processes.
func removeLeftovers(dir string) error {
	left, err := filepath.Glob(filepath.Join(quoteGlob(dir), temporaryPattern))
	if err != nil {
		return err
	}
	var faults *multierror.Error
	for _, path := range left {
		release, err := disk.Lock(path)
		if errors.Is(err, disk.ErrLocked) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = errors.Join(os.Remove(path), release())
		}
		if err != nil {
			faults = multierror.Append(faults, err)
		}
	}
	return faults.ErrorOrNil()
}

// write writes a backup of s to f.
func write(ctx context.Context, f io.Writer, s store.Reader, h Header, key []byte, m *meter) (Info, error) {
	w, err := newWriter(f, h, key)
	if err != nil {
		return Info{}, err
	}
	m.begin(Writing, 0)
	for e, err := range s.Scan(store.Scan{}) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = w.add(e)
		}
		if err != nil {
			w.abandon()
			return Info{}, err
		}
		m.add(e)
	}
	info, err := w.close()
	m.end()
	return info, err
}

// name returns the name of the file with that content.
func (h Header) name(content string) string {
	return fmt.Sprintf("%s-v%04d-%s%s", h.Schema, h.Version, content, extension)
}

// identify returns the part of a content's checksum that names it.
func identify(sum []byte) string { return hex.EncodeToString(sum[:8]) }
