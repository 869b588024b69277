package systables

import (
	"iter"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
)

// A UserTable is the table of users, which can also be deleted so that they can be
// restored. Such a user keeps the username until the row itself is deleted: nobody
// else can take it and pass for the one that the audit log speaks of, and a user
// can always be restored. Get, All, Backward and ByTime have deleted users, too.
type UserTable struct{ Table[UserID, User] }

// SoftDelete marks the user as deleted at now. One that is deleted already stays
// as it is. The error matches [ErrNotFound] if there is no such row.
func (t UserTable) SoftDelete(tx store.Txn, id UserID, now Timestamp) error {
	return t.Update(tx, id, func(u User) (User, error) {
		if u.DeletedAt == nil {
			u.DeletedAt, u.UpdatedAt = &now, now
		}
		return u, nil
	})
}

// Restore undoes [UserTable.SoftDelete] at now. A user that is not deleted stays as
// it is. The error matches [ErrNotFound] if there is no such row, because it was
// purged or never was.
func (t UserTable) Restore(tx store.Txn, id UserID, now Timestamp) error {
	return t.Update(tx, id, func(u User) (User, error) {
		if u.DeletedAt != nil {
			u.DeletedAt, u.UpdatedAt = nil, now
		}
		return u, nil
	})
}

// Active yields the users that are not deleted and whose key starts with prefix, in
// key order. Errors are as of [Table.All].
func (t UserTable) Active(s store.Reader, prefix UserID) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for u, err := range t.All(s, prefix) {
			if err == nil && u.DeletedAt != nil {
				continue
			}
			if !yield(u, err) {
				return
			}
		}
	}
}

// UserByName returns the user with that username, through the unique index. The
// error matches [ErrNotFound] if there is none or it is deleted, and
// [store.ErrCorrupt] if the index and the rows contradict each other.
func UserByName(s store.Reader, username string) (User, error) {
	user, id, err := Users.find(s, Users.indexes[0], tuple.AppendString(nil, username))
	if err == nil && user.DeletedAt != nil {
		user, err = User{}, ErrNotFound
	}
	return user, Users.fail("get", id, err)
}
