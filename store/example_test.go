package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()

	users := store.MustPartition("users")
	err = store.Update(ctx, st, func(tx store.Txn) error {
		for _, name := range []string{"grace", "ada"} {
			if err := tx.Set(store.Entry{Key: users.Key([]byte(name)), Value: []byte("admin")}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	err = st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{Prefix: users.Prefix()}) {
			if err != nil {
				return err
			}
			name, _ := users.Cut(e.Key)
			fmt.Printf("%s: %s\n", name, e.Value)
		}
		_, err := r.Get(users.Key([]byte("alan")))
		fmt.Println("no alan:", errors.Is(err, store.ErrNotFound))
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// ada: admin
	// grace: admin
	// no alan: true
}

func ExamplePartition() {
	users := store.MustPartition("users")
	key := users.Key([]byte("ada"))
	rest, ok := users.Cut(key)
	fmt.Printf("%s %s %t\n", key, rest, ok)

	_, ok = store.MustPartition("user").Cut(key)
	fmt.Println(ok)

	_, err := store.NewPartition("a/b")
	fmt.Println(err)
	// Output:
	// users/ada ada true
	// false
	// partition name "a/b": want only a-z, 0-9, '_', '-' and '.'
}

func ExampleError() {
	err := fmt.Errorf("read the profile: %w", &store.Error{Op: "get", Key: []byte("users/ada"), Err: store.ErrNotFound})
	fmt.Println(err)
	if e := new(store.Error); errors.As(err, &e) {
		fmt.Printf("%s\n", e.Key)
	}
	// Output:
	// read the profile: get: key not found
	// users/ada
}

func ExampleLimits_Cost() {
	limits := store.Limits{TxnEntries: 1000, TxnBytes: 1 << 20, EntryOverhead: 24}
	row := store.Entry{Key: []byte("users/ada"), Value: make([]byte, 3000)}
	fmt.Println("rows in a transaction:", min(limits.TxnEntries, limits.TxnBytes/limits.Cost(row)))
	// Output: rows in a transaction: 345
}
