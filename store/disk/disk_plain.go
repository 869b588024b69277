//go:build !linux && !darwin && !windows

package disk

import (
	"errors"
	"syscall"
)

func free(string) (uint64, error) { return 0, errors.ErrUnsupported }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }
