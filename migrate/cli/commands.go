package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/scaffold"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
)

// The JSON forms. Their keys are part of the interface.
type (
	migrationJSON struct {
		Version     uint32 `json:"version"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Unreleased  bool   `json:"unreleased,omitempty"`
	}
	statusJSON struct {
		Schema  string          `json:"schema"`
		Version uint32          `json:"version"`
		Stored  bool            `json:"stored"`
		Latest  uint32          `json:"latest"`
		Pending []migrationJSON `json:"pending"`

		Adopted  bool `json:"adopted,omitempty"`
		ReadOnly bool `json:"read_only,omitempty"`

		Progress *progressJSON `json:"progress,omitempty"` // of the first of pending, if it was interrupted
		Holder   *turnJSON     `json:"holder,omitempty"`
		Error    string        `json:"error,omitempty"`
	}
	turnJSON struct {
		Program string    `json:"program"`
		Host    string    `json:"host"`
		PID     int       `json:"pid"`
		Since   time.Time `json:"since"`
	}
	progressJSON struct {
		Version      uint32    `json:"version"`
		Name         string    `json:"name"`
		Started      time.Time `json:"started"`
		Transactions uint64    `json:"transactions"`
		KeysWritten  uint64    `json:"keys_written"`
		KeysDeleted  uint64    `json:"keys_deleted"`
		Phase        int       `json:"phase"`
		Visited      uint64    `json:"visited"`
		VisitedBytes uint64    `json:"visited_bytes"`
		Program      string    `json:"program"`
	}
	planJSON struct {
		Schema  string          `json:"schema"`
		From    uint32          `json:"from"`
		To      uint32          `json:"to"`
		Pending []migrationJSON `json:"pending"`
	}
	reportJSON struct {
		Schema   string            `json:"schema"`
		From     uint32            `json:"from"`
		To       uint32            `json:"to"`
		Adopted  bool              `json:"adopted,omitempty"`
		ReadOnly bool              `json:"read_only,omitempty"`
		Applied  []migrate.Applied `json:"applied"`
		Backup   *takenJSON        `json:"backup,omitempty"`
		Error    string            `json:"error,omitempty"`
	}
	entryJSON struct {
		Key       []byte `json:"key"`   // base64
		Value     []byte `json:"value"` // base64
		Text      string `json:"text"`  // the value as dump prints it
		ExpiresAt uint64 `json:"expires_at,omitempty"`
		Meta      byte   `json:"meta,omitempty"`
	}
	versionJSON struct {
		Program string `json:"program"`
		Version string `json:"version"`
		Schema  string `json:"schema"`
		Latest  uint32 `json:"latest"`
	}
)

func toJSON(migrations []migrate.Migration) []migrationJSON {
	out := make([]migrationJSON, 0, len(migrations))
	for _, m := range migrations {
		out = append(out, migrationJSON{m.Version, m.Name, m.Description, m.Unreleased})
	}
	return out
}

// text is what is said of an error, "" if there is none. It does not end in the empty
// line that a list of several errors has.
func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimRight(err.Error(), "\n")
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // an arrow is to be read as one
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// withJSON gives cmd the flag --json.
func (a *app) withJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

func (a *app) example(args string) string { return fmt.Sprintf("  %s --store DIR %s", a.Name, args) }

func (a *app) up() *cobra.Command {
	var to uint32
	var backups backupFlags
	var dry dryRun
	var address string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Run the pending migrations; creates the store if there is none",
		Example: a.example("up --to 2"),
		Args:    noArgs,
	}
	cmd.Flags().Uint32Var(&to, "to", 0, "stop at this version instead of the latest")
	cmd.Flags().BoolVar(&a.Options.Reclaim, "reclaim", a.Options.Reclaim, "after the migrations, give back the room of what was overwritten; the command reclaim, run afterwards, can give back more")
	backups.add(cmd, "backup", "back the store up into this directory, of this store alone and not inside it, before the first migration")
	dry.addFlags(cmd)
	cmd.Flags().StringVar(&address, "http", "", "show at this address how far it is, for example 127.0.0.1:8080; without access control")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		target, err := a.target(cmd, to)
		if err != nil {
			return err
		}
		if dry.asked && address != "" {
			return usage(errors.New("--dry-run is not served: leave --http away"))
		}
		if dry.asked {
			return dry.run(cmd, a, target)
		}
		if cmd.Flags().Changed("samples") {
			return usage(errors.New("--samples is for --dry-run"))
		}
		if a.Options.Backup, err = backups.options(cmd, a.Options.Backup); err != nil {
			return err
		}
		if address != "" {
			return a.upServing(cmd, target, address)
		}
		return a.withRunner(cmd, false, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
			report, err := r.UpTo(ctx, target)
			return a.printReport(cmd.OutOrStdout(), report, err)
		})
	}
	return a.withJSON(cmd)
}

// printReport prints what a run did and returns its error.
func (a *app) printReport(w io.Writer, report migrate.Report, err error) error {
	if a.json {
		return errors.Join(err, encode(w, reportJSON{report.Schema, report.From, report.To, report.Adopted, report.ReadOnly,
			append([]migrate.Applied{}, report.Applied...), takenToJSON(report.Backup), text(err)}))
	}
	if err != nil {
		return err
	}
	did := fmt.Sprintf("%d applied", len(report.Applied))
	if report.Adopted {
		did = fmt.Sprintf("adopted at v%d, %s", report.From, did)
	}
	_, err = fmt.Fprintf(w, "%s schema is at v%d (%s)\n", report.Schema, report.To, did)
	return err
}

// target is the version that --to names, or the latest. One that no migration
// leads to is an error here, before up creates a store for it.
func (a *app) target(cmd *cobra.Command, to uint32) (uint32, error) {
	latest := a.Options.Registry.Latest()
	switch {
	case !cmd.Flags().Changed("to"):
		return latest, nil
	case to > latest:
		return 0, &migrate.UnknownTargetError{Schema: a.Options.Schema, Target: to, Latest: latest}
	}
	return to, nil
}

func (a *app) plan() *cobra.Command {
	var to uint32
	cmd := &cobra.Command{
		Use:     "plan",
		Short:   "Show what up would do",
		Example: a.example("plan"),
		Args:    noArgs,
	}
	cmd.Flags().Uint32Var(&to, "to", 0, "stop at this version instead of the latest")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		target, err := a.target(cmd, to)
		if err != nil {
			return err
		}
		a.looks = true
		return a.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
			plan, err := r.Plan(ctx, target)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if a.json {
				return encode(w, planJSON{plan.Schema, plan.From, plan.To, toJSON(plan.Pending)})
			}
			return printPlan(w, plan)
		})
	}
	return a.withJSON(cmd)
}

func printPlan(w io.Writer, plan migrate.Plan) error {
	if len(plan.Pending) == 0 {
		_, err := fmt.Fprintf(w, "%s schema is at v%d: nothing to do\n", plan.Schema, plan.From)
		return err
	}
	_, err := fmt.Fprintf(w, "%s schema: v%d -> v%d\n", plan.Schema, plan.From, plan.To)
	return errors.Join(err, printMigrations(w, plan.Pending))
}

func printMigrations(w io.Writer, migrations []migrate.Migration) error {
	t := sheet(w)
	for _, m := range migrations {
		fmt.Fprintf(t, "  v%d\t%s\t%s\n", m.Version, m.Name, m.Description)
	}
	return t.Flush()
}

func (a *app) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the store's version and what is pending",
		Long: `Show the store's version and what is pending.

If another process has the store open and is upgrading it, show how far that is
instead, from the file that it keeps in the directory of the store. With --wait,
show that on standard error until it is done, and then the version.`,
		Example: a.example("status --json"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.looks = true
			err := a.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
				status, err := r.Status(ctx)
				w := cmd.OutOrStdout()
				if a.json {
					return errors.Join(err, encode(w, newStatusJSON(status, err)))
				}
				if errors.Is(err, store.ErrCorrupt) {
					return err // there is no version to show
				}
				return errors.Join(err, printStatus(w, status))
			})
			if locked, ok := errors.AsType[*store.LockedError](err); ok {
				return a.liveStatus(cmd.OutOrStdout(), locked, err)
			}
			return err
		},
	}
	return a.withJSON(cmd)
}

func newStatusJSON(s migrate.Status, err error) statusJSON {
	out := statusJSON{Schema: s.Schema, Version: s.Version, Stored: s.Stored, Latest: s.Latest, Pending: toJSON(s.Pending), Adopted: s.Adopted, ReadOnly: s.ReadOnly, Error: text(err)}
	if p := s.Progress; p != nil {
		out.Progress = &progressJSON{p.Version, p.Name, p.Started, p.Transactions, p.KeysWritten, p.KeysDeleted, p.Phase, p.Visited, p.VisitedBytes, p.Program}
	}
	if h := s.Holder; h != nil {
		out.Holder = &turnJSON{h.Program, h.Host, h.PID, h.Since}
	}
	return out
}

func printStatus(w io.Writer, s migrate.Status) error {
	version := fmt.Sprintf("v%d", s.Version)
	if !s.Stored {
		version = "none"
	}
	t := sheet(w)
	fmt.Fprintf(t, "schema\t%s\nstored version\t%s\nlatest known\tv%d\npending\t%d\n", s.Schema, version, s.Latest, len(s.Pending))
	switch {
	case s.Adopted:
		fmt.Fprintf(t, "adoption\tits data are like v%d\n", s.Version)
	case s.ReadOnly:
		fmt.Fprintln(t, "access\tread only: the store is newer than this program")
	case s.Version > s.Latest:
		fmt.Fprintln(t, "access\tread and write, though the store is newer than this program")
	}
	if s.Progress != nil {
		fmt.Fprintf(t, "under way\t%v\n", s.Progress)
	}
	if s.Holder != nil {
		fmt.Fprintf(t, "migrated by\t%v; if it is dead, whoever upgrades next takes over\n", s.Holder)
	}
	return errors.Join(t.Flush(), printMigrations(w, s.Pending))
}

func (a *app) history() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "Show which migrations were applied, when and by what",
		Example: a.example("history"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.looks = true
			return a.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
				history, err := r.History(ctx)
				if err != nil {
					return err
				}
				w := cmd.OutOrStdout()
				if a.json {
					return encode(w, append([]migrate.Applied{}, history...))
				}
				return printHistory(w, history)
			})
		},
	}
	return a.withJSON(cmd)
}

// printHistory prints a line for each record, below the program that ran it and the
// ones after it, and the sizes of the store below the record that has them.
func printHistory(w io.Writer, history []migrate.Applied) error {
	t := table(w)
	fmt.Fprintln(t, "VERSION\tNAME\tFINISHED\tWRITTEN\tDELETED")
	program := ""
	for _, h := range history {
		if h.Program != program {
			program = h.Program
			fmt.Fprintln(t, terminal.Truncate("by "+program+":", width, "…"))
		}
		fmt.Fprintf(t, "v%d\t%s\t%s\t%d\t%d\n", h.Version, h.Name+marks(h), h.Finished.Format(time.RFC3339), h.KeysWritten, h.KeysDeleted)
		if h.SizeAfter > 0 {
			fmt.Fprintf(t, "  the store took %s before the run and %s after it\n", humanize.IBytes(h.SizeBefore), humanize.IBytes(h.SizeAfter))
		}
	}
	return t.Flush()
}

// marks are what is unusual about a record of history.
func marks(a migrate.Applied) string {
	text := ""
	if a.Origin != migrate.Migrated {
		text += " (" + string(a.Origin) + ")"
	}
	if a.Unreleased {
		text += " (unreleased)"
	}
	return text
}

func (a *app) dump() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:     "dump",
		Short:   "Print every entry as a line of text, secrets included",
		Example: a.example("dump --prefix system.users/"),
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that start with this")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.looks = true
		return a.withStore(cmd, true, func(ctx context.Context, st store.Store, _ migrate.Options) error {
			return st.View(ctx, func(s store.Reader) error {
				w, scan := cmd.OutOrStdout(), store.Scan{Prefix: []byte(prefix)}
				if a.json {
					return dumpJSON(w, s, scan)
				}
				return dump.Write(w, s, scan)
			})
		})
	}
	return a.withJSON(cmd)
}

// dumpJSON prints one object a line, so that a dump of any size streams.
func dumpJSON(w io.Writer, s store.Reader, scan store.Scan) error {
	lines := json.NewEncoder(w)
	for e, err := range s.Scan(scan) {
		if err != nil {
			return err
		}
		if err := lines.Encode(entryJSON{e.Key, e.Value, dump.Value(e.Value), e.ExpiresAt, e.Meta}); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) create() *cobra.Command {
	var o scaffold.Options
	cmd := &cobra.Command{
		Use:     "new NAME",
		Short:   "Write the file of the next migration",
		Example: fmt.Sprintf("  %s new add_tags --dir migrations", a.Name),
		Args:    args(1, "one name"),
	}
	golden := "the folder of golden files"
	if a.Golden == "" {
		golden += " (default testdata/golden in --dir)"
	}
	cmd.Flags().StringVar(&o.Dir, "dir", a.MigrationsDir, "the folder of the migrations")
	cmd.Flags().StringVar(&o.Golden, "golden", a.Golden, golden)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Name, o.Schema = args[0], a.Options.Schema
		if o.Golden != "" && !filepath.IsAbs(o.Golden) {
			abs, err := filepath.Abs(o.Golden)
			if err != nil {
				return err
			}
			o.Golden = abs
		}
		created, err := scaffold.New(cmd.Context(), o)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		_, err = fmt.Fprintf(w, "%s\n%s\n", created.File, created.Fixture)
		if err == nil && created.Test != "" {
			_, err = fmt.Fprintln(w, created.Test)
		}
		return err
	}
	return cmd
}

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program and of the schema it knows",
		Example: fmt.Sprintf("  %s version", a.Name),
		Args:    noArgs,
		RunE:    a.showVersion,
	}
	return a.withJSON(cmd)
}

func (a *app) showVersion(cmd *cobra.Command, _ []string) error {
	v := versionJSON{Program: a.Name, Version: "(devel)", Schema: a.Options.Schema, Latest: a.Options.Registry.Latest()}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	if a.json {
		return encode(cmd.OutOrStdout(), v)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s, %s schema v%d\n", v.Program, v.Version, v.Schema, v.Latest)
	return err
}
