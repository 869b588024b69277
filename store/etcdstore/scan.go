package etcdstore

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvmigrate/kvmigrate/store"
)

// The size of a page. The first is small, because many scans end soon; the next
// ones grow up to so many entries, or to that many bytes.
const (
	firstPage = 32
	maxPage   = 1000
	pageBytes = 1 << 20
)

// Scan implements store.Reader.
func (r *reader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := r.usable(); err != nil {
			yield(store.Entry{}, wrap("scan", nil, err))
			return
		}
		p := r.newPages(s)
		for own := r.written(p, s); ; {
			e, err := r.next(p, &own, s)
			if err != nil {
				yield(store.Entry{}, wrap("scan", nil, err))
				return
			}
			if e.Key == nil || !yield(e, nil) {
				return
			}
		}
	}
}

// next returns the next entry of the store or of the transaction's own writes,
// which come in the order of the scan, without a key at the end.
func (r *reader) next(p *pages, own *[]string, s store.Scan) (store.Entry, error) {
	if err := r.usable(); err != nil {
		return store.Entry{}, err
	}
	for {
		kv, err := p.peek()
		if err != nil {
			return store.Entry{}, err
		}
		if len(*own) > 0 {
			key := (*own)[0]
			order := -1
			if kv != nil {
				order = strings.Compare(key, string(kv.Key[len(r.store.data):]))
				if s.Reverse {
					order = -order
				}
			}
			if order <= 0 {
				*own = (*own)[1:]
				if order == 0 {
					p.pop()
				}
				w := r.writes[key]
				if w.delete {
					continue
				}
				e := store.Entry{Key: []byte(key)}
				if !s.KeysOnly {
					e.Value = clone(w.value)
				}
				return e, nil
			}
		}
		if kv == nil {
			return store.Entry{}, nil
		}
		p.pop()
		e := store.Entry{Key: kv.Key[len(r.store.data):]}
		if !s.KeysOnly {
			e.Value = notNil(kv.Value)
		}
		r.remember(string(e.Key), kv.ModRevision)
		return e, nil
	}
}

// written returns the keys that the transaction has written in the range of p, in
// the order of the scan.
func (r *reader) written(p *pages, s store.Scan) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(r.writes)) {
		if full := r.store.data + key; full >= p.from && full < p.end {
			keys = append(keys, key)
		}
	}
	if s.Reverse {
		slices.Reverse(keys)
	}
	return keys
}

// pages reads a range of keys at the revision of a transaction, page by page.
type pages struct {
	reader  *reader
	scan    store.Scan
	from    string // the first key that is left to read, and
	end     string // the key after the last
	limit   int64  // of entries on the next page
	page    []*mvccpb.KeyValue
	drained bool
}

func (r *reader) newPages(s store.Scan) *pages {
	p := &pages{reader: r, scan: s, limit: firstPage, from: r.store.data + string(s.Prefix)}
	p.end = prefixEnd(p.from)
	if s.From != nil {
		start := r.store.data + string(s.From)
		if s.Reverse {
			p.end = min(p.end, start+"\x00")
		} else {
			p.from = max(p.from, start)
		}
	}
	return p
}

// peek returns the next entry, nil at the end.
func (p *pages) peek() (*mvccpb.KeyValue, error) {
	if len(p.page) == 0 {
		if p.drained || p.from >= p.end {
			return nil, nil
		}
		if err := p.read(); err != nil {
			return nil, err
		}
	}
	if len(p.page) == 0 {
		return nil, nil
	}
	return p.page[0], nil
}

func (p *pages) pop() { p.page = p.page[1:] }

// read reads the next page.
func (p *pages) read() error {
	opts := []clientv3.OpOption{clientv3.WithRange(p.end), clientv3.WithRev(p.reader.revision), clientv3.WithLimit(p.limit)}
	if p.scan.KeysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	if p.scan.Reverse {
		opts = append(opts, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	}
	resp, err := p.reader.store.get(p.reader.ctx, p.from, opts...)
	if err != nil {
		return err
	}
	p.page, p.drained = resp.Kvs, !resp.More
	if len(p.page) == 0 {
		return nil
	}
	last := string(p.page[len(p.page)-1].Key)
	if p.scan.Reverse {
		p.end = last
	} else {
		p.from = last + "\x00"
	}
	size := int64(1)
	for _, kv := range p.page {
		size += int64(len(kv.Key) + len(kv.Value))
	}
	fits := pageBytes * int64(len(p.page)) / size
	p.limit = max(1, min(fits, 4*p.limit, maxPage))
	return nil
}

// prefixEnd returns the first key after all keys with prefix. There is one: the
// prefix of a store does not end in 0xff.
func prefixEnd(prefix string) string {
	end := len(prefix)
	for prefix[end-1] == 0xff {
		end--
	}
	return prefix[:end-1] + string([]byte{prefix[end-1] + 1})
}
