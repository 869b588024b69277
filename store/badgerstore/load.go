package badgerstore

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/kvmigrate/kvmigrate/store"
)

var _ store.Loader = (*Store)(nil)

// loadBytes is how much Load hands to Badger at a time.
const loadBytes = 1 << 20

// Load implements [store.Loader] for a store that [Replace] has its fill function fill,
// by writing Badger's tables in order: nothing is logged, and nothing is left to be
// compacted. Others are refused, because a kill would leave them half filled.
func (s *Store) Load(ctx context.Context, entries iter.Seq2[store.Entry, error]) error {
	if !s.building {
		return &store.Error{Op: "load", Err: fmt.Errorf("%w: only a store that Replace builds can be loaded", store.ErrUnsupported)}
	}
	err := s.View(ctx, func(r store.Reader) error {
		for _, err := range r.Scan(store.Scan{KeysOnly: true}) {
			if err != nil {
				return err
			}
			return &store.Error{Op: "load", Err: fmt.Errorf("%w: it holds something already", store.ErrUnsupported)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Badger makes a new beginning of it, which no transaction survives.
	if !s.life.TryLock() {
		return &store.Error{Op: "load", Err: fmt.Errorf("%w: it is in use, or closed", store.ErrUnsupported)}
	}
	defer s.life.Unlock()
	w := s.db.NewStreamWriter()
	defer w.Cancel()
	if err := w.Prepare(); err != nil {
		return wrap("load", nil, err)
	}
	if err := s.load(ctx, w, entries); err != nil {
		return err
	}
	return wrap("load", nil, w.Flush())
}

// load writes entries to w, which ends the process over keys that are not in order.
func (s *Store) load(ctx context.Context, w *badger.StreamWriter, entries iter.Seq2[store.Entry, error]) error {
	buf := z.NewBuffer(2*loadBytes, "badgerstore.Load")
	defer func() { _ = buf.Release() }() // it is in memory
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return &store.Error{Op: "load", Err: err}
		}
		err := wrap("load", nil, w.Write(buf))
		buf.Reset()
		return err
	}
	var last []byte
	kv := &pb.KV{UserMeta: make([]byte, 1), Version: 1}
	for e, err := range entries {
		if err != nil {
			return err
		}
		if err := admit(s.limits, e); err != nil {
			return wrap("load", e.Key, err)
		}
		if last != nil && bytes.Compare(e.Key, last) <= 0 {
			return wrap("load", e.Key, fmt.Errorf("%w: it is not after the one before it", store.ErrInvalidKey))
		}
		last = append(last[:0], e.Key...)
		kv.Key, kv.Value, kv.ExpiresAt, kv.UserMeta[0] = e.Key, e.Value, e.ExpiresAt, e.Meta
		badger.KVToBuffer(kv, buf)
		if buf.LenNoPadding() >= loadBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
