// Command kvmigrate shows and upgrades the system schema of a store.
//
// It is package cli over this repository's own migrations; kvmigrate --help
// lists the commands and exit codes.
package main

import (
	"context"
	"os"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := cli.Interruptible(context.Background(), os.Stderr)
	defer stop()
	return cli.Run(ctx, tablescli.Config(), os.Args[1:], os.Stdout, os.Stderr)
}
