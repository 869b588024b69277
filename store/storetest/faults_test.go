package storetest_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// TestCommits: where a commit is, StopAfterCommit leaves what Stop does not.
func TestCommits(t *testing.T) {
	e := store.Entry{Key: []byte("k"), Value: []byte("v")}
	twice := func(t *testing.T, at int, fault storetest.Fault) (f *storetest.Faulty, there bool) {
		t.Helper()
		st, err := badgerstore.OpenInMemory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}()
		f = storetest.Fail(st, at, fault)
		err = f.Update(t.Context(), func(tx store.Txn) error { return tx.Set(e) })
		if err == nil {
			err = f.Update(t.Context(), func(tx store.Txn) error { return tx.Delete([]byte("other")) })
		}
		if fails := at > 0; fails != errors.Is(err, storetest.ErrFault) {
			t.Errorf("%v at %d: error = %v, want ErrFault: %t", fault, at, err, fails)
		}
		err = st.View(t.Context(), func(r store.Reader) error {
			_, err := r.Get(e.Key)
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return f, err == nil
	}
	undisturbed, _ := twice(t, 0, storetest.Error)
	if diff := cmp.Diff([]int{3, 6}, undisturbed.Commits()); diff != "" || undisturbed.Operations() != 6 {
		t.Fatalf("%d operations, want 6; commits (-want +got):\n%s", undisturbed.Operations(), diff)
	}
	var failed []string
	for at := 1; at <= undisturbed.Operations(); at++ {
		f, _ := twice(t, at, storetest.Error)
		failed = append(failed, f.Failed())
	}
	if diff := cmp.Diff([]string{"update", `set "k"`, "commit", "update", `delete "other"`, "commit"}, failed); diff != "" || undisturbed.Failed() != "" {
		t.Errorf("with no fault %q failed; operations that failed (-want +got):\n%s", undisturbed.Failed(), diff)
	}
	for at := 1; at <= undisturbed.Operations(); at++ {
		_, stopped := twice(t, at, storetest.Stop)
		_, after := twice(t, at, storetest.StopAfterCommit)
		if first := at == 3; stopped != (at > 3) || after != (stopped || first) {
			t.Errorf("at %d: the entry is there after Stop: %t, after StopAfterCommit: %t", at, stopped, after)
		}
	}
}
