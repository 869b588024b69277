// Package tablescli is the commands that show the system tables to people: tables,
// table, get and scan. Pass [Commands] to package cli as Config.Commands.
//
// They go by the catalog in the store and not by the row types of this program, so
// that they show a store of another version as well. Secret columns are masked
// unless --show-secrets is given, and so is each column that this program does not
// know, because it cannot know whether that is secret.
//
// # JSON
//
// With --json the commands print what docs/schemas in the repository describes, a
// JSON Schema for each command; scan prints an object a line. The keys keep their
// names and meanings; new ones may join them.
//
// Columns of rows are null where a row has none, numbers, booleans and texts as they
// are, Json, and a text that this program knows to be JSON, as JSON, a Timestamp as
// RFC 3339 in UTC, or as its milliseconds beyond the
// years 0 to 9999. A value that is not of its column's type is shown as what it is, or
// as a text in the notation of dump, and a masked one as the text "[secret]".
package tablescli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// Config returns what the command kvmigrate is over the system schema: the operator's
// commands, and these.
func Config() cli.Config {
	return cli.Config{
		Name: "kvmigrate", Options: migrate.Options{Schema: migrations.Schema},
		Golden: "testdata/golden", Verify: systables.Verify, Commands: Commands,
	}
}

// Commands returns the commands, which read the store through open. They refuse another
// --schema than that of the system tables.
func Commands(open cli.View) []*cobra.Command {
	view := func(cmd *cobra.Command, read func(store.Reader) error) error {
		if f := cmd.Flag("schema"); f != nil && f.Changed && f.Value.String() != migrations.Schema {
			return cli.Usage(fmt.Errorf("--schema: the system tables are in the schema %q, not %q", migrations.Schema, f.Value))
		}
		return open(cmd, read)
	}
	commands := []*cobra.Command{tables(view), table(view), get(view), scan(view)}
	for _, cmd := range commands {
		cmd.ValidArgsFunction = completeTable
	}
	commands[0].ValidArgsFunction = cobra.NoFileCompletions
	return commands
}

// completeTable completes the tables of this program.
func completeTable(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		for _, d := range systables.Definitions() {
			names = append(names, cobra.CompletionWithDesc(d.Name, d.Comment))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func tables(view cli.View) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "tables",
		Example: "  tables",
		Short:   "List the system tables: rows, size, version and comment",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return view(cmd, func(s store.Reader) error {
				catalog, err := catalogOf(s)
				if err != nil {
					return err
				}
				all := make([]summary, len(catalog))
				for i, d := range catalog {
					if all[i], err = summarize(s, d); err != nil {
						return err
					}
				}
				if asJSON {
					return encode(cmd.OutOrStdout(), all)
				}
				return printTables(cmd.OutOrStdout(), all)
			})
		},
	}
	return withJSON(cmd, &asJSON)
}

func table(view cli.View) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "table TABLE",
		Example: "  table users",
		Short:   "Show a system table: its columns, indexes and number of rows",
		Args:    args(1, "a table"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return view(cmd, func(s store.Reader) error {
				d, err := definitionOf(s, args[0])
				if err != nil {
					return err
				}
				one, err := detail(s, d)
				if err != nil {
					return err
				}
				if asJSON {
					return encode(cmd.OutOrStdout(), one)
				}
				return printTable(cmd.OutOrStdout(), one)
			})
		},
	}
	return withJSON(cmd, &asJSON)
}

func get(view cli.View) *cobra.Command {
	var asJSON, secrets bool
	var by string
	cmd := &cobra.Command{
		Use:   "get TABLE KEY",
		Short: "Show a row of a system table",
		Example: `  get users u1
  get users --by username ada`,
		Args: args(2, "a table and a primary key, or with --by a column's value"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return view(cmd, func(s store.Reader) error {
				d, err := definitionOf(s, args[0])
				if err != nil {
					return err
				}
				rows, err := partition(d, "")
				if err != nil {
					return err
				}
				key := args[1]
				if by != "" {
					key, err = keyBy(s, d, by, key)
				}
				var e store.Entry
				if err == nil {
					e, err = s.Get(rows.Key([]byte(key)))
				}
				if errors.Is(err, store.ErrNotFound) {
					return &systables.RowError{Op: "get", Table: rows.Name(), Key: key, Err: systables.ErrNotFound}
				}
				if err != nil {
					return err
				}
				r := newRow(d, key, e.Value, knownColumns(d), secrets)
				if r.Malformed {
					return fmt.Errorf("%w: the row is no map of columns: see dump", store.ErrCorrupt)
				}
				if asJSON {
					return encode(cmd.OutOrStdout(), r)
				}
				return printRow(cmd.OutOrStdout(), d, r)
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "find the row by this column, which has a unique index")
	return withJSON(withSecrets(cmd, &secrets), &asJSON)
}

func scan(view cli.View) *cobra.Command {
	var asJSON, secrets, wide bool
	var q query
	cmd := &cobra.Command{
		Use:   "scan TABLE",
		Short: "Show the rows of a system table, each on one line",
		Long: `Show the rows of a system table, each on one line, without what is null or
masked. Lines are cut to 80 columns, unless --wide is given; --json has all of
each row.

Rows come in the order of their keys. With --since, --until or --by they come in
the order of a time, if the table has an index by it, and no others are read; if
it has none, scan says so, reads the whole table and keeps the order of keys.

A time is 2025-01-15, which begins in UTC, 2025-01-15T12:00:00Z, or how long
ago: 90m, 36h, 7d.`,
		Example: `  scan audit_logs --since 24h
  scan jobs --by created_at --reverse --limit 10
  scan users --json --show-secrets`,
		Args: args(1, "a table"),
	}
	cmd.Flags().StringVar(&q.prefix, "prefix", "", "only rows whose key starts with this")
	cmd.Flags().StringVar(&q.by, "by", "", "the column of times to go by; the table's first one if there is --since or --until")
	cmd.Flags().Var((*moment)(&q.since), "since", "only rows of this time or later")
	cmd.Flags().Var((*moment)(&q.until), "until", "only rows of before this time")
	cmd.Flags().IntVar(&q.limit, "limit", 0, "at most so many rows; 0 is all")
	cmd.Flags().BoolVar(&q.reverse, "reverse", false, "in the opposite order")
	cmd.Flags().BoolVar(&wide, "wide", false, "do not cut the lines")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := q.check(); err != nil {
			return err
		}
		return view(cmd, func(s store.Reader) error {
			d, err := definitionOf(s, args[0])
			if err != nil {
				return err
			}
			src, err := q.source(d)
			if err != nil {
				return err
			}
			if src.column != "" && !src.indexed {
				cmd.PrintErrf("note: %s has no index by %s: all of it is read, in the order of its keys\n", src.rows.Name(), printable(src.column))
			}
			w := cmd.OutOrStdout()
			show := func(r row) error { return printLine(w, d, r, wide) }
			if asJSON {
				lines := jsonTo(w)
				show = func(r row) error { return lines.Encode(r) }
			}
			malformed := 0
			known := knownColumns(d)
			for e, err := range q.find(s, src) {
				if err != nil {
					return err
				}
				r := newRow(d, string(e.Key), e.Value, known, secrets)
				if r.Malformed {
					malformed++
				}
				if err := show(r); err != nil {
					return err
				}
			}
			switch malformed {
			case 0:
				return nil
			case 1:
				return fmt.Errorf("%w: 1 row is no map of columns: see verify", store.ErrCorrupt)
			}
			return fmt.Errorf("%w: %d rows are no maps of columns: see verify", store.ErrCorrupt, malformed)
		})
	}
	return withJSON(withSecrets(cmd, &secrets), &asJSON)
}

// args wants n arguments, which are what.
func args(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return cli.Usage(fmt.Errorf("want %s", what))
		}
		return nil
	}
}

func withJSON(cmd *cobra.Command, asJSON *bool) *cobra.Command {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
	return cmd
}

func withSecrets(cmd *cobra.Command, secrets *bool) *cobra.Command {
	cmd.Flags().BoolVar(secrets, "show-secrets", false, "show secret columns, and those that this program does not know")
	return cmd
}

// A moment is a time as a flag.
type moment time.Time

func (m *moment) String() string {
	if t := time.Time(*m); !t.IsZero() {
		return t.Format(time.RFC3339)
	}
	return ""
}

func (*moment) Type() string { return "time" }

// Set takes a time, or how long ago it was.
func (m *moment) Set(text string) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			*m = moment(t)
			return nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			*m = moment(time.Now().AddDate(0, 0, -int(n)))
			return nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		*m = moment(time.Now().Add(-ago))
		return nil
	}
	return errors.New("want a time like 2025-01-15 or 2025-01-15T12:00:00Z, or how long ago, like 90m, 36h or 7d")
}
