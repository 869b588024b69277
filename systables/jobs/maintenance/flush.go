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
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// Flush are the parameters of a job that makes all that the store holds durable, gives
// the room of what was overwritten and deleted back, and writes a table to a file if it
// is asked to.
type Flush struct {
	Table string `json:"table,omitempty"` // for example "audit_logs"

	// File is the name of a Parquet file for the rows of Table, in
	// [Options.ExportDir], and ends in ".parquet". One that is there already is
	// replaced when the new one is complete and durable.
	File string `json:"file,omitempty"`

	// From, To and Secrets say what File has of the table; see [export.Options].
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	Secrets bool      `json:"secrets,omitempty"`
}

// Validate returns all that is wrong with f, but for a table that does not exist.
func (f *Flush) Validate() error {
	var faults *multierror.Error
	if f.File != "" {
		if f.Table == "" {
			faults = multierror.Append(faults, errors.New("a file wants a table"))
		}
		// The name of a draft is longer, and some systems allow 255 bytes.
		if !filepath.IsLocal(f.File) || strings.ContainsAny(f.File, "/\\\x00") || strings.HasPrefix(f.File, ".") || len(f.File) > 150 || !strings.HasSuffix(f.File, ".parquet") {
			faults = multierror.Append(faults, fmt.Errorf("file %q: want a name of at most 150 bytes without a directory that ends in .parquet and does not start with a dot", f.File))
		}
	} else if !f.From.IsZero() || !f.To.IsZero() || f.Secrets {
		faults = multierror.Append(faults, errors.New("from, to and secrets want a file"))
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		faults = multierror.Append(faults, errors.New("from is not before to"))
	}
	return faults.ErrorOrNil()
}

// Flushed is the result of a flush job.
type Flushed struct {
	Reclaimed bool   `json:"reclaimed"` // false if the store is no [store.Reclaimer]
	File      string `json:"file,omitempty"`
	Rows      int64  `json:"rows,omitempty"`  // in File
	Bytes     int64  `json:"bytes,omitempty"` // of File
}

type flusher struct{ dir string }

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
		if err := r.Reclaim(ctx); err != nil {
			return nil, err
		}
		result.Reclaimed = true
	}
	if p.File == "" {
		return result, nil
	}
	result.File = p.File
	result.Rows, result.Bytes, err = f.export(ctx, run, p, definition)
	if errors.Is(err, store.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", jobs.ErrPermanent, err)
	}
	return result, err
}

// definition returns that of the table, if there is to be one, or says why the job can
// never be done.
func (f flusher) definition(ctx context.Context, st store.Store, p Flush) (d systables.Definition, err error) {
	if p.File != "" && f.dir == "" {
		return d, fmt.Errorf("%w: this program writes no files", jobs.ErrPermanent)
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

// export writes the file beside its place, makes it durable and moves it there.
func (f flusher) export(ctx context.Context, run *jobs.Run, p Flush, d systables.Definition) (rows, bytes int64, err error) {
	dir, err := os.OpenRoot(f.dir)
	if err != nil {
		return 0, 0, fmt.Errorf("export: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	// Each run has a draft of its own, because one that lost its job may still write.
	draftOf := func(attempt int32) string { return fmt.Sprintf(".%s.%s.%d", p.File, run.Job.ID, attempt) }
	for attempt := int32(1); attempt < run.Job.Attempts; attempt++ {
		_ = dir.Remove(draftOf(attempt)) // only a run that was interrupted left it
	}
	draft := draftOf(run.Job.Attempts)
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
