package store_test

import (
	"errors"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

func TestReadOnly(t *testing.T) {
	under, err := badgerstore.OpenInMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set := func(tx store.Txn) error { return tx.Set(store.Entry{Key: []byte("key"), Value: []byte("value")}) }
	if err := store.Update(t.Context(), under, set); err != nil {
		t.Fatal(err)
	}
	st := store.ReadOnly(under)
	if err := store.Update(t.Context(), st, set); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Update = %v; want ErrReadOnly", err)
	}
	err = st.View(t.Context(), func(r store.Reader) error {
		e, err := r.Get([]byte("key"))
		if err == nil && string(e.Value) != "value" {
			t.Errorf("Get = %q; want what is stored", e.Value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if err := under.Sync(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Sync of the store below after Close = %v; want ErrClosed", err)
	}
}
