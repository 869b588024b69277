package systables_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

func namespace(id systables.NamespaceID) systables.Namespace {
	return systables.Namespace{ID: id, Name: string(id)}
}

func tableIn(ns systables.NamespaceID, name string) systables.TableRow {
	return systables.TableRow{ID: systables.TableID(string(ns) + ":" + name), Namespace: string(ns), Name: name, Type: "USER"}
}

// counts returns the table count of each namespace, and wants it to be the number of
// its tables, and each table to have a namespace.
func counts(t *testing.T, st store.Store) map[systables.NamespaceID]int32 {
	t.Helper()
	stored, tables := map[systables.NamespaceID]int32{}, map[systables.NamespaceID]int32{}
	err := st.View(t.Context(), func(s store.Reader) error {
		for ns, err := range systables.Namespaces.All(s, "") {
			if err != nil {
				return err
			}
			stored[ns.ID], tables[ns.ID] = ns.TableCount, 0
		}
		for row, err := range systables.Tables.All(s, "") {
			if err != nil {
				return err
			}
			if row.Namespace != "system" {
				tables[systables.NamespaceID(row.Namespace)]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tables, stored); diff != "" {
		t.Errorf("table counts and tables differ (-tables +counts):\n%s", diff)
	}
	return stored
}

func TestNamespaceRules(t *testing.T) {
	st := open(t)
	steps := []struct {
		name string
		do   func(store.Txn) error
		want error
	}{
		{"namespaces", func(tx store.Txn) error { return systables.Namespaces.Put(tx, namespace("a"), namespace("a:b")) }, nil},
		{"a count that is none", func(tx store.Txn) error {
			return systables.Namespaces.Insert(tx, systables.Namespace{ID: "c", Name: "c", TableCount: 1})
		}, systables.ErrInvalid},
		{"tables", func(tx store.Txn) error {
			return systables.Tables.Put(tx, tableIn("a:b", "c"), tableIn("a:b", "d"), tableIn("a", "x"))
		}, nil},
		{"a table once more", func(tx store.Txn) error { return systables.Tables.Put(tx, tableIn("a", "x")) }, nil},
		{"a table changes", func(tx store.Txn) error {
			return systables.Tables.Update(tx, "a:x", func(r systables.TableRow) (systables.TableRow, error) { r.SchemaVersion++; return r, nil })
		}, nil},
		{"a table without a namespace", func(tx store.Txn) error { return systables.Tables.Insert(tx, tableIn("none", "x")) }, systables.ErrNotFound},
		{"a table of the system", func(tx store.Txn) error { return systables.Tables.Insert(tx, tableIn("system", "x")) }, systables.ErrNotFound},
		{"a table under another key", func(tx store.Txn) error {
			row := tableIn("a", "y")
			row.ID = "a:z"
			return systables.Tables.Insert(tx, row)
		}, systables.ErrInvalid},
		{"a table moves", func(tx store.Txn) error {
			return systables.Tables.Update(tx, "a:x", func(r systables.TableRow) (systables.TableRow, error) { r.Namespace = "a:b"; return r, nil })
		}, systables.ErrInvalid},
		{"a table takes the place of one of the same key", func(tx store.Txn) error { return systables.Tables.Put(tx, tableIn("a", "b:c")) }, nil},
		{"a table goes where there is no namespace", func(tx store.Txn) error {
			return errors.Join(systables.Namespaces.Insert(tx, namespace("e")), systables.Tables.Insert(tx, tableIn("e", "f:g")),
				systables.Tables.Put(tx, tableIn("e:f", "g")))
		}, systables.ErrNotFound},
		{"it goes back", func(tx store.Txn) error {
			return systables.Tables.Update(tx, "a:b:c", func(systables.TableRow) (systables.TableRow, error) { return tableIn("a:b", "c"), nil })
		}, nil},
		{"a count changes by hand", func(tx store.Txn) error {
			return systables.Namespaces.Update(tx, "a", func(r systables.Namespace) (systables.Namespace, error) { r.TableCount++; return r, nil })
		}, systables.ErrInvalid},
		{"a name changes", func(tx store.Txn) error {
			return systables.Namespaces.Update(tx, "a", func(r systables.Namespace) (systables.Namespace, error) { r.Name = "A"; return r, nil })
		}, nil},
		{"a namespace with tables goes", func(tx store.Txn) error { return systables.Namespaces.Delete(tx, "a:b") }, systables.ErrInUse},
		{"the table of another whose name is longer stays", func(tx store.Txn) error {
			return errors.Join(systables.Tables.Delete(tx, "a:x"), systables.Namespaces.Delete(tx, "a"))
		}, nil},
	}
	for _, tt := range steps {
		if err := update(t, st, tt.do); !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.want)
		}
		counts(t, st)
	}
	if diff := cmp.Diff(map[systables.NamespaceID]int32{"a:b": 2}, counts(t, st)); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

// TestTablesFromBeforeTheRules: a namespace that comes after its tables counts them,
// and a table without one can go.
func TestTablesFromBeforeTheRules(t *testing.T) {
	st := open(t)
	put(t, st,
		store.Entry{Key: []byte("system.tables/old:x"), Value: encode(t, tableIn("old", "x"))},
		store.Entry{Key: []byte("system.tables/lost:x"), Value: encode(t, tableIn("lost", "x"))},
	)
	err := update(t, st, func(tx store.Txn) error { return systables.Tables.Delete(tx, "lost:x") })
	if err != nil {
		t.Fatal(err)
	}
	err = update(t, st, func(tx store.Txn) error { return systables.Namespaces.Insert(tx, namespace("old")) })
	if !errors.Is(err, systables.ErrInvalid) {
		t.Errorf("a namespace with one table and a count of none: %v, want ErrInvalid", err)
	}
	err = update(t, st, func(tx store.Txn) error {
		return systables.Namespaces.Insert(tx, systables.Namespace{ID: "old", Name: "old", TableCount: 1})
	})
	if err != nil {
		t.Fatal(err)
	}
	counts(t, st)
}

// TestNamespaceGuardsItsTables runs one operation inside the transaction of another,
// after its reads and before its commit. Two that would together break a rule must
// not both commit, although a scan of the tables alone would not show the one to the
// other.
func TestNamespaceGuardsItsTables(t *testing.T) {
	add := func(name string) func(store.Txn) error {
		return func(tx store.Txn) error { return systables.Tables.Insert(tx, tableIn("ns", name)) }
	}
	drop := func(tx store.Txn) error { return systables.Namespaces.Delete(tx, "ns") }
	remove := func(tx store.Txn) error { return systables.Tables.Delete(tx, "ns:old") }
	create := func(tx store.Txn) error { return systables.Namespaces.Insert(tx, namespace("ns")) }
	tests := map[string]struct {
		before       []func(store.Txn) error
		first, inner func(store.Txn) error
	}{
		"a namespace goes while a table comes":   {[]func(store.Txn) error{create}, drop, add("new")},
		"a table comes while its namespace goes": {[]func(store.Txn) error{create}, add("new"), drop},
		"two tables come":                        {[]func(store.Txn) error{create}, add("new"), add("other")},
		"one table comes and one goes":           {[]func(store.Txn) error{create, add("old")}, add("new"), remove},
		"one table goes and one comes":           {[]func(store.Txn) error{create, add("old")}, remove, add("new")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := open(t)
			for _, do := range tt.before {
				if err := update(t, st, do); err != nil {
					t.Fatal(err)
				}
			}
			err := st.Update(t.Context(), func(tx store.Txn) error {
				if err := tt.first(tx); err != nil {
					t.Errorf("first: %v", err)
				}
				if err := update(t, st, tt.inner); err != nil {
					t.Errorf("inner: %v", err)
				}
				return nil
			})
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("both committed: error = %v, want ErrConflict", err)
			}
			counts(t, st)
		})
	}
}

// TestNamespacesUnderConcurrency: 16 writers create and drop namespaces and tables
// at random, and the rules hold at the end, whoever won.
func TestNamespacesUnderConcurrency(t *testing.T) {
	st := open(t)
	const each = 60
	expected := []error{nil, systables.ErrExists, systables.ErrNotFound, systables.ErrInUse}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 0))
			for range each {
				ns := systables.NamespaceID(fmt.Sprintf("ns%d", random.IntN(4)))
				row := tableIn(ns, fmt.Sprintf("t%d", random.IntN(3)))
				op := random.IntN(5)
				err := store.Update(t.Context(), st, func(tx store.Txn) error {
					switch op {
					case 0:
						return systables.Namespaces.Insert(tx, namespace(ns))
					case 1:
						return systables.Namespaces.Delete(tx, ns)
					case 2:
						return systables.Tables.Delete(tx, row.ID)
					default:
						return systables.Tables.Insert(tx, row)
					}
				})
				if !isOneOf(err, expected) {
					t.Errorf("operation %d: %v", op, err)
				}
			}
		})
	}
	wg.Wait()
	counts(t, st)
}

func isOneOf(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
