// Command newmigration starts the next migration of a schema: it writes its file,
// registered and with the next version, the stub of its golden fixture and, once,
// the test of all migrations, for which -schema names the schema. It keeps
// migrations.sum, which tells when a released migration was edited.
//
// Once, add the command to the tools of the module, or go.sum lacks what it needs,
//
//	go get -tool github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration
//
// and put the directive in a file of the migrations package:
//
//	//go:generate go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration
//
// Then each new version starts with
//
//	NAME=add_thing go generate ./migrations
//
// The name may also be the command's argument. Without one, newmigration starts no
// migration: it adds the lines that migrations.sum lacks, and warns of versions
// that are not what their lines say. It does not start a version after such ones.
//
// The line of a version never changes by itself. When the version is written, or
// after an edit that changes nothing that it does,
//
//	go run github.com/kvmigrate/kvmigrate/migrate/cmd/newmigration -dir migrations -accept 5
//
// renews the line of version 5 and no other.
//
// It prints the paths of the files that it made. The exit status is 1 if it failed,
// having changed nothing, and 2 if it was called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
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
		fmt.Fprintln(stderr, "usage: newmigration [-dir folder] [-golden folder] [-schema name] [name]")
		fmt.Fprintln(stderr, "       newmigration [-dir folder] -accept version")
		flags.PrintDefaults()
	}
	dir := flags.String("dir", ".", "the `folder` of the migrations")
	schema := flags.String("schema", "", "the `name` of the schema, for the test of the migrations (default \"system\")")
	golden := flags.String("golden", "testdata/golden", "the `folder` of the golden fixtures, absolute or relative to -dir")
	accept := uint32(0)
	flags.Func("accept", "renew the line of this `version` in "+frozen.SumFile+" after a harmless edit, and do nothing else", func(s string) error {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil || v == 0 || accept != 0 {
			return errors.New("want one version, for example 5")
		}
		accept = uint32(v)
		return nil
	})
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}

	name := env
	switch {
	case flags.NArg() > 1:
		fmt.Fprintf(stderr, "newmigration: %d arguments, want one name (flags go before it)\n", flags.NArg())
		flags.Usage()
		return 2
	case accept != 0 && (flags.NArg() > 0 || env != ""):
		fmt.Fprintln(stderr, "newmigration: a name and -accept, want one of them")
		flags.Usage()
		return 2
	case accept != 0:
		return report(frozen.Accept(*dir, accept), stderr)
	case flags.NArg() == 1:
		name = flags.Arg(0)
	case name == "":
		fmt.Fprintln(stderr, "newmigration: no name, no migration to start; NAME=add_thing go generate starts one")
		return update(*dir, stderr)
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	made, err := scaffold.New(ctx, scaffold.Options{Dir: *dir, Golden: *golden, Name: name, Schema: *schema})
	if err != nil {
		return report(err, stderr)
	}
	fmt.Fprintf(stdout, "%s\n%s\n", made.File, made.Fixture)
	if made.Test != "" {
		fmt.Fprintln(stdout, made.Test)
	}
	return 0
}

// update adds the lines that are missing. That a version was edited is a warning:
// the one at hand may be, until it is done.
func update(dir string, stderr io.Writer) (status int) {
	if err := frozen.Update(dir); err != nil {
		return report(err, stderr)
	}
	err := frozen.Check(dir)
	faults, ok := errors.AsType[*multierror.Error](err)
	if !ok {
		return report(err, stderr)
	}
	for _, fault := range faults.WrappedErrors() {
		fmt.Fprintf(stderr, "newmigration: warning: %v\n", fault)
	}
	return 0
}

// report prints err, if there is one, and returns the exit status.
func report(err error, stderr io.Writer) (status int) {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "newmigration: %v\n", err)
	return 1
}
