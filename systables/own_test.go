package systables_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
)

// A note is a row of a program's own.
type note struct {
	ID    string  `cbor:"note_id"`
	State string  `cbor:"state" values:"draft,sent"`
	Words int32   `cbor:"words"`
	Tag   *string `cbor:"tag,omitempty" text:"json"`
}

func noteID(n note) string { return n.ID }

// TestNewTable: a table of a program's own is what a system table is, and apart from
// those of its name.
func TestNewTable(t *testing.T) {
	ctx := t.Context()
	notes, err := systables.NewTable("app", "users", noteID)
	if err != nil {
		t.Fatal(err)
	}
	if want := "app.users"; notes.Name() != want {
		t.Errorf("Name: %s, want %s", notes.Name(), want)
	}
	st, err := badgerstore.OpenInMemory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	tag := `"new"`
	want := []note{{ID: "a", State: "draft", Words: 7, Tag: &tag}, {ID: "b", State: "sent"}}
	update := func(fn func(store.Txn) error) error { return store.Update(ctx, st, fn) }
	if err := update(func(tx store.Txn) error { return notes.Put(tx, want...) }); err != nil {
		t.Fatal(err)
	}
	var got []note
	err = st.View(ctx, func(s store.Reader) error {
		for row, err := range notes.All(s, "") {
			if err != nil {
				return err
			}
			got = append(got, row)
		}
		for user, err := range systables.Users.All(s, "") {
			t.Errorf("system.users has %v, %v; want nothing", user, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	err = update(func(tx store.Txn) error { return notes.Insert(tx, note{ID: "c", State: "lost"}) })
	column, ok := errors.AsType[*systables.ColumnError](err)
	if !ok || column.Table != "app.users" || column.Column != "state" {
		t.Errorf("Insert of a row with a bad state: %v; want a *ColumnError of app.users, state", err)
	}
}

// TestEmptyKey: no row of a program's own has an empty primary key either.
func TestEmptyKey(t *testing.T) {
	notes, err := systables.NewTable("app", "notes", noteID)
	if err != nil {
		t.Fatal(err)
	}
	column, ok := errors.AsType[*systables.ColumnError](notes.Validate(note{State: "sent"}))
	if !ok || column.Column != "note_id" || column.Fault != systables.FaultValue {
		t.Errorf("fault of a note without a key: %v; want one of note_id", column)
	}
}

func TestNewTableRefuses(t *testing.T) {
	refused := map[string]error{}
	_, refused["the system's schema"] = systables.NewTable("system", "notes", noteID)
	_, refused["no schema"] = systables.NewTable("", "notes", noteID)
	_, refused["a name that no partition can have"] = systables.NewTable("app", "My Notes", noteID)
	_, refused["no struct"] = systables.NewTable("app", "notes", func(s string) string { return s })
	_, refused["no columns"] = systables.NewTable("app", "notes", func(struct{}) string { return "" })
	_, refused["a type that no column has"] = systables.NewTable("app", "notes", func(struct {
		ID   string   `cbor:"id"`
		List []string `cbor:"list"`
	}) string {
		return ""
	})
	_, refused["a field without a name"] = systables.NewTable("app", "notes", func(struct{ ID string }) string { return "" })
	_, refused["a text that must be nobody knows what"] = systables.NewTable("app", "notes", func(struct {
		ID   string `cbor:"id"`
		Text string `cbor:"text" text:"xml"`
	}) string {
		return ""
	})
	_, refused["a number that must be JSON"] = systables.NewTable("app", "notes", func(struct {
		ID    string `cbor:"id"`
		Words int32  `cbor:"words" text:"json"`
	}) string {
		return ""
	})
	_, refused["a number for a key"] = systables.NewTable("app", "notes", func(struct {
		ID int64 `cbor:"id"`
	}) string {
		return ""
	})
	for what, err := range refused {
		if err == nil {
			t.Errorf("%s: nil, want an error", what)
		}
	}
}
