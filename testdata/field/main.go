// Command field measures kvmigrate beside what people use today: the same work, in the
// same run, on the same machine. make bench-report runs it.
//
//	field measure    run the scenarios and write the results
//	field disasters  put every tool through the disasters and write what became of it
//	field report     make the tables and plots of the documents from the results
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/perf/benchfmt"

	"example.com/field/child"
	"example.com/field/disaster"
	"example.com/field/machine"
	"example.com/field/report"
	"example.com/field/scenario"
	"example.com/field/tool"
)

func main() {
	child.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "field:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("what to do: measure, disasters or report")
	}
	switch args[0] {
	case "measure":
		return measure(ctx, args[1:])
	case "disasters":
		return disasters(ctx, args[1:])
	case "report":
		return report.Write("results", "../../docs")
	}
	return fmt.Errorf("%q is not measure, disasters or report", args[0])
}

func measure(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "smaller sizes and fewer rounds: to try the program, not to judge by")
	names := flags.String("scenarios", strings.Join(scenario.Names(), ","), "what to measure")
	out := flags.String("o", "/dev/stdout", "the file of the results")
	note := flags.String("note", "", "what readers of the results must know")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "field-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	config, err := machine.Describe(dir, *note)
	if err != nil {
		return err
	}
	var results bytes.Buffer
	b := scenario.Bench{
		Dir: dir, Tools: tool.All(), Sizes: scenario.Full, Log: os.Stderr, Config: config, Out: benchfmt.NewWriter(&results),
	}
	if *quick {
		b.Sizes = scenario.Quick
	}
	if err := b.Run(ctx, strings.Split(*names, ",")); err != nil {
		return err
	}
	return os.WriteFile(*out, results.Bytes(), 0o644)
}

func disasters(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("disasters", flag.ContinueOnError)
	names := flags.String("tools", "", "the tools, separated by commas, instead of all")
	out := flags.String("o", "/dev/stdout", "the file of what became of the tools")
	if err := flags.Parse(args); err != nil {
		return err
	}
	tools, err := chosen(*names)
	if err != nil {
		return err
	}
	outcomes, err := disaster.Run(ctx, os.Stderr, tools, disaster.Full)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(outcomes, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, append(data, '\n'), 0o644)
}

// chosen returns the tools of those names that go through disasters, all if there are
// no names.
func chosen(names string) ([]tool.Tool, error) {
	tools := slices.DeleteFunc(tool.All(), func(t tool.Tool) bool { return t.Variant })
	if names == "" {
		return tools, nil
	}
	var found []tool.Tool
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(tools, func(t tool.Tool) bool { return t.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no tool %q goes through disasters", name)
		}
		found = append(found, tools[i])
	}
	return found, nil
}
