// Package child runs functions in processes of their own: a peak of memory is a
// process's, and so is a death.
package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// environment has the job of a process that is a child.
const environment = "FIELD_CHILD"

type job struct {
	Func string
	Arg  json.RawMessage
}

// A message is a line that a child writes: that it paused, or its end.
type message struct {
	Paused bool            `json:",omitempty"`
	Result json.RawMessage `json:",omitempty"`
	Error  string          `json:",omitempty"`
}

var funcs = map[string]func(context.Context, json.RawMessage) (any, error){}

// A Func runs a function in a process of its own.
type Func[A, R any] string

// New returns do as a Func. It is called by package variables; name is its identity.
func New[A, R any](name string, do func(context.Context, A) (R, error)) Func[A, R] {
	funcs[name] = func(ctx context.Context, data json.RawMessage) (any, error) {
		var arg A
		if err := json.Unmarshal(data, &arg); err != nil {
			return nil, err
		}
		return do(ctx, arg)
	}
	return Func[A, R](name)
}

// Main does the job of a process that is a child, and ends it. Otherwise it returns.
// main, and TestMain, call it first.
func Main() {
	data := os.Getenv(environment)
	if data == "" {
		return
	}
	var m message
	var j job
	err := json.Unmarshal([]byte(data), &j)
	if err == nil {
		var result any
		result, err = funcs[j.Func](context.Background(), j.Arg)
		if err == nil {
			m.Result, err = json.Marshal(result)
		}
	}
	if err != nil {
		m.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// Pause is called in a child: it tells the parent and waits until that resumes it.
func Pause() error {
	if err := json.NewEncoder(os.Stdout).Encode(message{Paused: true}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin) // until it is closed
	return err
}

// An Error is what the function in the child returned, as text.
type Error string

func (e Error) Error() string { return string(e) }

// A Process is a child that runs.
type Process[R any] struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
	last  *message // what was read and not yet looked at
}

// Start starts f with arg in a process of its own.
func (f Func[A, R]) Start(ctx context.Context, arg A) (*Process[R], error) {
	data, err := json.Marshal(arg)
	if err != nil {
		return nil, err
	}
	data, err = json.Marshal(job{string(f), data})
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), environment+"="+string(data))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	return &Process[R]{cmd: cmd, stdin: stdin, lines: lines}, nil
}

// Paused waits until the child pauses, which is true, or ends.
func (p *Process[R]) Paused() bool {
	m := p.read()
	if m != nil && m.Paused {
		p.last = nil
		return true
	}
	return false
}

// read returns the next message, nil if there is none.
func (p *Process[R]) read() *message {
	if p.last == nil && p.lines.Scan() {
		p.last = new(message)
		if json.Unmarshal(p.lines.Bytes(), p.last) != nil {
			p.last = &message{Error: p.lines.Text()}
		}
	}
	return p.last
}

// Resume lets a child go on that paused.
func (p *Process[R]) Resume() error { return p.stdin.Close() }

// Kill kills the child as kill -9 does.
func (p *Process[R]) Kill() error { return p.cmd.Process.Kill() }

// Wait waits for the end of the child and returns what the function did: an error of
// it is an Error. A child that dies is an *exec.ExitError.
func (p *Process[R]) Wait() (result R, err error) {
	m := p.read()
	for m != nil && m.Paused {
		p.last = nil
		m = p.read()
	}
	_ = p.stdin.Close() // it is closed if it was resumed
	if err := p.cmd.Wait(); err != nil {
		return result, err
	}
	switch {
	case m == nil:
		return result, errors.New("the child said nothing")
	case m.Error != "":
		return result, Error(m.Error)
	}
	if err := json.Unmarshal(m.Result, &result); err != nil {
		return result, fmt.Errorf("the result of the child: %w", err)
	}
	return result, nil
}

// Run runs f with arg in a process of its own to its end.
func (f Func[A, R]) Run(ctx context.Context, arg A) (result R, err error) {
	p, err := f.Start(ctx, arg)
	if err != nil {
		return result, err
	}
	return p.Wait()
}
