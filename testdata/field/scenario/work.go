package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"example.com/field/child"
	"example.com/field/tool"
)

// A work is what a child is to do to a database.
type work struct {
	Tool, Dir, File string
	Rows            int
	Tell            bool // pause before it begins
}

// A cost is what it took.
type cost struct {
	Seconds float64
	Peak    float64 // resident memory of the process, in bytes
}

var (
	fillInChild    = child.New("fill", fill)
	rewriteInChild = child.New("rewrite", measured(rewriteRows))
	resumeInChild  = child.New("resume", measured(resumeRows))
	dryRunInChild  = child.New("dry run", measured(dryRun))
	backupInChild  = child.New("backup", measured(backup))
	restoreInChild = child.New("restore", measured(restore))
)

func fill(ctx context.Context, w work) (none struct{}, err error) {
	t, err := tool.Named(w.Tool)
	if err != nil {
		return none, err
	}
	if err := os.Mkdir(w.Dir, 0o755); err != nil {
		return none, err
	}
	return none, with(ctx, t, w.Dir, func(db tool.Database) error { return db.Fill(ctx, w.Rows) })
}

// measured returns do with what it cost. do passes what counts for the time to timed.
func measured(do func(ctx context.Context, t tool.Tool, w work, timed func(func() error) error) error) func(context.Context, work) (cost, error) {
	return func(ctx context.Context, w work) (c cost, err error) {
		t, err := tool.Named(w.Tool)
		if err != nil {
			return c, err
		}
		err = do(ctx, t, w, func(part func() error) error {
			runtime.GC()
			if w.Tell {
				if err := child.Pause(); err != nil {
					return err
				}
			}
			start := time.Now()
			if err := part(); err != nil {
				return err
			}
			c.Seconds = time.Since(start).Seconds()
			c.Peak, err = peakMemory() // before what was done is verified
			return err
		})
		return c, err
	}
}

// rewriting is the schema whose only migration changes every account.
var rewriting = tool.Schema{Rewrite: true}

// rewriteRows changes all rows. Opening and closing do not count.
func rewriteRows(ctx context.Context, t tool.Tool, w work, timed func(func() error) error) error {
	return with(ctx, t, w.Dir, func(db tool.Database) error {
		start := db.Start(rewriting)
		if err := timed(func() error { return start(ctx) }); err != nil {
			return err
		}
		return allChanged(ctx, db, w.Rows)
	})
}

// resumeRows does what is left after the process before it was killed. Opening counts,
// and so does putting the database in order where its user has to.
func resumeRows(ctx context.Context, t tool.Tool, w work, timed func(func() error) error) error {
	var db tool.Database
	err := timed(func() (err error) {
		if db, err = t.Open(ctx, w.Dir); err != nil {
			return err
		}
		if r, ok := db.(tool.Repairer); ok {
			if _, err := r.Repair(ctx, rewriting); err != nil {
				return err
			}
		}
		return db.Start(rewriting)(ctx)
	})
	if err != nil {
		return err // the process ends with it
	}
	return errors.Join(allChanged(ctx, db, w.Rows), db.Close())
}

// dryRun tries the migration, from a closed database to a closed one. The user of a
// tool that has no dry run migrates a copy.
func dryRun(ctx context.Context, t tool.Tool, w work, timed func(func() error) error) error {
	err := timed(func() error {
		tried := false
		err := with(ctx, t, w.Dir, func(db tool.Database) error {
			d, ok := db.(tool.DryRunner)
			if !ok {
				return nil
			}
			tried = true
			return d.DryRun(ctx, rewriting)
		})
		if err != nil || tried {
			return err
		}
		return onCopy(w.Dir, func(copied string) error {
			return with(ctx, t, copied, func(db tool.Database) error { return db.Start(rewriting)(ctx) })
		})
	})
	if err != nil {
		return err
	}
	return with(ctx, t, w.Dir, func(db tool.Database) error {
		return db.Accounts(ctx, func(value []byte) error {
			_, changed, err := tool.Logins(value)
			if changed {
				err = errors.Join(err, errors.New("the dry run changed the database"))
			}
			return err
		})
	})
}

func onCopy(dir string, do func(copied string) error) (err error) {
	copied := dir + "-copy"
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		return err
	}
	return do(copied)
}

func backup(ctx context.Context, t tool.Tool, w work, timed func(func() error) error) error {
	return with(ctx, t, w.Dir, func(db tool.Database) error {
		return timed(func() error { return db.(tool.Backuper).Backup(ctx, w.File) })
	})
}

func restore(ctx context.Context, t tool.Tool, w work, timed func(func() error) error) error {
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return err
	}
	if err := timed(func() error { return t.Restore(ctx, w.File, w.Dir) }); err != nil {
		return err
	}
	return with(ctx, t, w.Dir, func(db tool.Database) error {
		n := 0
		err := db.Accounts(ctx, func([]byte) error { n++; return nil })
		if err == nil && n != w.Rows {
			err = fmt.Errorf("the restored database of %s has %d accounts; want %d", filepath.Base(w.File), n, w.Rows)
		}
		return err
	})
}

// allChanged verifies that there are n accounts and each is changed.
func allChanged(ctx context.Context, db tool.Database, n int) error {
	found := 0
	err := db.Accounts(ctx, func(value []byte) error {
		found++
		_, changed, err := tool.Logins(value)
		if err == nil && !changed {
			err = fmt.Errorf("account %d is as it was", found)
		}
		return err
	})
	if err == nil && found != n {
		err = fmt.Errorf("%d accounts; want %d", found, n)
	}
	return err
}

// peakMemory returns the most resident memory that this process had. It reads VmHWM,
// because the ru_maxrss of a child begins with its parent's.
func peakMemory() (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, line, ok := strings.Cut(string(data), "\nVmHWM:")
	if !ok {
		return 0, errors.New("the system does not tell the peak of a process's memory")
	}
	var kib float64
	_, err = fmt.Sscan(line, &kib)
	return kib * 1024, err
}
