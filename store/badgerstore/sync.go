package badgerstore

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
)

// Sync implements [store.Store]. With SyncWrites, or in memory, it has nothing
// to do. Otherwise it makes every file of the database's directories durable
// and then calls Badger's Sync, because that alone leaves out the logs of
// memtables that were rotated and not yet flushed.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.begin(ctx, "sync"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if s.opts.SyncWrites || s.opts.InMemory || s.opts.ReadOnly {
		return nil
	}
	s.syncing.Lock()
	defer s.syncing.Unlock()
	dirs := slices.Compact([]string{s.opts.Dir, s.opts.ValueDir})
	for _, dir := range dirs {
		if err := s.syncDir(ctx, dir); err != nil {
			return &store.Error{Op: "sync " + dir, Err: err}
		}
	}
	return wrap("sync", nil, s.db.Sync())
}

// syncDir makes every file of dir durable, and then their names. A table never
// changes, so one that is durable is left alone the next time, and so are the
// names if there are no new ones. The caller holds syncing.
func (s *Store) syncDir(ctx context.Context, dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	durable := map[string]bool{} // beside those that are known
	named := false
	var faults *multierror.Error
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(dir, f.Name())
		unchanging, known := s.durable[path]
		if !holdsData(f.Name()) || unchanging {
			continue
		}
		// A flushed memtable's log and a compacted table may vanish meanwhile:
		// what they held is in a newer file, which Badger syncs before it
		// removes the old one.
		if err := syncFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = multierror.Append(faults, err)
			continue
		}
		durable[path] = filepath.Ext(path) == ".sst"
		named = named || !known
	}
	if named {
		if err := syncFile(dir); err != nil {
			return multierror.Append(faults, err)
		}
	}
	maps.Copy(s.durable, durable) // only now that their names are
	return faults.ErrorOrNil()
}
func holdsData(name string) bool {
	switch filepath.Ext(name) {
	case ".mem", ".vlog", ".sst":
		return true
	}
	return name == "MANIFEST" || name == "KEYREGISTRY" || name == "DISCARD"
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
