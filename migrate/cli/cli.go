// Package cli is the operator's commands over migrate, for any program to embed:
// up, plan, status, history, baseline, backup, restore, dump, diff, copy, verify,
// reclaim, nodes, new, version, man and completion.
//
// A program calls [Run] from its main function, with the options that it passes to
// migrate.Up itself:
//
//	os.Exit(cli.Run(ctx, cli.Config{Name: "notes", Options: options}, os.Args[1:], os.Stdout, os.Stderr))
//
// or adds [Command] to a tree of cobra commands that it has. Data goes to
// standard output, the log and errors to standard error.
//
// On a terminal, unless its type is dumb, up, backup, restore, copy and verify show a bar
// on standard error, and so does what waits for another process. Nothing is coloured, and
// tables fit 80 columns. Samples of entries are cut to the width of the terminal that
// standard output is.
//
// up --http serves what package statushttp describes, to whoever reaches the address.
//
// # JSON
//
// With --json a command prints what it has to say as JSON; dump prints an object a
// line. docs/schemas in the repository has a JSON Schema for each command, by its
// name. The keys keep their names and meanings; new ones may join them, so that a
// program must skip those that it does not know. Times are RFC 3339 in UTC, keys and
// values of entries are in base64, and sizes in bytes.
//
// error in the JSON is the text of an error that comes beside what could be read or
// done: a refusal, a failed migration. All other errors leave standard output empty.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/internal/schema"
	"github.com/kvmigrate/kvmigrate/migrate/scaffold"
	"github.com/kvmigrate/kvmigrate/migrate/transfer"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

// The exit codes.
const (
	ExitDone    = 0 // what was asked for is done
	ExitFailed  = 1 // something went wrong; the store is at a version it can go on from
	ExitUsage   = 2 // the command line makes no sense; also of a Go program that crashes
	ExitRefused = 3 // the store, or the backup, is newer than the program, corrupt or foreign, verify found something, or the stores of diff differ; nothing was changed
)

// Config adapts the commands to a program. The zero Config is the default
// registry and schema, over Badger directories.
type Config struct {
	// Name is what one types for the command, as help texts show it: in a tree
	// of commands the words of the whole path, of which the last is the
	// command's own, as in "notes schema". Empty means "kvmigrate".
	Name string

	// Options are those that the program itself passes to migrate.Up, so that the
	// commands treat a store as it does. The flags --schema, --allow-unversioned
	// and --allow-unreleased override what they name, the commands' log Logger.
	Options migrate.Options

	// Stores open the stores of other kinds, by the scheme that a name begins
	// with: "etcd" those that are named etcd:…. An Opener gets the name without
	// the scheme and its colon. Names without one of these schemes go to Open.
	Stores map[string]Opener

	// Store is the default of --store. Empty means none: the flag must be
	// given.
	Store string

	// Open opens the store that --store names, as the program itself opens it:
	// with its encryption key and sizes, for example. Nil takes the name for a
	// Badger directory, unless it begins with a scheme, and opens it as Badger says.
	// With an Open, and for the names of Stores, restore fills new stores and puts none
	// in the place of another.
	Open Opener

	// Badger says how directories are opened if Open is nil: with which
	// encryption key, for example. Only its Configure counts.
	Badger badgerstore.Options

	// Verify, if not nil, is what the program adds to the command verify: see
	// [migrate.VerifyOptions].Check.
	Verify func(ctx context.Context, v *migrate.Verifier) error

	// Commands, if not nil, returns commands of the program's own, which join the
	// others. They read the store through view. Of a line of their examples, which
	// begins with two spaces, what comes before the command's own name is put there.
	Commands func(view View) []*cobra.Command

	// MigrationsDir is the default of new's --dir, relative to the working
	// directory. Empty means "migrations".
	MigrationsDir string

	// Golden is the default of new's --golden, relative to the working
	// directory. Empty means testdata/golden in --dir.
	Golden string
}

// A View opens the store that --store names, which must exist, calls read with a
// snapshot, and closes the store again. It returns read's error.
type View func(cmd *cobra.Command, read func(s store.Reader) error) error

// An Opener opens the store of that name.
type Opener func(ctx context.Context, name string, o OpenOptions) (store.Store, error)

// OpenOptions are what a command asks of an Opener.
type OpenOptions struct {
	MustExist bool          // there is to be a store, and none to be created
	ReadOnly  bool          // nothing is written, so that the store's files can stay as they are
	Migrates  bool          // pending migrations run, so that [badgerstore.ForMigration] suits
	Wait      time.Duration // how long to wait for another process to close the store
	Logger    *slog.Logger
}

// Run parses args, without the program's name, runs the command and returns the
// exit code. A cancelled ctx stops between and within transactions; running
// again goes on. It may be called concurrently.
func Run(ctx context.Context, cfg Config, args []string, stdout, stderr io.Writer) int {
	a, cmd := newApp(cfg)
	withExamples(cmd)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
	case a.logFormat == "json":
		a.logger(stderr).ErrorContext(ctx, text(err))
	default:
		fmt.Fprintf(stderr, "%s: %s\n", cmd.Name(), text(err))
	}
	return ExitCode(err)
}

// ExitCode returns the exit code that an error of [Command] stands for.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, migrate.ErrRefused), errors.Is(err, migrate.ErrFindings), errors.Is(err, errDiffer), errors.Is(err, store.ErrCorrupt), errors.Is(err, transfer.ErrRefused), isUnfinished(err), isUnusable(err):
		return ExitRefused
	case errors.Is(err, errUsage), errors.Is(err, scaffold.ErrName), isUnknownTarget(err):
		return ExitUsage
	}
	return ExitFailed
}

// errUsage marks what is wrong with the command line.
var errUsage = errors.New("see --help")

// Usage marks an error of a program's own command as one of the command line, for
// which the exit code is [ExitUsage].
func Usage(err error) error { return usage(err) }

func usage(err error) error { return fmt.Errorf("%w; %w", err, errUsage) }

func isUnknownTarget(err error) bool {
	_, ok := errors.AsType[*migrate.UnknownTargetError](err)
	return ok
}

// whole returns an error for half a copy, or half a restore.
func (a *app) whole(s store.Reader) error {
	return cmp.Or(transfer.UnderWay(s), backup.UnderWay(s, a.Options.Schema))
}

// isUnfinished reports whether a store is half a copy, or half restored.
func isUnfinished(err error) bool {
	_, copied := errors.AsType[*transfer.UnfinishedError](err)
	_, restored := errors.AsType[*backup.UnfinishedError](err)
	return copied || restored
}

// isUnusable reports whether a backup is damaged or foreign.
func isUnusable(err error) bool {
	_, ok := errors.AsType[*backup.FileError](err)
	return ok
}

// Command returns the root command. Its RunE functions return errors for
// [ExitCode]; the caller prints them.
func Command(cfg Config) *cobra.Command {
	_, cmd := newApp(cfg)
	return cmd
}

func newApp(cfg Config) (*app, *cobra.Command) {
	if cfg.Name == "" {
		cfg.Name = "kvmigrate"
	}
	if cfg.Options.Registry == nil {
		cfg.Options.Registry = migrate.DefaultRegistry()
	}
	if cfg.Options.Schema == "" {
		cfg.Options.Schema = migrate.DefaultSchema
	}
	if cfg.MigrationsDir == "" {
		cfg.MigrationsDir = "migrations"
	}
	a := &app{Config: cfg, inPlace: cfg.Open == nil}
	if a.inPlace {
		cfg.Open = a.openBadger
	}
	a.Open = cfg.openAny
	showVersion := false
	root := &cobra.Command{
		Use:   cfg.Name[strings.LastIndexByte(cfg.Name, ' ')+1:],
		Short: "Versioned schema migrations for key-value stores",
		Long: `Versioned schema migrations for key-value stores.

Data goes to standard output, the log to standard error.

Exit codes:
  0  done
  1  failed; the error says what and in which migration
  2  usage: the command line makes no sense
  3  refused: the store, or the backup, is newer than this program, corrupt,
     or another program's, verify found something, or the stores of diff
     differ; nothing was changed`,
		Example: fmt.Sprintf("  %[1]s --store DIR up\n  %[1]s --store DIR status --json", cfg.Name),
		Args:    noCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if showVersion {
				return a.showVersion(cmd, args)
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			sayInterrupted(cmd.Context(), a.logger(cmd.ErrOrStderr()), nil)
			if a.quiet && a.verbose {
				return usage(errors.New("--quiet and --verbose exclude each other"))
			}
			if a.wait < 0 {
				return usage(errors.New("--wait is less than 0"))
			}
			return nil
		},

		SilenceUsage:  true,
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.store, "store", cfg.Store, "the store: "+cfg.storeNames())
	flags.Var((*schemaName)(&a.Options.Schema), "schema", "the schema within the store")
	flags.BoolVar(&a.Options.AllowUnversioned, "allow-unversioned", cfg.Options.AllowUnversioned, "take a store with data and no version for one at v0")
	flags.BoolVar(&a.Options.AllowUnreleased, "allow-unreleased", cfg.Options.AllowUnreleased, "run migrations that may still change in any store")
	flags.DurationVar(&a.wait, "wait", 0, "wait this long for another process to close the store or, if processes share it, to migrate it, for example 30s")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log what is not news, too, and the key that an error is about")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "log only warnings and errors, and show no progress")
	flags.Var(&a.logFormat, "log-format", "the form of the log: text or json")
	root.Flags().BoolVar(&showVersion, "version", false, "what the command version shows")
	root.AddCommand(a.up(), a.plan(), a.status(), a.history(), a.baseline(), a.backUp(), a.restore(), a.dump(), a.diff(), a.copy(), a.verify(), a.reclaim(), a.nodes(), a.create(), a.version())
	root.AddCommand(a.man(root))
	a.withCompletion(root)
	if cfg.Commands != nil {
		own := cfg.Commands(a.view)
		for _, cmd := range own {
			cmd.Example = strings.ReplaceAll("\n"+cmd.Example, "\n  ", "\n"+a.example(""))[1:]
		}
		root.AddCommand(own...)
	}
	return a, root
}

// app is one invocation: the configuration and the flags.
type app struct {
	Config
	store     string
	wait      time.Duration
	verbose   bool
	quiet     bool
	logFormat logFormat
	json      bool
	inPlace   bool // whether stores without a scheme are directories of ours to replace
	tries     bool // whether it is a dry run
	reads     bool // whether no file of the store is to change
	looks     bool // whether it goes without changing one, where none can be changed
}

// A logFormat is the value of --log-format. The zero value is text.
type logFormat string

func (f *logFormat) String() string { return cmp.Or(string(*f), "text") }
func (*logFormat) Type() string     { return "format" }

func (f *logFormat) Set(text string) error {
	if text != "text" && text != "json" {
		return errors.New("want text or json")
	}
	*f = logFormat(text)
	return nil
}

// A schemaName is the value of --schema.
type schemaName string

func (n *schemaName) String() string { return string(*n) }
func (*schemaName) Type() string     { return "string" }

func (n *schemaName) Set(name string) error {
	*n = schemaName(name)
	return schema.Check(name)
}

// withRunner opens the store for do and closes it again. Half a copy or restore is no
// store.
func (a *app) withRunner(cmd *cobra.Command, mustExist bool, do func(ctx context.Context, r *migrate.Runner, st store.Store) error) error {
	return a.withStore(cmd, mustExist, func(ctx context.Context, st store.Store, o migrate.Options) error {
		// What else is wrong with the store, do says better.
		if err := st.View(ctx, a.whole); isUnfinished(err) {
			return fmt.Errorf("%w; nothing was changed", err)
		}
		r, err := migrate.New(st, o)
		if err != nil {
			return err
		}
		return do(ctx, r, st)
	})
}

// withStore opens the store for do, which gets the options of the command, and
// closes it again.
func (a *app) withStore(cmd *cobra.Command, mustExist bool, do func(ctx context.Context, st store.Store, o migrate.Options) error) (err error) {
	if a.store == "" {
		return usage(errors.New("--store is missing: name the store"))
	}
	ctx, o := cmd.Context(), a.Options
	log := a.logger(cmd.ErrOrStderr())
	b := a.bar(cmd.ErrOrStderr(), mustExist)
	if b != nil {
		defer b.end()
		log = a.logger(b)
		o.Heartbeat, o.Observer = -1, both(o.Observer, b.observe)
	}
	defer sayInterrupted(ctx, log, b)()
	o.Logger = log
	o.Wait = a.waitFor(cmd, o.Wait)
	// New does not touch the store. What it finds wrong must not leave a new
	// one behind, so it looks before there is one.
	if _, err := migrate.New(nil, o); err != nil {
		return err
	}
	st, err := a.openWaiting(cmd, b, a.store, OpenOptions{MustExist: mustExist, ReadOnly: a.reads, Migrates: !mustExist || a.tries, Wait: a.wait, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	err = do(ctx, st, o)
	if e, ok := errors.AsType[*store.Error](err); ok && e.Key != nil {
		// Only who asks for it gets to see a key, which can be secret.
		log.DebugContext(ctx, "the key in question", "key", string(e.Key))
	}
	return err
}

// waitFor returns how long to wait for a process that migrates a store that is shared.
// Unlike a program's start-up a person is told at once.
func (a *app) waitFor(cmd *cobra.Command, program time.Duration) time.Duration {
	wait := program
	if cmd.Flags().Changed("wait") {
		wait = a.wait
	}
	if wait == 0 {
		return -1
	}
	return wait
}

// view is the View of [Config].Commands.
func (a *app) view(cmd *cobra.Command, read func(s store.Reader) error) error {
	a.looks = true
	return a.withRunner(cmd, true, func(ctx context.Context, _ *migrate.Runner, st store.Store) error {
		return st.View(ctx, read)
	})
}

// bar returns the bar of a command that migrates, nil if it is to have none.
func (a *app) bar(w io.Writer, mustExist bool) *bar {
	if mustExist && !a.tries {
		return nil
	}
	return a.anyBar(w)
}

// anyBar returns a bar, nil if there is to be none.
func (a *app) anyBar(w io.Writer) *bar {
	if a.quiet || a.logFormat == "json" {
		return nil
	}
	return newBar(w)
}

// both returns an observer that calls first, unless that is nil, and second.
func both[E any](first, second func(E)) func(E) {
	if first == nil {
		return second
	}
	return func(e E) {
		first(e)
		second(e)
	}
}

// logger logs to w. As text it has no time: a person reads it while the command
// runs.
func (a *app) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{}
	switch {
	case a.verbose:
		o.Level = slog.LevelDebug
	case a.quiet:
		o.Level = slog.LevelWarn
	}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	o.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
		if len(groups) == 0 && attr.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return attr
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func (a *app) openBadger(ctx context.Context, dir string, o OpenOptions) (store.Store, error) {
	if err := a.checkDirectory(dir); err != nil {
		return nil, err
	}
	options := a.Badger
	options.MustExist, options.ReadOnly, options.Wait, options.Logger = o.MustExist, o.ReadOnly, o.Wait, o.Logger
	if o.Migrates { // and the store is closed when that is done
		options = options.ForMigration()
	}
	st, err := badgerstore.Open(ctx, dir, options)
	if o.ReadOnly && errors.Is(err, store.ErrUnsupported) {
		o.Logger.WarnContext(ctx, "the store cannot be opened read-only, as after a kill; opening it for writing, which changes its files but none of its entries")
		options.ReadOnly = false
		st, err = badgerstore.Open(ctx, dir, options)
	}
	if a.looks && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		options.ReadOnly = true
		st, err = badgerstore.Open(ctx, dir, options)
	}
	if err != nil {
		return nil, err
	}
	return st, nil
}

// noCommand wants no arguments: what is there is a command that does not exist.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	fault := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		fault += fmt.Sprintf(" (is it %s?)", strings.Join(like, " or "))
	}
	return usage(errors.New(fault))
}

// noArgs refuses arguments with exit code 2.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}

// args wants n arguments, which are what.
func args(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(fmt.Errorf("want %s", what))
		}
		return nil
	}
}
