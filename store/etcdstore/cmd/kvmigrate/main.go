// Command kvmigrate is the kvmigrate of migrate/cmd/kvmigrate, for stores in etcd as
// well:
//
//	kvmigrate --store etcd:HOST:PORT,HOST:PORT/PREFIX up
//
// TLS and users come from the environment, by the variables of etcdctl: ETCDCTL_CACERT,
// ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER and ETCDCTL_PASSWORD.
package main

import (
	"context"
	"os"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/etcdcli"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := cli.Interruptible(context.Background(), os.Stderr)
	defer stop()
	cfg := tablescli.Config()
	cfg.Stores = map[string]cli.Opener{"etcd": etcdcli.Open}
	return cli.Run(ctx, cfg, os.Args[1:], os.Stdout, os.Stderr)
}
