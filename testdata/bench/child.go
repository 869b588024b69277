package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// childCommand is the first argument of a child; the second is its job. What
// changes many rows does so in a process of its own, because a peak of memory is
// a process's.
const childCommand = "child"

// A job is what a child is to do to the store in Dir.
type job struct {
	What string // "fill", "burn", "heap", "create", "badger", "defaults", "initialize", "restart" or one of ways
	Dir  string
	Rows int
}

// A result is what a child measured.
type result struct {
	Seconds float64
	PeakMiB float64 // of resident memory
	OwnMiB  float64 // the same without mapped files, looked at now and then
	Heap    []liveHeap

	OpenSeconds  float64 // what Badger's Open took, if that does not count
	AgainSeconds float64 // the same as Seconds, once more
}

func seconds(r result) float64 { return r.Seconds }
func peak(r result) float64    { return r.PeakMiB }
func own(r result) float64     { return r.OwnMiB }

// runChild does j in a process of its own.
func runChild(ctx context.Context, j job) (r result, err error) {
	cmd, err := childOf(ctx, j)
	if err != nil {
		return r, err
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

func childOf(ctx context.Context, j job) (*exec.Cmd, error) {
	data, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, self, childCommand, string(data)), nil
}

// whileBurning calls do while a process for each core keeps it busy.
func whileBurning(ctx context.Context, do func() error) error {
	for range runtime.NumCPU() {
		cmd, err := childOf(ctx, job{What: "burn"})
		if err != nil {
			return err
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		defer func() {
			_ = in.Close() // ends it, unless it has ended
			_ = cmd.Wait() // how it ends means nothing
		}()
	}
	return do()
}

// child does the job that data describes and prints the result.
func child(ctx context.Context, data string, stdin io.Reader, stdout io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(data), &j); err != nil {
		return err
	}
	var r result
	var err error
	switch j.What {
	case "fill":
		err = fill(j.Dir, j.Rows)
	case "burn":
		err = spin(stdin)
	case "heap":
		r.Heap, err = measureHeap(ctx, j.Dir)
	case "create":
		r, err = startWhole(ctx, j.Dir)
	case "badger", "defaults", "initialize", "restart":
		r, err = startParts(ctx, j.Dir, j.What)
	default:
		r, err = measureRewrite(ctx, j)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}

// spin keeps one core busy until the other end of stdin is closed, be it because
// that process was killed.
func spin(stdin io.Reader) error {
	go func() {
		for n := 0; ; n++ {
		}
	}()
	_, err := io.Copy(io.Discard, stdin)
	return err
}

// measureRewrite changes all rows of a store one of the ways. Opening and closing
// it counts for the memory and not for the time.
func measureRewrite(ctx context.Context, j job) (r result, err error) {
	peakOfOwn := watchOwnMemory()
	err = ways[j.What](ctx, j.Dir, func(change func() (int, error)) error {
		runtime.GC()
		start := time.Now()
		n, err := change()
		r.Seconds = time.Since(start).Seconds()
		if err == nil && n != j.Rows {
			err = fmt.Errorf("%s changed %d rows of %d", j.What, n, j.Rows)
		}
		return err
	})
	if err != nil {
		return r, err
	}
	if r.OwnMiB, err = peakOfOwn(); err != nil {
		return r, err
	}
	r.PeakMiB, err = memory("VmHWM")
	return r, err
}

// watchOwnMemory looks at the resident memory that is no mapped file, of which the
// system keeps no peak, until the function that it returns is called.
func watchOwnMemory() (stop func() (peak float64, err error)) {
	ended := make(chan struct{})
	var peak float64
	var err error
	var watch sync.WaitGroup
	watch.Go(func() {
		for ticks := time.Tick(20 * time.Millisecond); err == nil; {
			var now float64
			now, err = memory("RssAnon")
			peak = max(peak, now)
			select {
			case <-ended:
				return
			case <-ticks:
			}
		}
	})
	return func() (float64, error) {
		close(ended)
		watch.Wait()
		return peak, err
	}
}

// memory returns a number of this process's status, in MiB.
func memory(name string) (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, line, ok := strings.Cut(string(data), "\n"+name+":")
	if !ok {
		return 0, fmt.Errorf("the system does not tell %s", name)
	}
	var kib float64
	_, err = fmt.Sscan(line, &kib)
	return kib / 1024, err
}
