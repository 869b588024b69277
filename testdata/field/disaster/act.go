package disaster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"example.com/field/child"
	"example.com/field/tool"
)

// An act is what one process does.
type act struct {
	Tool, Dir string
	Do        string // "fill", "start", "look" or "repair"
	Rows      int    // of fill
	Program   program
}

// A program is what is started.
type program struct {
	Small   int  // migrations
	Rewrite bool // whether it has the one that changes every account
	Grow    int  // by how many bytes that lets an account grow
	Edited  bool // whether its first migration was edited

	At   int    // the change of a row, counted from 1, at which it does Then
	Then string // "kill" or "pause"
}

// What a process saw.
type seen struct {
	State   string      // what the tool's records say
	Changed map[int]int // how many rows were changed how often
	First   string      // what the first migration wrote
	Repair  string      // what was done to put it in order
}

var actInChild = child.New("act", do)

func do(ctx context.Context, a act) (s seen, err error) {
	t, err := tool.Named(a.Tool)
	if err != nil {
		return s, err
	}
	db, err := t.Open(ctx, a.Dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch a.Do {
	case "fill":
		return s, db.Fill(ctx, a.Rows)
	case "start":
		return s, db.Start(a.Program.schema())(ctx)
	case "repair":
		if r, ok := db.(tool.Repairer); ok {
			s.Repair, err = r.Repair(ctx, a.Program.schema())
		}
		return s, err
	case "look":
		return look(ctx, db)
	}
	return s, fmt.Errorf("no act %q", a.Do)
}

func look(ctx context.Context, db tool.Database) (s seen, err error) {
	if s.State, err = db.State(ctx); err != nil {
		return s, err
	}
	if _, s.First, err = db.Entries(ctx); err != nil {
		return s, err
	}
	s.Changed = map[int]int{}
	return s, db.Accounts(ctx, func(value []byte) error {
		n, _, err := tool.Logins(value)
		s.Changed[n]++
		return err
	})
}

// schema returns the migrations of p. Its change counts itself in each account.
func (p program) schema() tool.Schema {
	change := tool.CountLogins
	if p.Grow > 0 {
		change = tool.Grow(p.Grow)
	}
	var n atomic.Int64
	return tool.Schema{Small: p.Small, Rewrite: p.Rewrite, Edited: p.Edited, Change: func(value []byte) ([]byte, error) {
		if n.Add(1) == int64(p.At) {
			if err := p.then(); err != nil {
				return nil, err
			}
		}
		return change(value)
	}}
}

func (p program) then() error {
	if p.Then == "pause" {
		return child.Pause()
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	select {} // until it arrives
}
