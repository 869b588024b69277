package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dgraph-io/badger/v4"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// notes returns a store with three notes, as a program had before it used
// kvmigrate.
func notes() (st store.Store, closeStore func()) {
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
	if err != nil {
		panic(err)
	}
	st, err = badgerstore.New(db)
	if err != nil {
		panic(err)
	}
	err = store.Update(context.Background(), st, func(tx store.Txn) error {
		for key, value := range map[string]string{"1": "work: call Ada", "2": "home: water the plants", "3": ""} {
			if err := tx.Set(store.Entry{Key: []byte("notes/" + key), Value: []byte(value)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	return st, func() { _ = db.Close() }
}

// show migrates the notes with up and prints what the store then holds.
func show(up migrate.UpFunc) {
	st, closeStore := notes()
	defer closeStore()
	_, err := migrate.Up(context.Background(), st, migrate.Options{
		Registry:         migrate.NewRegistry(migrate.Migration{Version: 1, Name: "example", Up: up}),
		AllowUnversioned: true,
		Logger:           slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
	}
	err = st.View(context.Background(), func(s store.Reader) error {
		for e, err := range s.Scan(store.Scan{Prefix: []byte("notes")}) {
			if err != nil {
				return err
			}
			fmt.Printf("%s = %q\n", e.Key, e.Value)
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
}

// A value that every entry gets.
func ExampleRewrite() {
	show(migrate.Rewrite([]byte("notes/"), func(value []byte) ([]byte, error) {
		return bytes.ToUpper(value), nil
	}))
	// Output:
	// notes/1 = "WORK: CALL ADA"
	// notes/2 = "HOME: WATER THE PLANTS"
	// notes/3 = ""
}

// Empty notes go, the others move.
func ExampleEach() {
	show(migrate.Each([]byte("notes/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
		if err := tx.Delete(e.Key); err != nil || len(e.Value) == 0 {
			return err
		}
		e.Key = append([]byte("notes.all/"), e.Key[len("notes/"):]...)
		return tx.Set(e)
	}))
	// Output:
	// notes.all/1 = "work: call Ada"
	// notes.all/2 = "home: water the plants"
}

// An index on the word before the colon, which is there before the version says
// so.
func ExampleIndex() {
	rows, index := store.MustPartition("notes"), store.MustPartition("notes.topic")
	show(migrate.Index(rows, index, func(id, row []byte) (key, value []byte, err error) {
		topic, _, ok := bytes.Cut(row, []byte(": "))
		if !ok {
			return nil, nil, nil // not indexed
		}
		return bytes.Join([][]byte{topic, id}, []byte{'/'}), id, nil
	}))
	// Output:
	// notes.topic/home/2 = "2"
	// notes.topic/work/1 = "1"
	// notes/1 = "work: call Ada"
	// notes/2 = "home: water the plants"
	// notes/3 = ""
}

// An index of every word: a row has as many entries as words.
func ExampleIndexMany() {
	rows, index := store.MustPartition("notes"), store.MustPartition("notes.word")
	show(migrate.IndexMany(rows, index, func(id, row []byte, add func(key, value []byte)) error {
		_, text, _ := bytes.Cut(row, []byte(": "))
		for word := range bytes.FieldsSeq(text) {
			add(bytes.Join([][]byte{word, id}, []byte{'/'}), nil)
		}
		return nil
	}))
	// Output:
	// notes.word/Ada/1 = ""
	// notes.word/call/1 = ""
	// notes.word/plants/2 = ""
	// notes.word/the/2 = ""
	// notes.word/water/2 = ""
	// notes/1 = "work: call Ada"
	// notes/2 = "home: water the plants"
	// notes/3 = ""
}

// A back-fill, its verification, and then the end of the old data: a store that
// fails the verification keeps what it has and stays at its version.
func ExamplePhases() {
	show(migrate.Phases(
		migrate.Each([]byte("notes/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			e.Key = append([]byte("notes.v2/"), e.Key[len("notes/"):]...)
			return tx.Set(e)
		}),
		migrate.Each([]byte("notes.v2/"), func(_ context.Context, tx *migrate.Tx, e store.Entry) error {
			old, err := tx.Get(append([]byte("notes/"), e.Key[len("notes.v2/"):]...))
			if err == nil && !bytes.Equal(old.Value, e.Value) {
				err = fmt.Errorf("copy differs from the original")
			}
			return err
		}),
		migrate.DropPrefix([]byte("notes/")),
	))
	// Output:
	// notes.v2/1 = "work: call Ada"
	// notes.v2/2 = "home: water the plants"
	// notes.v2/3 = ""
}

// What an upgrade would change, without making it.
func ExampleRunner_DryRun() {
	ctx := context.Background()
	st, closeStore := notes()
	defer closeStore()
	r, err := migrate.New(st, migrate.Options{
		Registry: migrate.NewRegistry(migrate.Migration{
			Version: 1, Name: "upper_case", Up: migrate.Rewrite([]byte("notes/"), func(value []byte) ([]byte, error) {
				return bytes.ToUpper(value), nil
			}),
		}),
		AllowUnversioned: true,
		Logger:           slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	scratch, err := badgerstore.OpenTemp(ctx, "", st.Limits())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer scratch.Close()
	dry, err := r.DryRun(ctx, 1, migrate.DryRunOptions{Scratch: scratch})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range dry.Diffs[0].Partitions {
		fmt.Printf("%q: %d added, %d changed, %d deleted\n", p.Partition, p.Added.Keys, p.Changed.Keys, p.Deleted.Keys)
	}
	// Output:
	// "notes": 0 added, 2 changed, 0 deleted
	// "system:": 2 added, 0 changed, 0 deleted
}

// A store from before the program had versions is adopted at the one that its data
// are like.
func ExampleOptions_adopt() {
	st, closeStore := notes()
	defer closeStore()
	nothing := func(context.Context, *migrate.Tx) error { return nil }
	report, err := migrate.Up(context.Background(), st, migrate.Options{
		Schema: "notes", Logger: slog.New(slog.DiscardHandler),
		Registry: migrate.NewRegistry(
			migrate.Migration{Version: 1, Name: "first_notes", Up: nothing},
			migrate.Migration{Version: 2, Name: "add_owner", Up: nothing},
			migrate.Migration{Version: 3, Name: "add_tags", Up: nothing},
		),
		Adopt: func(_ context.Context, r store.Reader) (uint32, error) {
			_, err := r.Get([]byte("notes.owner/"))
			switch {
			case err == nil:
				return 2, nil // only programs that had v2 wrote this
			case errors.Is(err, store.ErrNotFound):
				return 1, nil
			}
			return 0, err
		},
	})
	fmt.Println(report.Adopted, report.From, report.To, err)
	// Output: true 1 3 <nil>
}

// A program that may only read a newer store says that it does no more.
func ExampleMigration_compatible() {
	st, closeStore := notes()
	defer closeStore()
	ctx, quiet := context.Background(), slog.New(slog.DiscardHandler)
	nothing := func(context.Context, *migrate.Tx) error { return nil }
	first := migrate.Migration{Version: 1, Name: "first_notes", Up: nothing}
	second := migrate.Migration{Version: 2, Name: "index_notes", Up: nothing, ReadableFrom: 1}
	newer := migrate.Options{Schema: "notes", Logger: quiet, AllowUnversioned: true, Registry: migrate.NewRegistry(first, second)}
	if _, err := migrate.Up(ctx, st, newer); err != nil {
		fmt.Println(err)
		return
	}

	older := migrate.Options{Schema: "notes", Logger: quiet, Registry: migrate.NewRegistry(first)}
	_, err := migrate.Up(ctx, st, older)
	fmt.Println("refused:", errors.Is(err, migrate.ErrRefused))

	older.AllowReadOnly = true
	report, err := migrate.Up(ctx, st, older)
	fmt.Println("read only:", report.ReadOnly, err)
	err = store.Update(ctx, store.ReadOnly(st), func(tx store.Txn) error { return tx.Delete([]byte("notes/1")) })
	fmt.Println("refused:", errors.Is(err, store.ErrReadOnly))
	// Output:
	// refused: true
	// read only: true <nil>
	// refused: true
}
