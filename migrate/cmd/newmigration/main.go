// Command newmigration starts the next migration of a schema: it writes its file,
// registered and with the next version, and the stub of its golden fixture.
//
// Put the directive in a file of the migrations package once:
//
//	//go:generate go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration
//
// Then each new version starts with
//
//	NAME=add_thing go generate ./migrations
//
// The name may also be the command's argument. Without one, newmigration changes
// nothing and succeeds, so that go generate ./... keeps working.
//
// It prints the paths of what it made. The exit status is 1 if it failed, having
// changed nothing, and 2 if it was called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/scaffold"
)

// patience is how long to wait for others that add migrations to the folder.
const patience = 10 * time.Second

func main() {
	// An interrupt must not leave half a migration: it ends the wait for others,
	// and the writing itself takes milliseconds.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Getenv("NAME"), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the command. env is the name to use if args have none.
func run(ctx context.Context, args []string, env string, stdout, stderr io.Writer) (status int) {
	flags := flag.NewFlagSet("newmigration", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: newmigration [-dir folder] [-golden folder] [name]")
		flags.PrintDefaults()
	}
	dir := flags.String("dir", ".", "the `folder` of the migrations")
	golden := flags.String("golden", "testdata/golden", "the `folder` of the golden fixtures, absolute or relative to -dir")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}

	name := env
	switch flags.NArg() {
	case 0:
		if name == "" {
			fmt.Fprintln(stderr, "newmigration: no name, nothing to do; NAME=add_thing go generate starts a migration")
			return 0
		}
	case 1:
		name = flags.Arg(0)
	default:
		fmt.Fprintf(stderr, "newmigration: %d arguments, want one name (flags go before it)\n", flags.NArg())
		flags.Usage()
		return 2
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	made, err := scaffold.New(ctx, scaffold.Options{Dir: *dir, Golden: *golden, Name: name})
	if err != nil {
		fmt.Fprintf(stderr, "newmigration: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s\n%s\n", made.File, made.Fixture)
	return 0
}
