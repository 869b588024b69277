package etcdstore_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/internal/etcdtest"
)

// benchCluster starts n members in this process, which keep their data as in production,
// and returns a store of them.
func benchCluster(b *testing.B, n int) store.Store {
	b.Helper()
	b.Chdir(b.TempDir()) // the sockets are in it
	var all []string
	for i := range n {
		name := fmt.Sprint("b", i)
		peer := peerURL(name)
		all = append(all, name+"="+peer.String())
	}
	started := make(chan error)
	addresses := make([]string, n)
	for i := range n {
		c := etcdtest.NewConfig(b.TempDir(), fmt.Sprint("b", i))
		peer := peerURL(c.Name)
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.InitialCluster = strings.Join(all, ",")
		c.TickMs, c.ElectionMs, c.UnsafeNoFsync = 100, 1000, false
		go func() {
			member, address, err := etcdtest.Start(c)
			if err == nil {
				b.Cleanup(member.Close)
			}
			addresses[i] = address
			started <- err
		}()
	}
	for range n {
		if err := <-started; err != nil {
			b.Fatal(err)
		}
	}
	return open(b, newPrefix(), etcdstore.Options{}, addresses...)
}

// BenchmarkCluster is where the table of docs/clustering.md is from: what one process
// that does one thing after the other waits for.
func BenchmarkCluster(b *testing.B) {
	for _, of := range []struct {
		name string
		open func(b *testing.B) store.Store
	}{
		{"badger", func(b *testing.B) store.Store {
			st, err := badgerstore.Open(b.Context(), b.TempDir(), badgerstore.Options{Logger: quiet})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = st.Close() }) // nobody needs it any more
			return st
		}},
		{"etcd-1", func(b *testing.B) store.Store { return benchCluster(b, 1) }},
		{"etcd-3", func(b *testing.B) store.Store { return benchCluster(b, 3) }},
	} {
		b.Run(of.name, func(b *testing.B) { benchStore(b, of.open(b)) })
	}
}

func benchStore(b *testing.B, st store.Store) {
	o := migrateOptions(nodeLadder(2))
	if _, err := migrate.Up(b.Context(), st, o); err != nil {
		b.Fatal(err)
	}
	m, err := cluster.Join(b.Context(), st, cluster.Options{Name: "bench", Max: 2, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	runner, err := migrate.New(st, o)
	if err != nil {
		b.Fatal(err)
	}
	each := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	each("start-up", func() error { _, err := runner.Up(b.Context()); return err })
	each("join-and-leave", func() error {
		m, err := cluster.Join(b.Context(), st, cluster.Options{Name: "other", Max: 2, Logger: quiet})
		if err != nil {
			return err
		}
		return m.Leave(b.Context())
	})
	key := []byte("bench/row")
	row := store.Entry{Key: key, Value: []byte(strings.Repeat("x", 200))}
	put := func(txn store.Txn) error { return txn.Set(row) }
	if err := store.Update(b.Context(), st, put); err != nil {
		b.Fatal(err)
	}
	for _, of := range []struct {
		name string
		st   store.Store
	}{{"", st}, {"-of-a-node", m.Store()}} {
		each("read"+of.name, func() error {
			return of.st.View(b.Context(), func(r store.Reader) error { _, err := r.Get(key); return err })
		})
		each("update"+of.name, func() error {
			return store.Update(b.Context(), of.st, func(txn store.Txn) error {
				if _, err := txn.Get(key); err != nil {
					return err
				}
				return put(txn)
			})
		})
	}
	if err := m.Leave(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("migrate", func(b *testing.B) { benchRewrite(b, st) })
}

// benchRewrite measures the rows a second of a migration that rewrites some.
func benchRewrite(b *testing.B, st store.Store) {
	const rows = 5000
	for at := 0; at < rows; at += 100 {
		err := store.Update(b.Context(), st, func(txn store.Txn) error {
			for i := range 100 {
				if err := txn.Set(entry(fmt.Sprintf("bulk/%06d", at+i), strings.Repeat("x", 200))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	schemas := 0
	for b.Loop() {
		schemas++
		o := migrateOptions(migrate.NewRegistry(migrate.Migration{
			Version: 1, Name: "rewrite", Up: migrate.Rewrite([]byte("bulk/"), func(row []byte) ([]byte, error) {
				row[0]++
				return row, nil
			}),
		}))
		o.Schema = fmt.Sprint("s", prefixes.Add(1))
		if _, err := migrate.Up(b.Context(), st, o); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows*schemas)/b.Elapsed().Seconds(), "rows/s")
}
