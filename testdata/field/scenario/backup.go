package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/perf/benchfmt"

	"example.com/field/tool"
)

func init() { register(Scenario{"Backup", saving}) }

// saving measures a backup and the restore of it, in processes of their own.
func saving(ctx context.Context, b *Bench) error {
	rows := b.Sizes.BackupRows
	return b.alternate(ctx, fmt.Sprintf("rows=%d", rows), 3, func(ctx context.Context, t tool.Tool) error {
		if t.Restore == nil {
			return nil
		}
		return b.withRows(ctx, t, rows, func(dir string) error {
			return b.inNew(func(folder string) error { return b.saveAndRestore(ctx, t, rows, dir, folder) })
		})
	})
}

// saveAndRestore measures one backup of the database in dir, into folder, and one
// restore.
func (b *Bench) saveAndRestore(ctx context.Context, t tool.Tool, rows int, dir, folder string) error {
	w := work{Tool: t.Name, Dir: dir, File: filepath.Join(folder, "backup"), Rows: rows}
	taken, err := backupInChild.Run(ctx, w)
	if err != nil {
		return err
	}
	info, err := os.Stat(w.File)
	if err != nil {
		return err
	}
	size := benchfmt.Value{Value: float64(info.Size()), Unit: "file-B"}
	err = b.record(t, fmt.Sprintf("do=backup/rows=%d", rows), 1, ns(taken.Seconds), perGB(taken, rows), peak(taken.Peak), size)
	if err != nil {
		return err
	}
	return b.inNew(func(dir string) error {
		w.Dir = dir
		restored, err := restoreInChild.Run(ctx, w)
		if err != nil {
			return err
		}
		return b.record(t, fmt.Sprintf("do=restore/rows=%d", rows), 1, ns(restored.Seconds), perGB(restored, rows), peak(restored.Peak))
	})
}

// perGB is a time for each GB of the keys and values of the accounts.
func perGB(c cost, rows int) benchfmt.Value {
	return benchfmt.Value{Value: c.Seconds / (float64(rows) * float64(tool.AccountBytes) / 1e9), Unit: "sec/GB"}
}
