package transfer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// ExampleCopy moves a store; the destination could be one in etcd.
func ExampleCopy() {
	ctx := context.Background()
	from, err := badgerstore.OpenInMemory(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = from.Close() }()
	to, err := badgerstore.OpenInMemory(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = to.Close() }()
	err = store.Update(ctx, from, func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte("notes/1"), Value: []byte("Hello")})
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	report, err := transfer.Copy(ctx, from, to, transfer.Options{})
	switch _, incomplete := errors.AsType[*transfer.IncompleteError](err); {
	case errors.Is(err, transfer.ErrRefused):
		fmt.Println("nothing was written:", err)
	case incomplete:
		fmt.Println("call Copy again to go on:", err)
	case err != nil:
		fmt.Println(err)
	}
	for _, s := range report.Partitions {
		fmt.Println(s.Partition, s.Entries, "entries")
	}
	// Output: notes 1 entries
}
