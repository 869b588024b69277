package systables_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

const writers = 16

// concurrently runs do in each of the writers and wants no errors.
func concurrently(t *testing.T, do func(w int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			if err := do(w); err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	wg.Wait()
}

func TestNoLostUpdate(t *testing.T) {
	st := open(t)
	if err := update(t, st, func(tx store.Txn) error { return systables.Users.Insert(tx, userNamed("u", "ada")) }); err != nil {
		t.Fatal(err)
	}
	const each = 20
	concurrently(t, func(int) error {
		for range each {
			err := store.Update(t.Context(), st, func(tx store.Txn) error {
				return systables.Users.Update(tx, "u", func(u systables.User) (systables.User, error) {
					u.FailedLoginAttempts++
					return u, nil
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	err := st.View(t.Context(), func(s store.Reader) error {
		u, err := systables.Users.Get(s, "u")
		if err == nil && u.FailedLoginAttempts != writers*each {
			t.Errorf("%d of %d updates are there", u.FailedLoginAttempts, writers*each)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOneUsernameUnderConcurrency: writers insert, rename, replace, delete and
// delete and insert again users that all want a few names. No two have one name at
// the end, and the index and the rows agree.
func TestOneUsernameUnderConcurrency(t *testing.T) {
	st := open(t)
	const each, names = 40, 6
	var done atomic.Int64
	concurrently(t, func(w int) error {
		random := rand.New(rand.NewPCG(uint64(w), 1))
		for range each {
			id := systables.UserID(fmt.Sprintf("u%d", random.IntN(8)))
			other := systables.UserID(fmt.Sprintf("v%d", random.IntN(8)))
			name, second := fmt.Sprint(random.IntN(names)), fmt.Sprint(random.IntN(names))
			op := random.IntN(5)
			err := store.Update(t.Context(), st, func(tx store.Txn) error {
				switch op {
				case 0:
					return systables.Users.Insert(tx, userNamed(id, name))
				case 1:
					return systables.Users.Update(tx, id, func(u systables.User) (systables.User, error) { u.Username = name; return u, nil })
				case 2:
					return systables.Users.Put(tx, userNamed(id, name), userNamed(other, second))
				case 3:
					return systables.Users.Delete(tx, id)
				}
				if err := systables.Users.Delete(tx, id); err != nil {
					return err
				}
				return systables.Users.Insert(tx, userNamed(other, name))
			})
			switch {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, systables.ErrExists) && !errors.Is(err, systables.ErrNotFound):
				return fmt.Errorf("operation %d: %w", op, err)
			}
		}
		return nil
	})
	owners := map[string]systables.UserID{}
	for id, name := range usernames(t, st) {
		if other, ok := owners[name]; ok {
			t.Errorf("users %s and %s have one name", id, other)
		}
		owners[name] = id
	}
	if done.Load() == 0 {
		t.Error("nothing succeeded")
	}
}
