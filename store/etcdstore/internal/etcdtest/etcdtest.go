// Package etcdtest starts etcd servers in the process of a test.
package etcdtest

import (
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// NewConfig returns a member that keeps its data in dir, is quick to start, and
// listens for clients on a free port of the loopback.
func NewConfig(dir, name string) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = name, dir
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.InitialCluster = name + "=" + c.ListenPeerUrls[0].String()
	c.TickMs, c.ElectionMs = 10, 100
	c.UnsafeNoFsync = true // no test takes the power away
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return c
}

// Start starts the member and returns the address that it serves clients at.
func Start(c *embed.Config) (*embed.Etcd, string, error) {
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, "", err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, e.Clients[0].Addr().String(), nil
	case err := <-e.Err():
		e.Close()
		return nil, "", err
	}
}
