package badgerstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/store"
)

// Some of Badger's errors cannot be provoked on purpose, so their translation is
// tested here.
func TestWrap(t *testing.T) {
	for _, s := range sentinels {
		err := wrap("op", []byte("key"), s.cause)
		if !errors.Is(err, s.sentinel) || !errors.Is(err, s.cause) {
			t.Errorf("wrap(%v) = %v; want an error that matches both it and %v", s.cause, err, s.sentinel)
		}
	}
	for _, cause := range []error{
		fmt.Errorf("DB::Get key: %q err: broken table", "secret\xff"),
		errors.New("Value with size 9 exceeded 5 limit. Value:\n00000000  73 65 63 72 65 74  |secret|"),
	} {
		key := []byte("secret\xff")
		err := wrap("get", key, cause)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("error %q; want neither key nor value in the text", err)
		}
		var e *store.Error
		if !errors.As(err, &e) || string(e.Key) != string(key) || !errors.Is(err, cause) {
			t.Errorf("error %q; want a *store.Error with the key that wraps its cause", err)
		}
		key[0] = 'X'
		if e.Key[0] == 'X' {
			t.Error("Error.Key shares memory with the caller's key")
		}
	}
	if err := wrap("get", nil, errors.New("DB::Get err: actual: 1, expected: 2 err: checksum mismatch")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("error %q; want one that matches ErrCorrupt", err)
	}
	if err := wrap("get", nil, nil); err != nil {
		t.Errorf("wrap(nil) = %v", err)
	}
	if err := wrap("commit", nil, badger.ErrBlockedWrites); !errors.Is(err, store.ErrBusy) {
		t.Errorf("error %q; want one that store.Update retries", err)
	}
}
