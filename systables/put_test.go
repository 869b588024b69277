package systables_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// userNamed returns a valid user.
func userNamed(id systables.UserID, name string) systables.User {
	u := user()
	u.ID, u.Username = id, name
	return u
}

// usernames returns the users by key, and wants the index to agree.
func usernames(t *testing.T, st store.Store) map[systables.UserID]string {
	t.Helper()
	names := map[systables.UserID]string{}
	err := st.View(t.Context(), func(s store.Reader) error {
		for u, err := range systables.Users.All(s, "") {
			if err != nil {
				return err
			}
			names[u.ID] = u.Username
			if got, err := systables.UserByName(s, u.Username); u.DeletedAt == nil && (err != nil || got.ID != u.ID) {
				t.Errorf("user %s by name is %s, %v", u.ID, got.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	entries := strings.Count("\n"+text(t, st), "\n\"system.users.username/")
	if entries != len(names) {
		t.Errorf("the index has %d entries of %d users", entries, len(names))
	}
	return names
}

// TestRefusedWithEveryFault: a row is refused with all of its faults, as a field and
// not in the text, and a transaction that commits all the same has written nothing.
func TestRefusedWithEveryFault(t *testing.T) {
	st := open(t)
	if err := update(t, st, func(tx store.Txn) error {
		return errors.Join(systables.Users.Insert(tx, userNamed("u1", "ada")), systables.Users.Insert(tx, userNamed("u2", "secret")))
	}); err != nil {
		t.Fatal(err)
	}
	before := text(t, st)
	bad := userNamed("u1", "secret")
	bad.Role, bad.Email = "secret", new(string)
	*bad.Email = "\xff"
	tests := map[string]struct {
		do     func(store.Txn) error
		op     string
		faults int
	}{
		"insert": {func(tx store.Txn) error { return systables.Users.Insert(tx, bad) }, "insert", 4},
		"update": {func(tx store.Txn) error {
			return systables.Users.Update(tx, "u1", func(systables.User) (systables.User, error) { return bad, nil })
		}, "update", 3},
		"put": {func(tx store.Txn) error { return systables.Users.Put(tx, userNamed("u3", "bob"), bad) }, "put", 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var refused error
			err := update(t, st, func(tx store.Txn) error {
				refused = tt.do(tx)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			e, ok := errors.AsType[*systables.RowError](refused)
			if !ok || e.Op != tt.op || e.Table != "system.users" || e.Key != "u1" {
				t.Fatalf("error = %#v, want a *RowError", refused)
			}
			faults, ok := errors.AsType[*multierror.Error](e.Err)
			if !ok || len(faults.Errors) != tt.faults {
				t.Errorf("faults of the row: %v, want %d", e.Err, tt.faults)
			}
			if !errors.Is(refused, systables.ErrInvalid) || !errors.Is(refused, systables.ErrExists) {
				t.Errorf("error %v: want a match of ErrInvalid and ErrExists", refused)
			}
			if strings.Contains(strings.ReplaceAll(refused.Error(), "system.users", ""), "secret") {
				t.Errorf("the error tells a value: %v", refused)
			}
			if strings.Contains(refused.Error(), "\n") {
				t.Errorf("the error has lines: %q", refused)
			}
			if diff := cmp.Diff(before, text(t, st)); diff != "" {
				t.Errorf("the refused row changed the store (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPut adds and replaces, and rows may pass a unique value on.
func TestPut(t *testing.T) {
	st := open(t)
	const future = 4102444800
	put(t, st,
		store.Entry{Key: []byte("system.users/u1"), Value: encode(t, userNamed("u1", "ada")), ExpiresAt: future, Meta: 7},
		store.Entry{Key: []byte("system.users.username/\x02ada\x00"), Value: encode(t, "u1"), ExpiresAt: future},
	)
	do := func(users ...systables.User) error {
		return update(t, st, func(tx store.Txn) error { return systables.Users.Put(tx, users...) })
	}
	if err := do(userNamed("u2", "bob"), userNamed("u3", "cy")); err != nil {
		t.Fatal(err)
	}
	// In a ring, each takes the name that the next one has.
	if err := do(userNamed("u1", "bob"), userNamed("u2", "cy"), userNamed("u3", "ada"), userNamed("u4", "dan")); err != nil {
		t.Fatal(err)
	}
	want := map[systables.UserID]string{"u1": "bob", "u2": "cy", "u3": "ada", "u4": "dan"}
	if diff := cmp.Diff(want, usernames(t, st)); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	all := text(t, st)
	for _, line := range []string{`"system.users.username/\x02bob\x00" "u1" expires=4102444800`, `expires=4102444800 meta=0x07`} {
		if !strings.Contains(all, line) {
			t.Errorf("a replaced row lost its expiry or meta: no %s in\n%s", line, all)
		}
	}
	if err := do(); err != nil {
		t.Errorf("Put of nothing: %v", err)
	}
	if diff := cmp.Diff(all, text(t, st)); diff != "" {
		t.Errorf("Put of nothing (-want +got):\n%s", diff)
	}
}

// TestPutReportsEveryRow: the faults of all rows come together, in their order.
func TestPutReportsEveryRow(t *testing.T) {
	st := open(t)
	if err := update(t, st, func(tx store.Txn) error { return systables.Users.Insert(tx, userNamed("u0", "ada")) }); err != nil {
		t.Fatal(err)
	}
	before := text(t, st)
	norole := userNamed("u2", "bob")
	norole.Role = ""
	err := update(t, st, func(tx store.Txn) error {
		return systables.Users.Put(tx, userNamed("u1", "ada"), norole, userNamed("u3", "cy"), userNamed("u4", "cy"), userNamed("u3", "dan"))
	})
	all, ok := errors.AsType[*multierror.Error](err)
	if !ok {
		t.Fatalf("error %T %v, want a *multierror.Error", err, err)
	}
	var got []string
	for _, err := range all.Errors {
		e, ok := errors.AsType[*systables.RowError](err)
		if !ok {
			t.Fatalf("error %T is no *RowError", err)
		}
		got = append(got, fmt.Sprint(e.Key, " ", e.Err))
	}
	want := []string{
		"u1 row already exists: its username is taken",
		"u2 system.users: column role is none of user, service, dba, system",
		"u4 row already exists: its username is taken",
		"u3 row already exists: its key comes twice",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, text(t, st)); diff != "" {
		t.Errorf("the refused rows changed the store (-want +got):\n%s", diff)
	}
}

// TestRowsOfOlderVersions: what is refused now and was not before can be read, changed
// elsewhere and deleted, and verify has no fault to find; but it cannot be put there.
func TestRowsOfOlderVersions(t *testing.T) {
	st := open(t)
	text := "no JSON"
	job := systables.Job{ID: "old", Status: "pending", Parameters: &text}
	nobody := user()
	nobody.Username, nobody.AuthData = "", &text
	put(t, st,
		store.Entry{Key: []byte("system.users/u1"), Value: encode(t, nobody)},
		store.Entry{Key: []byte("system.users.username/\x02\x00"), Value: encode(t, "u1")},
		store.Entry{Key: []byte("system.jobs/old"), Value: encode(t, job)},
		store.Entry{Key: []byte("system.jobs.status/\x02pending\x00\x15\x80\x00\x00\x00\x00\x00\x00\x00\x02old\x00"), Value: encode(t, "old")},
	)
	changeUser := func(change func(*systables.User)) error {
		return update(t, st, func(tx store.Txn) error {
			return systables.Users.Update(tx, "u1", func(u systables.User) (systables.User, error) { change(&u); return u, nil })
		})
	}
	if _, found := verify(t, st, 0); len(found) > 0 {
		t.Errorf("verify found %v", found)
	}
	for what, err := range map[string]error{
		"soft delete":        update(t, st, func(tx store.Txn) error { return systables.Users.SoftDelete(tx, "u1", 7) }),
		"a change elsewhere": changeUser(func(u *systables.User) { u.Role = "user" }),
		"put": update(t, st, func(tx store.Txn) error {
			job.Status = "running"
			return systables.Jobs.Put(tx, job)
		}),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := "still no JSON"
	if err := changeUser(func(u *systables.User) { u.AuthData = &other }); !errors.Is(err, systables.ErrInvalid) {
		t.Errorf("another text that is no JSON: %v, want ErrInvalid", err)
	}
	if err := changeUser(func(u *systables.User) { u.Username = "ada" }); err != nil {
		t.Error(err)
	}
	if err := changeUser(func(u *systables.User) { u.Username = "" }); !errors.Is(err, systables.ErrInvalid) {
		t.Errorf("back to no username: %v, want ErrInvalid", err)
	}
	err := update(t, st, func(tx store.Txn) error {
		return errors.Join(systables.Users.Delete(tx, "u1"), systables.Jobs.Delete(tx, "old"))
	})
	if err != nil {
		t.Error(err)
	}
}
