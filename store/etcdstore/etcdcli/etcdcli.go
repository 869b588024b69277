// Package etcdcli lets the commands of package migrate/cli work on stores in etcd, by
// names such as etcd:HOST:PORT,HOST:PORT/PREFIX:
//
//	cfg.Stores = map[string]cli.Opener{"etcd": etcdcli.Open}
//
// TLS and users come from the environment, by the variables of etcdctl: see
// [etcdstore.EnvOptions].
package etcdcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

// dialTimeout is how long a person waits for a cluster.
const dialTimeout = 5 * time.Second

// Open opens the store with that name, HOST:PORT,HOST:PORT/PREFIX. It is a [cli.Opener].
// The error matches [fs.ErrNotExist] if there is to be a store and etcd has nothing
// under the prefix.
func Open(ctx context.Context, name string, o cli.OpenOptions) (store.Store, error) {
	endpoints, prefix, err := etcdstore.ParseName(name)
	if err != nil {
		return nil, cli.Usage(err)
	}
	options, err := etcdstore.EnvOptions()
	if err != nil {
		return nil, cli.Usage(err)
	}
	options.DialTimeout, options.Logger = dialTimeout, o.Logger
	st, err := etcdstore.Open(ctx, endpoints, prefix, options)
	if err != nil {
		return nil, err
	}
	if o.MustExist {
		if err := exists(ctx, st, prefix); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	if o.ReadOnly {
		return store.ReadOnly(st), nil
	}
	return st, nil
}

// exists refuses a prefix under which there is nothing.
func exists(ctx context.Context, st store.Store, prefix string) error {
	return st.View(ctx, func(s store.Reader) error {
		for _, err := range s.Scan(store.Scan{KeysOnly: true}) {
			return err
		}
		return &store.Error{Op: "open etcd store", Err: fmt.Errorf("%w: etcd has nothing under %s; see whether the prefix is right", fs.ErrNotExist, prefix)}
	})
}
