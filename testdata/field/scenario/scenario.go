// Package scenario has what is measured, one scenario a file. A file that adds to the
// list of another is a new scenario.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/perf/benchfmt"

	"example.com/field/tool"
)

// A Scenario measures every tool.
type Scenario struct {
	Name string // of its benchmark
	run  func(ctx context.Context, b *Bench) error
}

var all []Scenario

// register adds a scenario. It is called by init functions.
func register(s Scenario) { all = append(all, s) }

// Names returns the names of all scenarios.
func Names() []string {
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// A Bench is one run of scenarios.
type Bench struct {
	Dir    string      // for the databases
	Tools  []tool.Tool // in the order of the first round
	Sizes  Sizes
	Log    io.Writer         // who is measured
	Config []benchfmt.Config // of every result
	Out    *benchfmt.Writer

	scenario string // that runs now
}

// Sizes are how much is measured.
type Sizes struct {
	Versions      []int // of a start with nothing pending
	Install       []int // migrations of a new database
	Rewrite       []int // rows
	InterruptRows int
	DryRunRows    int
	BackupRows    int
	Rounds        func(full int) int
}

// Full are the sizes that are reported, Quick those for a try, and Tiny those of a
// test.
var (
	Full = Sizes{
		Versions: []int{1, 10, 100, 1000}, Install: []int{7, 100, 1000}, Rewrite: []int{100_000, 1_000_000},
		InterruptRows: 200_000, DryRunRows: 100_000, BackupRows: 1_000_000,
		Rounds: func(full int) int { return full },
	}
	Quick = Sizes{
		Versions: []int{1, 100}, Install: []int{7, 100}, Rewrite: []int{10_000, 50_000},
		InterruptRows: 50_000, DryRunRows: 10_000, BackupRows: 50_000,
		Rounds: func(int) int { return 2 },
	}
	Tiny = Sizes{
		Versions: []int{2}, Install: []int{3}, Rewrite: []int{50},
		InterruptRows: 5000, DryRunRows: 50, BackupRows: 50,
		Rounds: func(int) int { return 1 },
	}
)

// Run runs the scenarios of those names.
func (b *Bench) Run(ctx context.Context, names []string) error {
	for _, name := range names {
		i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("no scenario %q: there are %s", name, strings.Join(Names(), ", "))
		}
		b.scenario = name
		if err := all[i].run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// record writes one result: what the tool measured in a case of the scenario, such as
// "rows=100000".
func (b *Bench) record(t tool.Tool, which string, iterations int, values ...benchfmt.Value) error {
	return b.Out.Write(&benchfmt.Result{
		Config: b.Config,
		Name:   benchfmt.Name(fmt.Sprintf("%s/tool=%s/%s", b.scenario, t.Name, which)),
		Iters:  iterations, Values: values,
	})
}

// A turn measures one tool once.
type turn func(ctx context.Context, t tool.Tool) error

// alternate gives every tool its turn in each round, in the other direction in every
// second one, so that none always follows the same other.
func (b *Bench) alternate(ctx context.Context, which string, rounds int, take turn) error {
	tools := b.contestants()
	fmt.Fprintln(b.Log, b.scenario, which)
	for range b.Sizes.Rounds(rounds) {
		for _, t := range tools {
			if err := take(ctx, t); err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
		}
		slices.Reverse(tools)
	}
	return nil
}

// contestants returns the tools that take part in the scenario that runs now.
func (b *Bench) contestants() []tool.Tool {
	return slices.DeleteFunc(slices.Clone(b.Tools), func(t tool.Tool) bool {
		return t.Only != nil && !slices.Contains(t.Only, b.scenario)
	})
}

// inNew calls do with a new directory, which it removes afterwards.
func (b *Bench) inNew(do func(dir string) error) (err error) {
	dir, err := os.MkdirTemp(b.Dir, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return do(dir)
}

// withRows calls do with a copy of a database of n accounts. The original of an engine
// is made by the first tool of it, and taken by all.
func (b *Bench) withRows(ctx context.Context, t tool.Tool, n int, do func(dir string) error) error {
	original := filepath.Join(b.Dir, fmt.Sprintf("%s-%d", t.Engine, n))
	if _, err := os.Stat(original); errors.Is(err, os.ErrNotExist) {
		if _, err := fillInChild.Run(ctx, work{Tool: t.Name, Dir: original, Rows: n}); err != nil {
			return err
		}
	}
	return b.inNew(func(dir string) error {
		if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
			return err
		}
		syscall.Sync() // or the tool pays for the copy
		return do(dir)
	})
}

// with opens the database in dir, calls do with it, and closes it.
func with(ctx context.Context, t tool.Tool, dir string, do func(tool.Database) error) (err error) {
	db, err := t.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(db)
}

// ns and peak are the values of a result.
func ns(seconds float64) benchfmt.Value {
	return benchfmt.Value{Value: seconds, Unit: "sec/op", OrigValue: seconds * 1e9, OrigUnit: "ns/op"}
}

func peak(bytes float64) benchfmt.Value { return benchfmt.Value{Value: bytes, Unit: "peak-B"} }
