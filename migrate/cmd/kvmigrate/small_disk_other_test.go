//go:build !linux

package main

import "errors"

func smallDisk(string, string) (func() error, error) { return nil, errors.ErrUnsupported }

func freeze(string) error { return errors.ErrUnsupported }

func mounts() (bool, error) { return false, nil }
