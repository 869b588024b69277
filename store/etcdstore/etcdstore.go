// Package etcdstore implements [store.Store] over etcd v3, for system tables that
// several machines share. It is a module of its own, so that programs without etcd
// do not depend on it.
//
// # Whose cluster
//
// [New] borrows a client that the program made and goes on using; Close leaves it
// open. [Open] makes one itself, and Close closes it.
//
// Every store has a prefix in etcd, and several stores with different prefixes do
// not see each other. Entries are kept under PREFIX/data/, and the key
// PREFIX/commits is written by each transaction. All who write there must go
// through this package.
//
// # Transactions
//
// A transaction reads one revision of etcd, which it asks for when it begins, page
// by page. Its writes stay in memory, the last one of each key, and are sent in one
// request that takes effect if each key that was read is as it was read, or is
// still absent. A transaction that read more keys than such a request may name is
// held against what was committed since it began, because every commit says which keys
// it wrote: it conflicts with those that wrote what it read, seldom with another, and
// always if that were more than a thousand.
//
// A commit whose answer is lost has an unknown outcome: its error matches
// [store.ErrUnknown]. It is not tried again here.
//
// # What the cluster needs
//
// A transaction that runs longer than etcd keeps old revisions fails with
// [store.ErrSnapshotGone]; automatic compaction (--auto-compaction-retention) should
// keep some minutes. Without compaction etcd grows until its quota is used up and
// refuses every write with [store.ErrNoSpace]. The commits that use it up may take effect
// all the same; the error then matches [store.ErrUnknown] as well.
//
// # What it does not do
//
// etcd keeps no expiry and no user meta of an entry: a Set that has one fails with
// [store.ErrUnsupported]. A reverse scan makes etcd sort the whole range for every
// page.
package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kvmigrate/kvmigrate/store"
)

// The limits of etcd's servers unless their flags say otherwise.
const (
	defaultTxnOps       = 128
	defaultRequestBytes = 3 << 19 // 1.5 MiB
)

const (
	defaultDialTimeout = 10 * time.Second
	// More than the 7 seconds after which a server gives up, and than it takes to find
	// out that a connection is dead.
	defaultTimeout = 20 * time.Second
	maxKeyBytes    = 65000 // as badgerstore has it: stores can be copied either way
	leastTxnOps    = 16    // what a migration with its records needs
)

// Options say how a store uses etcd. The zero Options are right for a cluster with
// etcd's default limits, without TLS and authentication.
type Options struct {
	// TLS, if not nil, is how Open connects.
	TLS *tls.Config

	// Username and Password are what Open authenticates with, if they are not
	// empty.
	Username, Password string

	// DialTimeout is how long Open and New wait for the cluster's first answer.
	// 0 means ten seconds.
	DialTimeout time.Duration

	// Timeout is how long any other request may take, however long the context
	// lasts. 0 means twenty seconds. It should be longer than the time in which the
	// cluster elects a new leader, and than the fifteen seconds in which a connection
	// to a server that stands still is found to be dead.
	Timeout time.Duration

	// TxnOps is the servers' --max-txn-ops. 0 means 128, etcd's default. It is
	// halved until the server that is asked at the beginning accepts it.
	TxnOps int

	// RequestBytes is the servers' --max-request-bytes. 0 means 1.5 MiB, etcd's
	// default. etcd does not tell whether that is right before it refuses a
	// transaction, which then fails with store.ErrTxnTooBig.
	RequestBytes int

	// Logger receives warnings: lower limits of a server, and commits whose
	// outcome is unknown. Nil means slog.Default.
	Logger *slog.Logger
}

// A Store is a prefix of an etcd cluster behind the contract of package store. Its
// methods may be called concurrently.
type Store struct {
	client  *clientv3.Client
	owned   bool
	cause   *cause // of its errors; nil if the client was lent
	data    string // what the key of every entry begins with
	commits string // the key that every transaction writes
	ops     int    // comparisons, and writes, in one request
	bytes   int    // of one request
	limits  store.Limits
	timeout time.Duration
	log     *slog.Logger

	// Transactions hold life for reading. Close takes it for good, and from then
	// on, while it waits for them, no other begins.
	life    sync.RWMutex
	closing sync.Once
}

// Open connects to the etcd cluster whose members have those endpoints, each
// HOST:PORT or a URL, and returns the store under prefix. See [New] for prefix and
// errors. If no member can be reached, the error says of each why not.
func Open(ctx context.Context, endpoints []string, prefix string, o Options) (*Store, error) {
	// The client's constructor fetches a token, and takes its context for life.
	if err := ctx.Err(); err != nil {
		return nil, &store.Error{Op: "open etcd store", Err: err}
	}
	if err := reach(ctx, endpoints, o.TLS, o.dialTimeout()); err != nil {
		return nil, wrapOpen(endpoints, err)
	}
	cause := newCause()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: o.TLS, Username: o.Username, Password: o.Password,
		DialTimeout: o.dialTimeout(),
		// A connection that died without a word is found and replaced.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		// Refused by the server and not by the client, whatever the limit is.
		MaxCallSendMsgSize: 2*o.requestBytes() + 1<<20,
		Logger:             zap.New(cause),
	})
	if err != nil {
		return nil, wrapOpen(endpoints, err)
	}
	s, err := newStore(ctx, client, cause, prefix, o)
	if err != nil {
		_ = client.Close() // the reason for refusing says more
		return nil, err
	}
	s.owned = true
	return s, nil
}

// New returns the store under prefix of the cluster that client is connected to.
// The caller keeps using the client and closes it. Options about connecting have no
// effect. A client's MaxCallSendMsgSize bounds what a transaction holds, too.
//
// prefix is the path of the store in etcd, such as "myprogram/production"; a slash
// at its end makes no difference. It must not be empty, and no store's prefix may
// lie under another's. The error matches [store.ErrUnsupported] for a bad prefix, as
// far as that can be seen: one among the entries of another store, or with another store
// among its own. It does so, too, for servers whose --max-txn-ops is below 16.
func New(ctx context.Context, client *clientv3.Client, prefix string, o Options) (*Store, error) {
	return newStore(ctx, client, nil, prefix, o)
}

func newStore(ctx context.Context, client *clientv3.Client, cause *cause, prefix string, o Options) (*Store, error) {
	prefix = strings.TrimSuffix(prefix, "/")
	if prefix == "" {
		return nil, &store.Error{Op: "open etcd store", Err: fmt.Errorf("%w: its prefix is empty; give each store a path of its own in etcd", store.ErrUnsupported)}
	}
	s := &Store{
		client: client, cause: cause, data: prefix + dataPart + "/", commits: prefix + commitsPart,
		ops: o.txnOps(), bytes: o.requestBytes(), timeout: o.dialTimeout(), log: o.Logger,
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := s.fitServer(ctx); err != nil {
		return nil, wrapOpen(client.Endpoints(), err)
	}
	if err := s.apart(ctx, prefix); err != nil {
		return nil, wrapOpen(client.Endpoints(), err)
	}
	if s.timeout = o.Timeout; s.timeout == 0 {
		s.timeout = defaultTimeout
	}
	s.limits = s.newLimits()
	return s, nil
}

func (o Options) dialTimeout() time.Duration {
	if o.DialTimeout == 0 {
		return defaultDialTimeout
	}
	return o.DialTimeout
}

func (o Options) txnOps() int {
	if o.TxnOps == 0 {
		return defaultTxnOps
	}
	return o.TxnOps
}

func (o Options) requestBytes() int {
	if o.RequestBytes == 0 {
		return defaultRequestBytes
	}
	return o.RequestBytes
}

// fitServer halves the number of operations until the server accepts a request
// that compares so many and changes nothing.
func (s *Store) fitServer(ctx context.Context) error {
	for {
		if s.ops < leastTxnOps {
			return fmt.Errorf("%w: a transaction may have %d operations; start the etcd servers with --max-txn-ops=%d or more", store.ErrUnsupported, s.ops, leastTxnOps)
		}
		same := slices.Repeat([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.commits), ">", -1)}, s.ops)
		bounded, cancel := s.bounded(ctx)
		_, err := s.client.Txn(bounded).If(same...).Commit()
		cancel()
		if !errors.Is(err, rpctypes.ErrTooManyOps) {
			return s.translate(ctx, err)
		}
		s.log.WarnContext(ctx, fmt.Sprintf("etcd refuses a transaction of %d operations; trying with %d", s.ops, s.ops/2))
		s.ops /= 2
	}
}

// newLimits leaves room for what a request holds beside the entries: one operation
// on the key of all commits, and as many comparisons as do not fit are made one.
func (s *Store) newLimits() store.Limits {
	l := store.Limits{
		TxnEntries:    s.ops - 1,
		TxnBytes:      s.bytes - s.bytes/16,
		EntryOverhead: opOverhead + len(s.data),
	}
	l.KeyBytes = max(1, min(maxKeyBytes, l.TxnBytes/4))
	l.ValueBytes = max(1, l.TxnBytes-l.EntryOverhead-1)
	return l
}

// bounded returns ctx with the store's timeout for one request. The deadlines of
// both are kept from the client: it tells them to the server, and a server that
// gives up before the client does makes the client send the request again, which
// can be a commit that is done.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	bounded, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	timer := time.AfterFunc(s.timeout, cancel)
	return bounded, func() {
		stop()
		timer.Stop()
		cancel()
	}
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := s.begin(ctx, "view"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	r, err := s.snapshot(ctx, "view")
	if err != nil {
		return err
	}
	defer func() { r.done = true }()
	return fn(&r)
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := s.begin(ctx, "update"); err != nil {
		return err
	}
	defer s.life.RUnlock()
	r, err := s.snapshot(ctx, "update")
	if err != nil {
		return err
	}
	r.update = true
	t := &txn{reader: r}
	defer func() { t.done = true }()
	if err := fn(t); err != nil {
		return err
	}
	return t.commit()
}

// begin admits one transaction, or says why not. The caller unlocks life.
func (s *Store) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return &store.Error{Op: op, Err: err}
	}
	if !s.life.TryRLock() {
		return &store.Error{Op: op, Err: store.ErrClosed}
	}
	return nil
}

// Sync implements [store.Store]. A majority of the cluster has every commit on its
// disks when Update returns, so that it has nothing to do.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.begin(ctx, "sync"); err != nil {
		return err
	}
	s.life.RUnlock()
	return nil
}

// Shared implements [store.Sharer].
func (s *Store) Shared() bool { return true }

// Limits implements [store.Store]. The writes of one key count once.
func (s *Store) Limits() store.Limits { return s.limits }

// Close implements [store.Store]: it waits for running transactions and, if this
// Store made the client, closes it.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.life.Lock()
		if s.owned {
			err = s.client.Close()
		}
	})
	if err != nil {
		return &store.Error{Op: "close", Err: err}
	}
	return nil
}
