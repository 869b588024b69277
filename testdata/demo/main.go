// Command demo shows the main job on a real store: a Badger directory is created
// at v1, filled, upgraded, opened again, looked at, refused by an older program,
// and refused once its version is damaged. make demo runs it from the root of the
// repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	_ "github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

func main() {
	if err := demo(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "kvmigrate-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "store")

	all := migrate.DefaultRegistry().Migrations()
	current := program{ctx, w, path, "demo 2.0", migrate.NewRegistry(all...)}
	older := program{ctx, w, path, "demo 1.0", migrate.NewRegistry(all[0])}
	return errors.Join(
		older.run("A new store, by a program that knows v1", 0, "up"),
		load(ctx, w, path),
		current.run("Start-up of the next release", 0, "up"),
		current.run("Restart: three reads, nothing written", 0, "--verbose", "up"),
		current.run("What was applied", 0, "history"),
		current.run("What is on disk (first of it)", 0, "dump", "--prefix", "system.namespaces"),
		older.run("The old program on the new store", 3, "up"),
		damage(ctx, path),
		current.run("A version of three bytes", 3, "up"),
	)
}

// damage cuts the stored version to three bytes.
func damage(ctx context.Context, path string) (err error) {
	st, err := badgerstore.Open(ctx, path, badgerstore.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return store.Update(ctx, st, func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte("system:schema_version"), Value: []byte{0, 0, 4}})
	})
}

// A program is a release of kvmigrate: the command over a registry.
type program struct {
	ctx      context.Context
	w        io.Writer
	path     string
	name     string
	registry *migrate.Registry
}

// run shows one command and what it prints. It fails if the exit code is not
// want.
func (p program) run(title string, want int, args ...string) error {
	fmt.Fprintf(p.w, "\n# %s\n$ kvmigrate %s\n", title, strings.Join(args, " "))
	out := &screen{w: p.w, entries: 5}
	code := cli.Run(p.ctx, cli.Config{Name: "kvmigrate", Options: migrate.Options{Program: p.name, Registry: p.registry}}, append([]string{"--store", p.path}, args...), out, out)
	if code != 0 {
		fmt.Fprintf(p.w, "(exit code %d)\n", code)
	}
	if code != want {
		return fmt.Errorf("kvmigrate %s: exit code %d, want %d", strings.Join(args, " "), code, want)
	}
	return nil
}

// rows are what the program at v1 wrote: the typed tables write the columns of the
// newest version.
const rows = "testdata/golden/v0002_add_system_metrics/fixture.txt"

// load fills the store as a program does that has it open.
func load(ctx context.Context, w io.Writer, path string) (err error) {
	f, err := os.Open(rows)
	if err != nil {
		return err
	}
	entries, err := dump.Read(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", rows, err)
	}
	count := map[string]int{}
	for _, e := range entries {
		table, _, _ := strings.Cut(string(e.Key), "/")
		count[table]++
	}
	st, err := badgerstore.Open(ctx, path, badgerstore.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	fmt.Fprintf(w, "\n# The program runs: %d users, %d jobs, %d audit entries, …\n",
		count["system.users"], count["system.jobs"], count["system.audit_logs"])
	return store.Update(ctx, st, func(tx store.Txn) error {
		for _, e := range entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// A screen passes on all lines but those of a dump, of which it shows the first
// entries, and of each what fits a line.
type screen struct {
	w       io.Writer
	entries int
	rest    string
}

func (s *screen) Write(p []byte) (int, error) {
	s.rest += string(p)
	for {
		line, rest, ok := strings.Cut(s.rest, "\n")
		if !ok {
			return len(p), nil
		}
		s.rest = rest
		if strings.HasPrefix(line, `"`) {
			if s.entries--; s.entries < 0 {
				continue
			}
			if runes := []rune(line); len(runes) > 80 {
				line = string(runes[:79]) + "…"
			}
		}
		if _, err := fmt.Fprintln(s.w, line); err != nil {
			return 0, err
		}
	}
}
