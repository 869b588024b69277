// Command bench measures what docs/performance.md holds kvmigrate to, and prints
// one table. Contestants take turns within one run, and what is judged is the
// ratio of neighbours, so that a machine whose speed drifts can be used. make
// bench runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, w io.Writer) error {
	if len(args) == 2 && args[0] == childCommand {
		return child(ctx, args[1], os.Stdin, w)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "smaller sizes and fewer rounds: to try the program, not to judge by")
	soak := flags.Bool("soak", false, "let growth go on to four times the rows")
	names := flags.String("scenarios", scenarioNames(), "what to run, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen := strings.Split(*names, ",")
	for _, name := range chosen {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("no scenario %q: there are %s", name, scenarioNames())
		}
	}
	return measure(ctx, w, chosen, *quick, *soak)
}

// measure runs the chosen scenarios over stores in a temporary directory.
func measure(ctx context.Context, w io.Writer, chosen []string, quick, soak bool) (err error) {
	dir, err := os.MkdirTemp("", "kvmigrate-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, quick: quick, soak: soak}
	for _, s := range scenarios {
		if !slices.Contains(chosen, s.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", s.name)
		b.scenario = s.name
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return printTable(w, b.figures)
}

// A scenario measures some figures.
type scenario struct {
	name string
	run  func(ctx context.Context, b *bench) error
}

var scenarios = []scenario{
	{"rewrite", rewrite},
	{"growth", growth},
	{"heap", heap},
	{"startup", startup},
	{"install", install},
	{"resume", resume},
	{"cancel", cancelling},
	{"tables", tables},
	{"opening", opening},
}

func scenarioNames() string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// A bench is one run of the program.
type bench struct {
	dir         string
	quick, soak bool
	scenario    string // that runs now
	figures     []figure
}

// pick returns full, or small in a quick run.
func (b *bench) pick(full, small int) int {
	if b.quick {
		return small
	}
	return full
}

// add adds a line to the table.
func (b *bench) add(what string, values []float64, held bound) {
	b.figures = append(b.figures, figure{b.scenario, what, values, held})
}
