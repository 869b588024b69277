package systables_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

func TestSoftDelete(t *testing.T) {
	st := open(t)
	do := func(fn func(tx store.Txn) error) {
		t.Helper()
		if err := update(t, st, fn); err != nil {
			t.Fatal(err)
		}
	}
	do(func(tx store.Txn) error {
		return systables.Users.Put(tx, userNamed("u1", "ada"), userNamed("u2", "bob"))
	})
	before := text(t, st)
	// state returns the active users, and when u1 was deleted and changed.
	state := func() (active []systables.UserID, deleted *systables.Timestamp, updated systables.Timestamp) {
		t.Helper()
		err := st.View(t.Context(), func(s store.Reader) (err error) {
			active, err = collect(systables.Users.Active(s, ""), func(u systables.User) systables.UserID { return u.ID }, 0)
			if err != nil {
				return err
			}
			all, err := collect(systables.Users.All(s, ""), func(u systables.User) systables.UserID { return u.ID }, 0)
			if err != nil || len(all) != 2 {
				t.Errorf("All = %v, %v; want the deleted, too", all, err)
			}
			u, err := systables.Users.Get(s, "u1")
			deleted, updated = u.DeletedAt, u.UpdatedAt
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return active, deleted, updated
	}
	do(func(tx store.Txn) error { return systables.Users.SoftDelete(tx, "u1", 1000) })
	do(func(tx store.Txn) error { return systables.Users.SoftDelete(tx, "u1", 2000) })
	active, deleted, updated := state()
	if diff := cmp.Diff([]systables.UserID{"u2"}, active); diff != "" || deleted == nil || *deleted != 1000 || updated != 1000 {
		t.Errorf("deleted twice: at %v, updated %v, want the first time; active (-want +got):\n%s", deleted, updated, diff)
	}
	do(func(tx store.Txn) error {
		if _, err := systables.UserByName(tx, "ada"); !errors.Is(err, systables.ErrNotFound) {
			t.Errorf("a deleted user by name: %v, want ErrNotFound", err)
		}
		return nil
	})
	// The name is taken until the row is gone.
	insert := func(tx store.Txn) error { return systables.Users.Insert(tx, userNamed("u3", "ada")) }
	if err := update(t, st, insert); !errors.Is(err, systables.ErrExists) {
		t.Errorf("the name of a deleted user is given away: %v", err)
	}
	do(func(tx store.Txn) error { return systables.Users.Restore(tx, "u1", 3000) })
	do(func(tx store.Txn) error { return systables.Users.Restore(tx, "u1", 4000) })
	if active, deleted, updated = state(); len(active) != 2 || deleted != nil || updated != 3000 {
		t.Errorf("restored twice: active %v, deleted at %v, updated %v; want the first time", active, deleted, updated)
	}
	do(func(tx store.Txn) error {
		return systables.Users.Update(tx, "u1", func(u systables.User) (systables.User, error) { u.UpdatedAt = 0; return u, nil })
	})
	if diff := cmp.Diff(before, text(t, st)); diff != "" {
		t.Errorf("deleted and restored (-want +got):\n%s", diff)
	}
	do(func(tx store.Txn) error {
		return errors.Join(systables.Users.SoftDelete(tx, "u1", 5000), systables.Users.Delete(tx, "u1"))
	})
	do(insert)
	for name, op := range map[string]func(store.Txn) error{
		"SoftDelete": func(tx store.Txn) error { return systables.Users.SoftDelete(tx, "u1", 0) },
		"Restore":    func(tx store.Txn) error { return systables.Users.Restore(tx, "u1", 0) },
	} {
		if err := update(t, st, op); !errors.Is(err, systables.ErrNotFound) {
			t.Errorf("%s of a purged user: %v, want ErrNotFound", name, err)
		}
	}
}
