package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/internal/plural"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
)

type (
	backupJSON struct {
		File      string    `json:"file"`
		Schema    string    `json:"schema"`
		Version   uint32    `json:"version"`
		Created   time.Time `json:"created"`
		Program   string    `json:"program"`
		Encrypted bool      `json:"encrypted"`
		Entries   uint64    `json:"entries"`
		Bytes     uint64    `json:"bytes"` // of keys and values
		Size      int64     `json:"size"`  // of the file
	}
	takenJSON struct {
		backupJSON
		Reused  bool     `json:"reused"`
		Removed []string `json:"removed"`
	}
	listedJSON struct {
		backupJSON
		Error string `json:"error,omitempty"`
	}
	restoredJSON struct {
		backupJSON
		Store string `json:"store"`
		Old   string `json:"old"`
	}
)

func infoToJSON(i backup.Info) backupJSON {
	return backupJSON{i.Path, i.Schema, i.Version, i.Created, i.Program, i.Encrypted, i.Entries, i.Bytes, i.Size}
}

func takenToJSON(t *backup.Taken) *takenJSON {
	if t == nil {
		return nil
	}
	return &takenJSON{infoToJSON(t.Info), t.Reused, append([]string{}, t.Removed...)}
}

// backupFlags are the flags of the commands that make backups.
type backupFlags struct {
	dir       string
	keep      int
	keyFile   string
	plaintext bool
}

// add gives cmd the flags; dir is the name of the one for the directory.
func (f *backupFlags) add(cmd *cobra.Command, dir, help string) {
	cmd.Flags().StringVar(&f.dir, dir, "", help)
	cmd.Flags().IntVar(&f.keep, "keep", 0, "keep this many backups of the schema there, and the one from before the last upgrade, and remove older ones, of other stores too (0 keeps all)")
	cmd.Flags().BoolVar(&f.plaintext, "plaintext", false, "do not encrypt the backup of an encrypted store")
	addKeyFile(cmd, &f.keyFile)
}

func addKeyFile(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "key-file", "", "a file whose bytes are the key of the backup (default the key of the store, if it is encrypted)")
}

// options returns what the flags say over what the program does; nil if neither names a
// directory.
func (f *backupFlags) options(cmd *cobra.Command, program *backup.Options) (*backup.Options, error) {
	var o backup.Options
	if program != nil {
		o = *program
	}
	if f.dir != "" {
		o.Dir = f.dir
	}
	if cmd.Flags().Changed("keep") {
		o.Keep = f.keep
	}
	switch {
	case o.Keep < 0:
		return nil, usage(errors.New("--keep is less than 0"))
	case o.Dir == "" && (o.Keep != 0 || f.keyFile != "" || f.plaintext):
		return nil, usage(errors.New("the directory of the backups is missing"))
	case o.Dir == "":
		return nil, nil
	case f.plaintext && f.keyFile != "":
		return nil, usage(errors.New("--plaintext and --key-file exclude each other"))
	case f.plaintext:
		o.Plaintext, o.Key = true, nil
	case f.keyFile != "":
		key, err := readKey(f.keyFile)
		if err != nil {
			return nil, err
		}
		o.Plaintext, o.Key = false, key
	}
	return &o, nil
}

func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 0 {
		err = fmt.Errorf("key file %s is empty", path)
	}
	return key, err
}

func (a *app) backUp() *cobra.Command {
	var flags backupFlags
	var list bool
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up all entries of the store, or list the backups",
		Long: `Back up all entries of the store into one compressed file, which is read back
before it gets its name. A backup of the same entries that is there already is
used again. With --list, read all backups that are there and say which are good;
the exit code is 1 if one is not.

Give each store a directory of its own, outside of the store's: --keep counts,
and removes, all backups of the schema there, and a restore moves the store's
directory away.`,
		Example: a.example("backup --dir backups --keep 3") + "\n" + a.example("backup --dir backups --list"),
		Args:    noArgs,
	}
	flags.add(cmd, "dir", "the directory of the backups, of this store alone and not inside it (default the program's, or the store's with .backups at its end)")
	cmd.Flags().BoolVar(&list, "list", false, "list the backups and make none")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if flags.dir == "" && a.Options.Backup == nil && a.store != "" {
			switch directory, err := a.replaces(a.store); {
			case err != nil:
				return err
			case directory:
				flags.dir = a.store + ".backups"
			}
		}
		o, err := flags.options(cmd, a.Options.Backup)
		if err == nil && o == nil {
			err = usage(errors.New("--dir is missing: name the directory of the backups"))
		}
		if err != nil {
			return err
		}
		if list {
			return a.listBackups(cmd, o)
		}
		a.looks = true
		return a.withRunner(cmd, true, func(ctx context.Context, r *migrate.Runner, _ store.Store) error {
			w := a.watch(cmd)
			o.Observer = both(o.Observer, w.observe)
			taken, err := r.Backup(ctx, *o)
			w.end()
			if err != nil {
				return err
			}
			if taken.Warning != nil {
				a.logger(cmd.ErrOrStderr()).WarnContext(ctx, fmt.Sprintf("the backup is good, but others need a look: %v", taken.Warning))
			}
			if a.json {
				return encode(cmd.OutOrStdout(), takenToJSON(&taken))
			}
			return printTaken(cmd.OutOrStdout(), taken)
		})
	}
	return a.withJSON(cmd)
}

func printTaken(w io.Writer, t backup.Taken) error {
	again := ""
	if t.Reused {
		again = ", there already"
	}
	_, err := fmt.Fprintf(w, "%s (v%d, %s, %s%s)\n", t.Path, t.Version, plural.Of(t.Entries, "entry"), humanize.IBytes(uint64(t.Size)), again)
	for _, path := range t.Removed {
		fmt.Fprintf(w, "removed %s\n", path)
	}
	return err
}

// listBackups needs no store.
func (a *app) listBackups(cmd *cobra.Command, o *backup.Options) error {
	list, err := backup.List(cmd.Context(), o.Dir, a.Options.Schema, o.Key)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	bad := countBad(list)
	if a.json {
		out := make([]listedJSON, 0, len(list))
		for _, l := range list {
			out = append(out, listedJSON{infoToJSON(l.Info), text(l.Err)})
		}
		return errors.Join(encode(w, out), bad)
	}
	t := table(w)
	for _, l := range list {
		fmt.Fprintln(t, l.Path) // whole, because a part of it is of no use
		if l.Err != nil {
			for _, line := range wrap(l.Err.Error(), width-2) {
				fmt.Fprintf(t, "  %s\n", line)
			}
			continue
		}
		state := "good"
		if l.Encrypted {
			state = "good, encrypted"
		}
		fmt.Fprintf(t, "  v%d\t%s\t%s\t%s\t%s\n", l.Version, l.Created.Format(time.RFC3339), plural.Of(l.Entries, "entry"), humanize.IBytes(uint64(l.Size)), state)
	}
	return errors.Join(t.Flush(), bad)
}

// countBad returns an error that says how many cannot be used, if any. What is wrong with
// each the list says.
func countBad(list []backup.Listed) error {
	n := 0
	for _, l := range list {
		if l.Err != nil {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s cannot be used; see the list", n, plural.Of(uint64(len(list)), "backup"))
}

func (a *app) restore() *cobra.Command {
	var into, keyFile string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore a backup, in the place of the store or into a new one",
		Long: `Restore a backup. The whole file is checked first. The store is built beside the
old one and read back, and only then takes its place; the old files are kept,
and the command says where. With --into the store stays as it is and a new one
is made.

No migration is run and no version compared: the program that wrote the backup,
or any older one, can restore it.`,
		Example:           a.example("restore backups/FILE") + "\n" + fmt.Sprintf("  %s restore backups/FILE --into NEW", a.Name),
		Args:              args(1, "one file"),
		ValidArgsFunction: first(1, completeBackup),
	}
	cmd.Flags().StringVar(&into, "into", "", "a new store to restore into, instead of --store")
	addKeyFile(cmd, &keyFile)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := backup.RestoreOptions{Schema: a.Options.Schema}
		if a.Options.Backup != nil {
			o.Key = a.Options.Backup.Key
		}
		if keyFile != "" {
			var err error
			if o.Key, err = readKey(keyFile); err != nil {
				return err
			}
		}
		name := cmp.Or(into, a.store)
		if name == "" && a.inPlace {
			return usage(errors.New("--store and --into are missing: name the store to restore"))
		}
		directory, err := a.replaces(name)
		if err != nil {
			return err
		}
		if into == "" && !directory {
			return usage(errors.New("--into is missing: no store is put in the place of such a one; name a new one"))
		}
		info, old, err := a.restoreFile(cmd, args[0], name, into != "", o)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if a.json {
			return encode(w, restoredJSON{infoToJSON(info), name, old})
		}
		_, err = fmt.Fprintf(w, "restored %s schema v%d into %s (%s)\n", info.Schema, info.Version, name, plural.Of(info.Entries, "entry"))
		if old != "" {
			fmt.Fprintf(w, "the old files are in %s\n", old)
		}
		return err
	}
	return a.withJSON(cmd)
}

// restoreFile restores the backup at path and returns where the old files are, "" if
// there were none. If fresh is set there must be none.
func (a *app) restoreFile(cmd *cobra.Command, path, name string, fresh bool, o backup.RestoreOptions) (info backup.Info, old string, err error) {
	ctx, w := cmd.Context(), a.watch(cmd)
	defer w.end()
	o.Observer = w.observe
	// What can be seen without the store's key is said before anything is made.
	if info, err = backup.Inspect(path); err == nil && !info.Encrypted {
		info, err = backup.Verify(ctx, path, o)
	}
	if err != nil {
		return info, "", fmt.Errorf("%w; nothing was changed", err)
	}
	fill := func(ctx context.Context, st store.Store) error {
		info, err = backup.Restore(ctx, path, st, o)
		a.logKeys(ctx, w.log, err)
		return err
	}
	if directory, _ := a.replaces(name); !directory {
		st, err := a.openWaiting(cmd, w.bar, name, OpenOptions{Wait: a.wait, Logger: w.log})
		if err != nil {
			return info, "", err
		}
		return info, "", errors.Join(fill(ctx, st), st.Close())
	}
	if files, err := os.ReadDir(name); fresh && err == nil && len(files) > 0 {
		return info, "", fmt.Errorf("restore into %s: %w; nothing was changed. Name a path where nothing is, or take that store's place: with --store %[1]s, and without --into", name, backup.ErrNotEmpty)
	}
	opts := a.Badger
	opts.MustExist, opts.Wait, opts.Logger = false, a.wait, w.log
	o.Uncompared = true // until it is open again
	stop := a.follow(ctx, w.bar, w.log, name)
	defer stop()
	old, err = badgerstore.Replace(ctx, name, opts,
		func(ctx context.Context, st *badgerstore.Store) error {
			stop()
			return fill(ctx, st)
		},
		func(ctx context.Context, st *badgerstore.Store) error { return backup.Compare(ctx, path, st, o) })
	return info, old, err
}
