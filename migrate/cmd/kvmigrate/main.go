// Command kvmigrate shows and upgrades the system schema of a store.
//
// It is package cli over this repository's own migrations; kvmigrate --help
// lists the commands and exit codes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrations"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := cli.Config{Name: "kvmigrate", Options: migrate.Options{Schema: migrations.Schema}, Golden: "testdata/golden"}
	return cli.Run(ctx, cfg, os.Args[1:], os.Stdout, os.Stderr)
}
