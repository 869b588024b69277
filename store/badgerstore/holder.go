package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/disk"
)

// isLocked recognises Badger's report of a directory that another process has
// open, which has no type, only a text, and that of package disk.
func isLocked(err error) bool {
	return errors.Is(err, disk.ErrLocked) || strings.Contains(err.Error(), "Cannot acquire directory lock")
}

// holder says who has dir open, from the file LOCK, in which Badger leaves the PID
// when it opens a directory for writing, and which it removes on closing.
func holder(dir string) *store.LockedError {
	lock := filepath.Join(dir, "LOCK")
	data, err := os.ReadFile(lock)
	if err != nil {
		return &store.LockedError{}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return &store.LockedError{}
	}
	e := &store.LockedError{PID: pid, Gone: gone(pid)}
	if info, err := os.Stat(lock); err == nil {
		e.Since = info.ModTime()
	}
	if !e.Gone {
		e.Command = command(pid)
	}
	return e
}

// gone reports whether there is no process with that PID.
func gone(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return true // Windows looks for it here
	}
	defer func() { _ = process.Release() }()
	err = process.Signal(syscall.Signal(0))
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}

// command returns the name of the program that a process runs, where the system
// has a file that tells. Its arguments can be secret.
func command(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	program, _, _ := strings.Cut(string(data), "\x00")
	if program == "" {
		return ""
	}
	return filepath.Base(program)
}
