package etcdstore_test

import (
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Run("one member", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return openShared(t) })
	})
	t.Run("lent client", func(t *testing.T) {
		client := newClient(t, sharedAddress(t))
		storetest.Run(t, func(t *testing.T) store.Store {
			st, err := etcdstore.New(t.Context(), client, newPrefix(), etcdstore.Options{Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			return st
		})
	})
	t.Run("small limits", func(t *testing.T) {
		o := etcdstore.Options{TxnOps: 64, RequestBytes: 200_000}
		address := startServer(t, func(c *embed.Config) {
			c.MaxTxnOps, c.MaxRequestBytes = uint(o.TxnOps), uint(o.RequestBytes)
		})
		storetest.Run(t, func(t *testing.T) store.Store { return open(t, newPrefix(), o, address) })
	})
	t.Run("three members", func(t *testing.T) {
		all := addresses(startCluster(t, 3))
		storetest.Run(t, func(t *testing.T) store.Store { return open(t, newPrefix(), etcdstore.Options{}, all...) })
	})
}
