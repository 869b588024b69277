// Command notes keeps notes in a Badger directory. It brings the directory to its
// own version of the schema before it does anything else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"

	"example.com/notes/migrations"
	"example.com/notes/notebook"
)

func main() {
	ctx, stop := cli.Interruptible(context.Background(), os.Stderr)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "notes:", err)
	}
	os.Exit(cli.ExitCode(err))
}

// defaultStore is where notes are if --store does not say.
const defaultStore = "notes.db"

func command() *cobra.Command {
	s := &service{}
	root := &cobra.Command{
		Use:           "notes",
		Short:         "Keep notes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&s.store, "store", defaultStore, "the directory of the notes")
	root.PersistentFlags().BoolVar(&s.progress, "progress", false, "say how far a migration is, after each batch")
	root.AddCommand(s.add(), s.list(), s.search(), s.rm(), cli.Command(cli.Config{
		Name:    "notes schema",
		Options: options(),
		Store:   defaultStore,
		Open:    open,
	}))
	return root
}

// service is one invocation.
type service struct {
	store    string
	progress bool
}

// options are those of every run of the migrations, at start-up and by the operator.
func options() migrate.Options { return migrate.Options{Schema: migrations.Schema} }

// open opens the store in dir. The operator's commands open it in the same way,
// because a memtable that a larger one left would not fit.
func open(ctx context.Context, dir string, o cli.OpenOptions) (store.Store, error) {
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{
		MustExist: o.MustExist, Wait: o.Wait, Logger: o.Logger, Configure: badgerstore.Small,
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// serve opens the store, brings it to the latest version, and does what the
// command is for.
func (s *service) serve(cmd *cobra.Command, do func(ctx context.Context, b notebook.Book, out io.Writer) error) (err error) {
	ctx := cmd.Context()
	st, err := open(ctx, s.store, cli.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	o := options()
	if s.progress {
		o.Observer = func(e migrate.Event) { fmt.Fprintln(cmd.ErrOrStderr(), e) }
	}
	if _, err := migrate.Up(ctx, st, o); errors.Is(err, migrate.ErrRefused) {
		return fmt.Errorf("this program must not touch %s: %w", s.store, err)
	} else if err != nil {
		return err
	}
	return do(ctx, notebook.New(st), cmd.OutOrStdout())
}

func (s *service) add() *cobra.Command {
	var n notebook.Note
	var expires time.Duration
	cmd := &cobra.Command{Use: "add TITLE [BODY]", Short: "Add a note and print its number", Args: cobra.RangeArgs(1, 2)}
	cmd.Flags().StringVar(&n.Tag, "tag", "", "the note's tag")
	cmd.Flags().DurationVar(&expires, "for", 0, "forget the note after this time, such as 24h")
	cmd.Flags().BoolVar(&n.Pinned, "pin", false, "pin the note")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n.Title, n.Body = args[0], strings.Join(args[1:], "")
		n.Created = time.Now()
		if expires > 0 {
			n.Expires = n.Created.Add(expires)
		}
		return s.serve(cmd, func(ctx context.Context, b notebook.Book, out io.Writer) error {
			id, err := b.Add(ctx, n)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(out, id)
			return err
		})
	}
	return cmd
}

func (s *service) list() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List all notes", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return s.serve(cmd, func(ctx context.Context, b notebook.Book, out io.Writer) error {
			return b.All(ctx, printTo(out))
		})
	}}
}

func (s *service) search() *cobra.Command {
	return &cobra.Command{Use: "search TAG", Short: "List the notes with a tag", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return s.serve(cmd, func(ctx context.Context, b notebook.Book, out io.Writer) error {
			return b.Tagged(ctx, args[0], printTo(out))
		})
	}}
}

func (s *service) rm() *cobra.Command {
	return &cobra.Command{Use: "rm NUMBER", Short: "Remove a note", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return s.serve(cmd, func(ctx context.Context, b notebook.Book, _ io.Writer) error {
			return b.Remove(ctx, args[0])
		})
	}}
}

// printTo prints a note a line: its number, day, tag, whether it is pinned, and
// title.
func printTo(out io.Writer) func(notebook.Note) error {
	return func(n notebook.Note) error {
		day, tag, pin := "-", "-", " "
		if !n.Created.IsZero() {
			day = n.Created.Format(time.DateOnly)
		}
		if n.Tag != "" {
			tag = n.Tag
		}
		if n.Pinned {
			pin = "*"
		}
		_, err := fmt.Fprintf(out, "%s  %-10s  %-8s %s %s\n", n.ID, day, tag, pin, n.Title)
		return err
	}
}
