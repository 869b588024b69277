package maintenance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// draftOf returns the name under which a run of job writes file. Each run has one of its
// own, because one that lost its job may still write.
func draftOf(job systables.Job, file string) string {
	return fmt.Sprintf(".%s.%s.%d", file, job.ID, job.Attempts)
}

// draftName matches the name of a draft: of which file, job and run.
var draftName = regexp.MustCompile(`^\.(.+\.parquet)\.([^.]+)\.([0-9]+)$`)

// orphanAge is how long a draft was not written that belongs to no job of this store, and
// so may be one of another store with the same directory, before it is removed.
const orphanAge = 24 * time.Hour

// removeDrafts removes the drafts in dir that no run works on any more. Runs remove their
// own, unless their process was killed.
func removeDrafts(ctx context.Context, run *jobs.Run, dir *os.Root) error {
	files, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	var stale []string
	err = run.Store.View(ctx, func(s store.Reader) error {
		for _, file := range files {
			is, err := isStale(s, file)
			if err != nil {
				return err
			}
			if is {
				stale = append(stale, file.Name())
			}
		}
		return nil
	})
	for _, name := range stale {
		switch removed := dir.Remove(name); {
		case removed == nil:
			run.Logger.InfoContext(ctx, "unfinished file of an interrupted job removed", "file", name)
		case !errors.Is(removed, fs.ErrNotExist): // another job may have been faster
			err = errors.Join(err, removed)
		}
	}
	return err
}

// isStale reports whether file is a draft that no run works on.
func isStale(s store.Reader, file fs.DirEntry) (bool, error) {
	parts := draftName.FindStringSubmatch(file.Name())
	if parts == nil || !file.Type().IsRegular() {
		return false, nil
	}
	job, err := systables.Jobs.Get(s, systables.JobID(parts[2]))
	switch {
	case err == nil:
		working := job.Status == jobs.Running && strconv.Itoa(int(job.Attempts)) == parts[3]
		return job.Type == TypeFlush && !working, nil
	case !errors.Is(err, systables.ErrNotFound):
		return false, err
	}
	if uuid.Validate(parts[2]) != nil {
		return false, nil // Submit has made no such ID
	}
	info, err := file.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && time.Since(info.ModTime()) > orphanAge, err
}
