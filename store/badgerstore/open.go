package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
)

// openAttempts bounds the retries of an Open that meets the leftovers of a kill.
// Each attempt clears one zero-length file, and a kill leaves at most one in
// each of the two places.
const openAttempts = 4

// Options say how Open opens a directory. The zero Options are right for most
// programs.
type Options struct {
	// Configure, if not nil, changes the options that Badger opens the
	// directory with: an encryption key, cache sizes, a smaller memtable for
	// a new store. Open turns SyncWrites and DetectConflicts on again
	// afterwards. Do not lower MemTableSize for a store that exists: a
	// memtable left by a crash then no longer fits, and Badger ends the
	// process.
	Configure func(badger.Options) badger.Options

	// MustExist refuses a directory that holds no Badger store instead of
	// creating one.
	MustExist bool

	// Wait is how long Open waits for another process to close the store before it
	// gives up.
	Wait time.Duration

	// ReadOnly opens the directory without writing to it; it must exist.
	// Updates are refused. Several processes may have a store open so at a
	// time, and none meanwhile that writes.
	ReadOnly bool

	// Logger receives what Badger and this package have to say: Badger's
	// warnings and errors, and a retried Open. Nil means slog.Default.
	Logger *slog.Logger
}

// Open opens the Badger store in dir, which it creates if need be, with
// SyncWrites on: a committed transaction survives a power loss.
//
// A kill between the moment when Badger creates a log file and the moment when
// it gives it its size leaves an empty file that makes the next Open fail, once.
// Open tries again and logs it.
//
// A [Replace] that was killed between two renames, on a system that needs two, is
// finished first.
//
// The error is a [*store.LockedError] if another process has the store open, and
// still has it after the time to wait. It matches [store.ErrLocked],
// os.ErrNotExist if MustExist or ReadOnly is set and dir holds no store, and
// os.ErrPermission, or syscall.EROFS, if the directory cannot be written. With
// ReadOnly it matches [store.ErrUnsupported] after the kill of a program that
// wrote, because only opening a store for writing puts it in order.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	if err := finishReplace(dir, log); err != nil {
		return nil, &store.Error{Op: "open badger store " + dir, Err: err}
	}
	if o.MustExist || o.ReadOnly {
		if err := exists(dir); err != nil {
			return nil, &store.Error{Op: "open badger store " + dir, Err: err}
		}
	}
	opts := options(dir, o, log)
	if err := checkManifest(opts); err != nil {
		return nil, &store.Error{Op: "open badger store " + dir, Err: err}
	}
	db, err := openWaiting(ctx, opts, o.Wait, log)
	if err != nil {
		return nil, wrapOpen(dir, err)
	}
	s, err := New(db)
	if err != nil {
		_ = db.Close() // the reason for refusing it says more
		return nil, err
	}
	s.owned = true
	return s, nil
}

// checkManifest refuses a directory whose tables Badger would delete on opening:
// it removes every table that the manifest does not list, and so, after damage to
// the manifest, all of them. A table that a kill left unlisted has its memtable's
// log beside it, and the manifest is the first file that Badger creates.
func checkManifest(opts badger.Options) error {
	tables, err := filepath.Glob(filepath.Join(opts.Dir, "*.sst"))
	if err != nil || len(tables) == 0 || opts.InMemory {
		return nil //nolint:nilerr // a directory that no pattern can name is Badger's to report
	}
	logs, err := filepath.Glob(filepath.Join(opts.Dir, "*.mem"))
	if err != nil || len(logs) > 0 {
		return nil //nolint:nilerr // as above
	}
	f, err := os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it has tables, %d of them, and no MANIFEST; nothing was changed. Restore the file or a backup", store.ErrCorrupt, len(tables))
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is only read
	manifest, _, err := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
	if err == nil && len(manifest.Tables) == 0 {
		return fmt.Errorf("%w: it has tables, %d of them, and its MANIFEST lists none; nothing was changed. Restore the file or a backup", store.ErrCorrupt, len(tables))
	}
	return nil // what else is wrong with the manifest, Badger reports
}

func exists(dir string) error {
	switch _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("no Badger store there, and none was made: see whether the path is right: %w", err)
	default:
		return err
	}
}

func options(dir string, o Options, log *slog.Logger) badger.Options {
	// Without the checksum a damaged value comes back as if it were whole.
	opts := badger.DefaultOptions(dir).WithMetricsEnabled(false).WithVerifyValueChecksum(true)
	if o.Configure != nil {
		opts = o.Configure(opts)
	}
	if o.ReadOnly {
		opts.ReadOnly = true
	}
	return opts.WithSyncWrites(true).WithDetectConflicts(true).WithLogger(logger{log})
}

// waitPause is how often a store that another process has open is tried.
const waitPause = 100 * time.Millisecond

// openWaiting opens the database once no other process has it.
func openWaiting(ctx context.Context, opts badger.Options, wait time.Duration, log *slog.Logger) (db *badger.DB, err error) {
	err = waiting(ctx, opts.Dir, wait, log, func() error {
		db, err = openRetrying(ctx, opts, log)
		return err
	})
	return db, err
}

// waiting calls try until it no longer finds that another process has dir.
func waiting(ctx context.Context, dir string, wait time.Duration, log *slog.Logger, try func() error) error {
	deadline := time.Now().Add(wait)
	for told := false; ; told = true {
		err := try()
		if err == nil || !isLocked(err) || !time.Now().Add(waitPause).Before(deadline) {
			return err
		}
		if !told {
			log.InfoContext(ctx, fmt.Sprintf("waiting up to %v: %v", wait, holder(dir)))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w while waiting: %w", ctx.Err(), holder(dir))
		case <-time.After(waitPause):
		}
	}
}

func openRetrying(ctx context.Context, opts badger.Options, log *slog.Logger) (*badger.DB, error) {
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		db, err := badger.Open(opts)
		switch {
		case err == nil:
			return db, nil
		case opts.ReadOnly && concernsLogs(err):
			return nil, fmt.Errorf("%w: it was not closed properly, and only opening it for writing puts it in order", &mapped{store.ErrUnsupported, err})
		case errors.Is(err, badger.ErrWindowsNotSupported):
			return nil, &mapped{store.ErrUnsupported, err}
		case attempt == openAttempts || !leftByKill(err):
			return nil, err
		}
		log.WarnContext(ctx, "badger met an empty log file, as a kill leaves it; opening again",
			"dir", opts.Dir, "attempt", attempt)
	}
}

// leftByKill recognises Badger's report of a zero-length log file, which has no
// type, only a text. Badger gives the file its size when it reports it.
func leftByKill(err error) bool {
	return strings.Contains(err.Error(), "Create a new file") && concernsLogs(err)
}

// concernsLogs recognises an error over a memtable's log or a value log, of which
// a program that closed the store leaves none that is not in order.
func concernsLogs(err error) bool {
	text := err.Error()
	return strings.Contains(text, "while opening memtables") || strings.Contains(text, "vlog.open")
}

// logger passes on what Badger warns of. Its information and debugging lines
// are about Badger's own housekeeping and stay out of a program's log.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(format string, args ...any)   { l.log.Error(line(format, args)) }
func (l logger) Warningf(format string, args ...any) { l.log.Warn(line(format, args)) }
func (l logger) Infof(string, ...any)                {}
func (l logger) Debugf(string, ...any)               {}

// line formats a line of Badger's without the keys that it contains.
func line(format string, args []any) string {
	args = slices.Clone(args)
	for i, arg := range args {
		if b, ok := arg.([]byte); ok {
			args[i] = fmt.Sprintf("(%d bytes)", len(b))
		}
	}
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
