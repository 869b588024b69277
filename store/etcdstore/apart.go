package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvmigrate/kvmigrate/store"
)

// What follows the prefix of a store in its keys.
const (
	dataPart    = "/data"
	commitsPart = "/commits"
)

// apart refuses a prefix among the entries of another store, and one that has another
// store among its own, as far as they have entries and may be read.
func (s *Store) apart(ctx context.Context, prefix string) error {
	for at := range prefix {
		if outer := prefix[:at]; outer != "" && strings.HasPrefix(prefix[at:]+"/", dataPart+"/") {
			commits, err := s.first(ctx, outer+commitsPart)
			switch {
			case errors.Is(err, rpctypes.ErrPermissionDenied):
			case err != nil:
				return err
			case commits != "":
				return notApart(outer)
			}
		}
	}
	// A store that is among the entries of this one has the first of them, unless this one
	// has some itself.
	if own, err := s.first(ctx, s.commits); err != nil || own != "" {
		return err
	}
	first, err := s.first(ctx, s.data, clientv3.WithPrefix())
	if inner, ok := strings.CutSuffix(first, commitsPart); err == nil && ok {
		return notApart(inner)
	}
	return err
}

// first returns the first key of a range, "" if there is none.
func (s *Store) first(ctx context.Context, key string, opts ...clientv3.OpOption) (string, error) {
	resp, err := s.get(ctx, key, append(opts, clientv3.WithKeysOnly(), clientv3.WithLimit(1))...)
	if err != nil || len(resp.Kvs) == 0 {
		return "", err
	}
	return string(resp.Kvs[0].Key), nil
}

func notApart(other string) error {
	return fmt.Errorf("%w: %s is that of another store, and the entries of one would be among the other's; give each store a path of its own in etcd", store.ErrUnsupported, other)
}
