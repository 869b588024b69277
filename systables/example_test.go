package systables_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
)

// Several changes commit together or not at all, and a row that is refused is refused
// with all that is wrong with it.
func Example() {
	ctx := context.Background()
	st, err := badgerstore.OpenInMemory(ctx)
	if err != nil {
		panic(err)
	}
	defer st.Close()
	if _, err := systables.Initialize(ctx, st); err != nil {
		panic(err)
	}

	now := time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC)
	ada := systables.User{
		ID: "u1", Username: "ada", Role: "dba", AuthType: "internal", StorageMode: "table",
		CreatedAt: systables.At(now), UpdatedAt: systables.At(now),
	}
	err = store.Update(ctx, st, func(tx store.Txn) error {
		if err := systables.Users.Insert(tx, ada); err != nil {
			return err
		}
		return systables.AuditLogs.Insert(tx, systables.AuditLog{
			ID: "a1", Timestamp: systables.At(now), ActorUserID: "u1", ActorUsername: "ada", Action: "user.create", Target: "u1",
		})
	})
	if err != nil {
		panic(err)
	}

	err = store.Update(ctx, st, func(tx store.Txn) error {
		return systables.Users.Insert(tx, systables.User{ID: "u2", Username: "ada", Role: "queen", AuthType: "internal", StorageMode: "table"})
	})
	fmt.Println(errors.Is(err, systables.ErrExists), errors.Is(err, systables.ErrInvalid))

	err = st.View(ctx, func(s store.Reader) error {
		user, err := systables.UserByName(s, "ada")
		if err != nil {
			return err
		}
		fmt.Println(user.ID, user.Role)
		for log, err := range systables.AuditLogs.ByTime(s, systables.TimeRange{Since: now.Add(-time.Hour), NewestFirst: true}) {
			if err != nil {
				return err
			}
			fmt.Println(log.Timestamp.Time().Format(time.RFC3339), log.Action)
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// true true
	// u1 dba
	// 2025-01-15T12:00:00Z user.create
}
