package store_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
)

// names are valid and as close to one another as names can be.
var names = []string{
	"a", "aa", "ab", "b", "a.b", "a-b", "a_b", "a.", "a-", "a_", ".", "..", "-", "_", "0", "00", "0a",
	"z", "users", "users2", "user", "users.", strings.Repeat("n", 254), strings.Repeat("n", 255),
}

func TestPartitionsAreDisjoint(t *testing.T) {
	for i, a := range names {
		for j, b := range names {
			pa, pb := store.MustPartition(a), store.MustPartition(b)
			if i != j && bytes.HasPrefix(pa.Prefix(), pb.Prefix()) {
				t.Errorf("prefix %q of partition %q starts with prefix %q of partition %q; want partitions that never overlap", pa.Prefix(), a, pb.Prefix(), b)
			}
			for _, key := range []string{"", "/", b, b + "/", "\x00", "\xff"} {
				rest, ok := pb.Cut(pa.Key([]byte(key)))
				if ok != (i == j) {
					t.Errorf("Partition(%q).Cut of key %q of partition %q: ok = %t; want %t", b, key, a, ok, i == j)
				}
				if ok && string(rest) != key {
					t.Errorf("Partition(%q).Cut(Key(%q)) = %q; want the key back", a, key, rest)
				}
			}
		}
	}
}

func TestPartitionNames(t *testing.T) {
	for _, name := range names {
		p, err := store.NewPartition(name)
		if err != nil {
			t.Errorf("NewPartition(%q): %v; want it to be valid", name, err)
		}
		if p.Name() != name {
			t.Errorf("Name() = %q; want %q", p.Name(), name)
		}
	}
	for _, name := range []string{
		"", "/", "a/", "/a", "a/b", "A", "a b", " a", "a\n", "a\x00", "\x00", "\xff", "é", "a:b", "!badger!",
		strings.Repeat("n", 256),
	} {
		if p, err := store.NewPartition(name); err == nil || p != (store.Partition{}) {
			t.Errorf("NewPartition(%q) = %q, %v; want the zero Partition and an error", name, p.Name(), err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("MustPartition(%q) did not panic", name)
				}
			}()
			store.MustPartition(name)
		}()
	}
}

func TestDefaultPartition(t *testing.T) {
	var p store.Partition
	if p.Name() != "" || len(p.Prefix()) != 0 {
		t.Errorf("default partition: name %q, prefix %q; want both empty", p.Name(), p.Prefix())
	}
	for _, key := range []string{"", "a", "a/b", "/"} {
		rest, ok := p.Cut(p.Key([]byte(key)))
		if !ok || string(rest) != key {
			t.Errorf("default partition: Cut(Key(%q)) = %q, %t; want every key to belong to it", key, rest, ok)
		}
	}
}

func TestPartitionSlicesAreNew(t *testing.T) {
	p := store.MustPartition("users")
	key := append(make([]byte, 0, 64), "k1"...)
	full, prefix := p.Key(key), p.Prefix()
	key[0], prefix[0] = 'X', 'X'
	_ = append(p.Prefix(), "clobbered"...)
	want := []string{"users/k1", "users/", "users/k2"}
	got := []string{string(full), string(p.Prefix()), string(p.Key([]byte("k2")))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Key and Prefix after their arguments and results changed (-want +got)\n%s", diff)
	}
}
