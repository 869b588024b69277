package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
)

// TestInterruptedLog: what is said of an interrupt is a line of the log, also of a command
// that has no store, and of restore.
func TestInterruptedLog(t *testing.T) {
	dir := t.TempDir()
	cfg := release(1)
	made, backups := filepath.Join(dir, "made"), filepath.Join(dir, "backups")
	for _, args := range [][]string{{"up"}, {"backup", "--dir", backups}} {
		if code, _, stderr := runIn(t.Context(), t, cfg, made, args...); code != cli.ExitDone {
			t.Fatalf("%q: exit code %d\n%s", args, code, stderr)
		}
	}
	files, err := filepath.Glob(filepath.Join(backups, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the backups are %q, %v", files, err)
	}
	cfg.Open = func(ctx context.Context, _ string, _ cli.OpenOptions) (store.Store, error) {
		return nil, interrupt(ctx)
	}
	cfg.Commands = func(cli.View) []*cobra.Command {
		return []*cobra.Command{{Use: "own", RunE: func(cmd *cobra.Command, _ []string) error { return interrupt(cmd.Context()) }}}
	}
	for _, args := range [][]string{{"own"}, {"restore", files[0], "--into", "new"}, {"--store", "old", "status"}} {
		t.Run(args[0], func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			ctx, stop := cli.Interruptible(t.Context(), &stderr)
			defer stop()
			code := cli.Run(ctx, cfg, append(args, "--log-format", "json"), &stdout, &stderr)
			if code != cli.ExitFailed || !strings.Contains(stderr.String(), `"msg":"interrupted: stopping; nothing is lost.`) {
				t.Errorf("exit code %d, want %d\n%s", code, cli.ExitFailed, &stderr)
			}
			for line := range strings.Lines(stderr.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("this line is no JSON: %s", line)
				}
			}
		})
	}
}

// interrupt interrupts the process and returns when ctx has ended for that.
func interrupt(ctx context.Context) error {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	err = self.Signal(syscall.SIGTERM)
	<-ctx.Done()
	return errors.Join(err, ctx.Err())
}
