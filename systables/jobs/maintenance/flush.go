package maintenance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/export"
	"github.com/kvmigrate/kvmigrate/systables/internal/faults"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// Flush are the parameters of a job that makes all that the store holds durable, gives
// the room of what was overwritten and deleted back, and writes a table to a file if it
// is asked to. It also removes what such jobs left unfinished in [Options.ExportDir] when
// their process was killed.
type Flush struct {
	// Table is a system table, for example "audit_logs". It says what File has of
	// the store; the rest of the job is the same without it.
	Table string `json:"table,omitempty"`

	// File is the name of a Parquet file for the rows of Table, in
	// [Options.ExportDir], and ends in ".parquet". One that is there already is
	// replaced when the new one is complete and durable.
	File string `json:"file,omitempty"`

	// From, To and Secrets say what File has of the table; see [export.Options].
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	Secrets bool      `json:"secrets,omitempty"`
}

// maxFileName is the longest name of a file: that of a draft is longer, and some systems
// allow 255 bytes.
const maxFileName = 150

// Validate returns all that is wrong with f, but for the directory of its file.
func (f *Flush) Validate() error {
	var wrong *multierror.Error
	if f.Table != "" {
		var known []string
		for _, d := range systables.Definitions() {
			known = append(known, d.Name)
		}
		if !slices.Contains(known, f.Table) {
			wrong = multierror.Append(wrong, fmt.Errorf("there is no table %q: want one of %s", f.Table, strings.Join(known, ", ")))
		}
	}
	if f.File != "" {
		if f.Table == "" {
			wrong = multierror.Append(wrong, errors.New("a file wants a table"))
		}
		if !filepath.IsLocal(f.File) || strings.ContainsAny(f.File, "/\\\x00") || strings.HasPrefix(f.File, ".") || len(f.File) > maxFileName || !strings.HasSuffix(f.File, ".parquet") {
			wrong = multierror.Append(wrong, fmt.Errorf("file %q: want a name of at most %d bytes without a directory that ends in .parquet and does not start with a dot", f.File, maxFileName))
		}
	} else if !f.From.IsZero() || !f.To.IsZero() || f.Secrets {
		wrong = multierror.Append(wrong, errors.New("from, to and secrets want a file"))
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		wrong = multierror.Append(wrong, errors.New("from is not before to"))
	}
	return faults.Join(wrong)
}

// Flushed is the result of a flush job.
type Flushed struct {
	// Reclaimed is false if the store is no [store.Reclaimer], or was giving back room
	// for somebody else just then, another such job for example.
	Reclaimed bool `json:"reclaimed"`

	File  string `json:"file,omitempty"`
	Rows  int64  `json:"rows,omitempty"`  // in File
	Bytes int64  `json:"bytes,omitempty"` // of File
}

type flusher struct{ dir string }

// newFlusher returns one that writes to dir, wherever the process goes later.
func newFlusher(dir string) flusher {
	if abs, err := filepath.Abs(dir); dir != "" && err == nil {
		dir = abs
	}
	return flusher{dir}
}

// errNoFiles means that the program has no directory for files.
var errNoFiles = errors.New("this program writes no files: it has no directory for them")

// check says what is wrong with the directory of a file that is to be written. When the
// job runs that can be mended, so that it is tried again.
func (f flusher) check(_ context.Context, p Flush) error {
	switch {
	case p.File == "":
		return nil
	case f.dir == "":
		return errNoFiles
	}
	switch info, err := os.Stat(f.dir); {
	case err != nil:
		return fmt.Errorf("directory for files: %w", err)
	case !info.IsDir():
		return fmt.Errorf("directory for files: %s is none", f.dir)
	}
	return nil
}

func (f flusher) flush(ctx context.Context, run *jobs.Run, p Flush) (any, error) {
	definition, err := f.definition(ctx, run.Store, p)
	if err != nil {
		return nil, err
	}
	if err := run.Store.Sync(ctx); err != nil {
		return nil, err
	}
	var result Flushed
	if r, ok := store.As[store.Reclaimer](run.Store); ok {
		err := r.Reclaim(ctx)
		if err != nil && !errors.Is(err, store.ErrBusy) { // busy: somebody else is at it
			return nil, err
		}
		result.Reclaimed = err == nil
	}
	if f.dir == "" {
		return result, nil
	}
	dir, err := os.OpenRoot(f.dir)
	switch {
	case err != nil && p.File == "":
		return result, nil // there is nothing to remove
	case err != nil:
		return nil, fmt.Errorf("export: %w", err)
	}
	defer func() { _ = dir.Close() }() // what is in it is durable
	if err := removeDrafts(ctx, run, dir); err != nil {
		run.Logger.WarnContext(ctx, "unfinished files could not be removed", "error", err)
	}
	if p.File == "" {
		return result, nil
	}
	result.File = p.File
	result.Rows, result.Bytes, err = exportTo(ctx, run, dir, p, definition)
	if errors.Is(err, store.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", jobs.ErrPermanent, err)
	}
	return result, err
}

// definition returns that of the table, if there is to be one, or says why the job can
// never be done.
func (f flusher) definition(ctx context.Context, st store.Store, p Flush) (d systables.Definition, err error) {
	if p.File != "" && f.dir == "" {
		return d, fmt.Errorf("%w: %w", jobs.ErrPermanent, errNoFiles)
	}
	if p.Table == "" {
		return d, nil
	}
	var catalog []systables.Definition
	err = st.View(ctx, func(s store.Reader) (err error) {
		catalog, err = systables.Catalog(s)
		return err
	})
	if err != nil {
		return d, err
	}
	i := slices.IndexFunc(catalog, func(d systables.Definition) bool { return d.Name == p.Table })
	if i < 0 {
		return d, fmt.Errorf("%w: there is no table system.%s", jobs.ErrPermanent, p.Table)
	}
	return catalog[i], nil
}

// exportTo writes the file beside its place in dir, makes it durable and moves it there.
func exportTo(ctx context.Context, run *jobs.Run, dir *os.Root, p Flush, d systables.Definition) (rows, bytes int64, err error) {
	draft := draftOf(run.Job, p.File)
	defer func() {
		if err != nil {
			_ = dir.Remove(draft) // it may not be there
		}
	}()
	err = create(dir, draft, func(w *os.File) error {
		buffered := bufio.NewWriterSize(w, 1<<16)
		err := run.Store.View(ctx, func(s store.Reader) (err error) {
			rows, err = export.Parquet(ctx, buffered, s, d, export.Options{From: p.From, To: p.To, Secrets: p.Secrets})
			return err
		})
		if err != nil {
			return err
		}
		return buffered.Flush()
	})
	if err != nil {
		return 0, 0, err
	}
	info, err := dir.Stat(draft)
	if err != nil {
		return 0, 0, err
	}
	// The job must be this run's still, which only a transaction tells.
	if err := run.Update(ctx, func(store.Txn) error { return nil }); err != nil {
		return 0, 0, err
	}
	if err := dir.Rename(draft, p.File); err != nil {
		return 0, 0, err
	}
	return rows, info.Size(), syncDir(dir)
}

// create makes the file name in dir with what write writes, durably.
func create(dir *os.Root, name string, write func(*os.File) error) (err error) {
	w, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := write(w); err != nil {
		return err
	}
	return w.Sync()
}

// syncDir makes the names in dir durable. Windows does so by itself, and cannot be told.
func syncDir(dir *os.Root) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
