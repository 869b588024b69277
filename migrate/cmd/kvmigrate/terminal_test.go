//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

// A terminal is a process on one, and what it has shown so far.
type terminal struct {
	*os.File
	process *exec.Cmd
	shown   []byte
}

// onTerminal starts kvmigrate-slow up in dir on a terminal of 80 columns.
func onTerminal(t *testing.T, dir string, args ...string) *terminal {
	t.Helper()
	return onTerminalOf(t, "xterm-256color", "kvmigrate-slow", dir, append([]string{"--store", "db", "up"}, args...)...)
}

// onTerminalOf starts a program on a terminal of that type.
func onTerminalOf(t *testing.T, kind, name, dir string, args ...string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test's binary is the program of which it has the name.
	program := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "TERM="+kind)
	f, err := pty.StartWithSize(c, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &terminal{File: f, process: c}
}

// await reads until the terminal has shown text, or to the end if that is "".
func (c *terminal) await(t *testing.T, text string) {
	t.Helper()
	for text == "" || !bytes.Contains(c.shown, []byte(text)) {
		part := make([]byte, 4096)
		n, err := c.Read(part)
		c.shown = append(c.shown, part[:n]...)
		if err != nil {
			if text != "" {
				t.Fatalf("the process ended and did not show %q:\n%s", text, c.shown)
			}
			return
		}
	}
}

// What kvmigrate-slow shows while its last migration runs, and when it is done.
var (
	slowLabel = fmt.Sprintf("v%d slow ", migrate.DefaultRegistry().Latest()+1)
	slowDone  = fmt.Sprintf("system schema is at v%[1]d (%[1]d applied)", migrate.DefaultRegistry().Latest()+1)
)

func TestBar(t *testing.T) {
	dir := t.TempDir()
	c := onTerminal(t, dir)
	c.await(t, slowLabel)
	if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.await(t, "")
	if err := c.process.Wait(); err != nil {
		t.Errorf("%v\n%s", err, c.shown)
	}
	if !bytes.Contains(c.shown, []byte(slowDone)) {
		t.Errorf("the terminal shows\n%s", c.shown)
	}
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*m`).Find(c.shown); colour != nil {
		t.Errorf("the terminal shows a colour, %q, and NO_COLOR is not asked", colour)
	}
}

// TestDumb: a terminal that cannot go back gets lines.
func TestDumb(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := onTerminalOf(t, "dumb", "kvmigrate-slow", dir, "--store", "db", "up")
	c.await(t, "")
	if err := c.process.Wait(); err != nil || !bytes.Contains(c.shown, []byte(slowDone)) || bytes.ContainsRune(c.shown, '\x1b') {
		t.Errorf("%v, and the terminal shows %q", err, c.shown)
	}
}

func TestQuietHasNoBar(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := onTerminal(t, dir, "--quiet")
	c.await(t, "")
	if err := c.process.Wait(); err != nil || string(c.shown) != slowDone+"\r\n" {
		t.Errorf("up --quiet: %v, and the terminal shows\n%s", err, c.shown)
	}
}

// The first interrupt stops the run, which says how to go on. The second ends a
// process that does not.
func TestInterrupts(t *testing.T) {
	dir := t.TempDir()
	c := onTerminal(t, dir)
	c.await(t, slowLabel)
	if _, err := c.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	// The log is written above the bar, which would overwrite anything else.
	c.await(t, `level=WARN msg="interrupted: stopping; nothing is lost. Interrupt again to stop at once"`)
	c.await(t, "the store is unchanged at v")
	c.await(t, "")
	// The terminal shows the key as ^C, to the right of which the bar must not go on.
	if !regexp.MustCompile(`(?s)\^C.*?\r[^\n].*level=WARN`).Match(c.shown) {
		t.Errorf("after the ^C nothing goes back to the beginning of the line: %q", c.shown)
	}
	if code := c.process.Wait(); c.process.ProcessState.ExitCode() != 1 {
		t.Errorf("after an interrupt: %v; want exit code 1", code)
	}

	if err := os.WriteFile(filepath.Join(dir, "deaf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c = onTerminal(t, dir)
	c.await(t, slowLabel)
	if _, err := c.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	c.await(t, "interrupted")
	if _, err := c.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	c.await(t, "")
	_ = c.process.Wait()
	status, _ := c.process.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("after a second interrupt: %v; want the process ended by it", c.process.ProcessState)
	}
}

// TestWaits: who waits for an upgrade sees how far it is, and then what it waited for.
func TestWaits(t *testing.T) {
	latest := migrate.DefaultRegistry().Latest()
	file := backedUp(t, t.TempDir())
	for _, kind := range []string{"xterm-256color", "dumb"} {
		for _, waits := range []struct {
			command string
			args    []string
			done    string
		}{
			{"status", []string{"--store", "db"}, fmt.Sprintf("stored version  v%d", latest+1)},
			{"restore", []string{"--store", "db", file}, fmt.Sprintf("restored system schema v%d into db ", latest)},
			{"copy", []string{"--from", "db", "--to", "other"}, "copied db to other: "},
		} {
			t.Run(kind+" "+waits.command, func(t *testing.T) {
				dir := t.TempDir()
				upgrade := onTerminal(t, dir)
				upgrade.await(t, slowLabel)
				c := onTerminalOf(t, kind, "kvmigrate-slow", dir, append([]string{waits.command, "--wait", "1h"}, waits.args...)...)
				c.await(t, "waiting up to 1h0m0s: store is in use by another process (PID ")
				if kind == "dumb" {
					c.await(t, fmt.Sprintf(`level=INFO msg="the other process: v%d -> v%d (slow): 0 steps in `, latest, latest+1))
				} else {
					c.await(t, slowLabel)
				}
				if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				c.await(t, waits.done)
				c.await(t, "")
				if err := c.process.Wait(); err != nil {
					t.Errorf("%v\n%s", err, c.shown)
				}
				upgrade.await(t, "")
				if err := upgrade.process.Wait(); err != nil {
					t.Errorf("%v\n%s", err, upgrade.shown)
				}
			})
		}
	}
}

// backedUp makes a store in dir and returns the path of its backup.
func backedUp(t *testing.T, dir string) (file string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	for _, args := range [][]string{{"up"}, {"backup", "--dir", filepath.Join(dir, "backups")}} {
		stdout.Reset()
		args = append([]string{"--store", filepath.Join(dir, "db"), "--quiet"}, args...)
		if code := cli.Run(t.Context(), tablescli.Config(), args, &stdout, &stderr); code != cli.ExitDone {
			t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, stderr.Bytes())
		}
	}
	file, _, _ = strings.Cut(stdout.String(), " (")
	return file
}

// TestShows: what reads a whole store or a whole file shows how far it is, and its bar goes
// when it is done.
func TestShows(t *testing.T) {
	home := t.TempDir()
	file := backedUp(t, home)
	for _, tt := range []struct {
		program, label string
		args           []string
		done           string // the last line
	}{
		{"kvmigrate-saving", "writing ", []string{"--store", "db", "backup", "--dir", "backups"}, `backups/system-.*\.kvbackup \(v\d+, .*\)`},
		{"kvmigrate-looking", "verifying ", []string{"--store", "db", "verify"}, `system schema is as it should be at v\d+: .*`},
		{"kvmigrate-opening", "verifying ", []string{"restore", file, "--into", "new"}, `restored system schema v\d+ into new .*`},
	} {
		t.Run(tt.program, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(home)); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "backups")); err != nil {
				t.Fatal(err)
			}
			c := onTerminalOf(t, "xterm-256color", tt.program, dir, tt.args...)
			c.await(t, tt.label)
			if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.await(t, "")
			if err := c.process.Wait(); err != nil || !regexp.MustCompile(`(?m)^(\x1b\[1A\x1b\[J)?`+tt.done+`\r\n$`).Match(c.shown) {
				t.Errorf("%v, and the terminal shows %q", err, c.shown)
			}
		})
	}
}

// TestSamplesFit: what a dry run and diff show of entries fits the terminal, by its cells,
// and is whole where there is none.
func TestSamplesFit(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		st, err := badgerstore.Open(t.Context(), filepath.Join(dir, name), badgerstore.Options{Configure: badgerstore.Small})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Update(t.Context(), st, func(tx store.Txn) error {
			return tx.Set(store.Entry{Key: []byte("app/" + strings.Repeat("本", 20)), Value: []byte("x" + strings.Repeat(name, 90))})
		}); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, args := range map[string][]string{
		"diff":    {"diff", "a", "b"},
		"dry run": {"--store", "a", "--allow-unversioned", "--quiet", "up", "--dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			c := onTerminalOf(t, "xterm-256color", "kvmigrate", dir, args...)
			c.await(t, "")
			_ = c.process.Wait() // diff finds differences
			widest := 0
			for line := range strings.Lines(string(c.shown)) {
				if !strings.HasPrefix(line, "  ") { // it is prose, which a terminal breaks
					continue
				}
				widest = max(widest, runewidth.StringWidth(strings.TrimRight(line, "\r\n")))
			}
			if widest < 79 || widest > 80 || !bytes.Contains(c.shown, []byte("…\r\n")) {
				t.Errorf("the longest line takes %d columns, want that it is cut to 80:\n%s", widest, c.shown)
			}
		})
	}
	var stdout, stderr bytes.Buffer
	cli.Run(t.Context(), tablescli.Config(), []string{"diff", filepath.Join(dir, "a"), filepath.Join(dir, "b")}, &stdout, &stderr)
	if want := "    -> hex:78" + strings.Repeat("62", 90) + "\n"; !strings.Contains(stdout.String(), want) {
		t.Errorf("without a terminal: want the line %q\n%s%s", want, &stdout, &stderr)
	}
}
