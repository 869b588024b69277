package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvmigrate/kvmigrate/store"
)

// opOverhead is what a write or a comparison costs in a request beyond its keys and
// values, at most: the tags and lengths of the messages around them, and what the commit
// says of the key.
const opOverhead = 32 + hashBytes

// requestOverhead is what a request costs beyond its operations.
const requestOverhead = 1 << 10

// reader implements store.Reader over one revision.
type reader struct {
	ctx      context.Context //nolint:containedctx // for the length of one transaction
	store    *Store
	revision int64
	fresh    bool // whether nothing was ever committed at revision
	done     bool

	// Only an Update has these.
	update bool
	writes map[string]write
	reads  map[string]int64 // by key, the revision that it was written at, 0 if absent
	many   *keySet          // instead of reads, if they are more than can be compared
}

// A write is the last one of a key.
type write struct {
	value  []byte
	delete bool
}

// txn implements store.Txn.
type txn struct {
	reader
	poison error // the first failed write: nothing may commit after it
	bytes  int   // of all writes
}

// snapshot returns a reader of what is committed now.
func (s *Store) snapshot(ctx context.Context, op string) (reader, error) {
	resp, err := s.get(ctx, s.commits, clientv3.WithCountOnly())
	if err != nil {
		return reader{}, &store.Error{Op: op, Err: err}
	}
	return reader{ctx: ctx, store: s, revision: resp.Header.Revision, fresh: resp.Count == 0}, nil
}

func (s *Store) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if err := s.clientClosed(); err != nil {
		return nil, err
	}
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.client.Get(bounded, key, opts...)
	return resp, s.translate(ctx, err)
}

// usable says why an operation may not go on.
func (r *reader) usable() error {
	if r.done {
		return store.ErrTxnDone
	}
	return r.ctx.Err()
}

// Get implements store.Reader.
func (r *reader) Get(key []byte) (store.Entry, error) {
	value, err := r.get(key)
	if err != nil {
		return store.Entry{}, wrap("get", key, err)
	}
	return store.Entry{Key: key, Value: value}, nil
}

func (r *reader) get(key []byte) ([]byte, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if err := checkKey(key, r.store.limits); err != nil {
		return nil, err
	}
	if w, ok := r.writes[string(key)]; ok {
		if w.delete {
			return nil, store.ErrNotFound
		}
		return clone(w.value), nil
	}
	resp, err := r.store.get(r.ctx, r.store.data+string(key), clientv3.WithRev(r.revision))
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		r.remember(string(key), 0)
		return nil, store.ErrNotFound
	}
	r.remember(string(key), resp.Kvs[0].ModRevision)
	return notNil(resp.Kvs[0].Value), nil
}

// remember notes for the commit that the transaction read key as it was written at
// revision.
func (r *reader) remember(key string, revision int64) {
	switch {
	case !r.update:
		return
	case r.many != nil:
		r.many.add(hashOf(key))
		return
	}
	if r.reads == nil {
		r.reads = map[string]int64{}
	}
	r.reads[key] = revision
	if len(r.reads) > r.store.ops {
		r.widen()
	}
}

// widen makes a set of what was read, which is not compared key by key any more.
func (r *reader) widen() {
	r.many = new(keySet)
	for key := range r.reads {
		r.many.add(hashOf(key))
	}
	r.reads = nil
}

// Set implements store.Txn.
func (t *txn) Set(e store.Entry) error {
	return t.write("set", e, write{value: e.Value})
}

// Delete implements store.Txn.
func (t *txn) Delete(key []byte) error {
	return t.write("delete", store.Entry{Key: key}, write{delete: true})
}

// write admits one write of e and remembers the first that fails.
func (t *txn) write(op string, e store.Entry, w write) error {
	if t.poison != nil && !t.done {
		return t.poison
	}
	err := t.usable()
	if err == nil {
		err = t.admit(e)
	}
	if err != nil {
		t.poison = wrap(op, e.Key, err)
		return t.poison
	}
	if t.writes == nil {
		t.writes = map[string]write{}
	}
	w.value = clone(w.value)
	t.writes[string(e.Key)] = w
	return nil
}

// admit checks e against the limits and counts it.
func (t *txn) admit(e store.Entry) error {
	l := t.store.limits
	switch {
	case e.ExpiresAt != 0:
		return fmt.Errorf("%w: etcd does not let an entry expire", store.ErrUnsupported)
	case e.Meta != 0:
		return fmt.Errorf("%w: etcd keeps no user meta with an entry", store.ErrUnsupported)
	case len(e.Value) > l.ValueBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrValueTooBig, len(e.Value), l.ValueBytes)
	}
	if err := checkKey(e.Key, l); err != nil {
		return err
	}
	entries := len(t.writes)
	if old, ok := t.writes[string(e.Key)]; ok {
		t.bytes -= l.Cost(store.Entry{Key: e.Key, Value: old.value})
	} else {
		entries++
	}
	t.bytes += l.Cost(e)
	if entries > l.TxnEntries || t.bytes > l.TxnBytes {
		return fmt.Errorf("%w: it may have %d writes and %d bytes", store.ErrTxnTooBig, l.TxnEntries, l.TxnBytes)
	}
	return nil
}

func checkKey(key []byte, l store.Limits) error {
	switch {
	case len(key) == 0:
		return fmt.Errorf("%w: it is empty", store.ErrInvalidKey)
	case len(key) > l.KeyBytes:
		return fmt.Errorf("%w: it has %d bytes and may have %d", store.ErrInvalidKey, len(key), l.KeyBytes)
	}
	return nil
}

// commit sends the writes, if what was read still holds.
func (t *txn) commit() error {
	if t.poison != nil {
		return t.poison
	}
	if err := t.ctx.Err(); err != nil {
		return &store.Error{Op: "commit", Err: err}
	}
	t.done = true
	if len(t.writes) == 0 {
		return nil // what it read was one revision
	}
	ops := t.operations()
	compare := t.comparisons()
	err := t.send(compare, ops)
	if errors.Is(err, store.ErrTxnTooBig) && t.many == nil {
		// A server with lower limits, which may still take it with one comparison.
		t.widen()
		err = t.send(t.comparisons(), ops)
	}
	for tried := 0; tried < maxMoves && t.many != nil && errors.Is(err, store.ErrConflict); tried++ {
		if err = t.move(); err == nil {
			err = t.send(t.comparisons(), ops)
		}
	}
	return wrap("commit", nil, err)
}

// operations returns the writes as etcd takes them, and the one on the key of all
// commits.
func (t *txn) operations() []clientv3.Op {
	ops := make([]clientv3.Op, 0, len(t.writes)+1)
	for key, w := range t.writes {
		if w.delete {
			ops = append(ops, clientv3.OpDelete(t.store.data+key))
		} else {
			ops = append(ops, clientv3.OpPut(t.store.data+key, string(w.value)))
		}
	}
	return append(ops, clientv3.OpPut(t.store.commits, hashesOf(t.writes)))
}

// comparisons returns what must hold for the commit: that no key that was read has
// changed or, if they are too many or too long, that nothing was committed.
func (t *txn) comparisons() []clientv3.Cmp {
	size := requestOverhead + t.bytes
	compare := make([]clientv3.Cmp, 0, len(t.reads))
	for key, revision := range t.reads {
		size += opOverhead + len(t.store.data) + len(key)
		compare = append(compare, clientv3.Compare(clientv3.ModRevision(t.store.data+key), "=", revision))
	}
	if t.many == nil && size > t.store.bytes {
		t.widen()
	}
	if t.many != nil {
		return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(t.store.commits), "<", t.revision+1)}
	}
	return compare
}

// send sends one request. Its error tells what is certain: that nothing was written, or
// not.
func (t *txn) send(compare []clientv3.Cmp, ops []clientv3.Op) error {
	s := t.store
	if err := s.clientClosed(); err != nil {
		return err
	}
	bounded, cancel := s.bounded(t.ctx)
	defer cancel()
	resp, err := s.client.Txn(bounded).If(compare...).Then(ops...).Commit()
	switch {
	case err == nil && resp.Succeeded:
		return nil
	case err == nil:
		return store.ErrConflict
	case errors.Is(err, rpctypes.ErrNoSpace) && !t.isLatest():
	case refused(err):
		return s.translate(t.ctx, err)
	}
	err = s.translate(t.ctx, err)
	s.log.WarnContext(t.ctx, "etcd did not confirm a transaction: its outcome is unknown", "error", err)
	return fmt.Errorf("%w: %w", store.ErrUnknown, err)
}

// isLatest reports that nothing was committed since the revision of the transaction, not
// even by itself. A server whose quota is used up refuses what it is sent, but says the
// same of a request that used it up, which it has carried out.
func (t *txn) isLatest() bool {
	resp, err := t.store.get(t.ctx, t.store.commits, clientv3.WithKeysOnly())
	return err == nil && (len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision <= t.revision)
}

func clone(b []byte) []byte { return notNil(bytes.Clone(b)) }

// notNil returns b, or an empty slice for nil: an entry has a value.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
