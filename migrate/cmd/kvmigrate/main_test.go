package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/backup"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kvmigrate": main, "kvmigrate-branch": branch, "kvmigrate-stopped": stopped, "kvmigrate-slow": slow, "kvmigrate-faulty": faulty, "kvmigrate-half": half, "kvmigrate-edit": edit, "kvmigrate-saving": saving, "kvmigrate-opening": opening, "kvmigrate-looking": looking})
}

// branch is kvmigrate as another branch built it, which took version 2 for a
// migration of its own and has none after it.
func branch() {
	ladder := migrate.DefaultRegistry().Migrations()[:2]
	ladder[1].Name = "add_quotas"
	cfg := cli.Config{Name: "kvmigrate-branch", Options: migrate.Options{Schema: migrations.Schema, Registry: migrate.NewRegistry(ladder...)}}
	os.Exit(cli.Run(context.Background(), cfg, os.Args[1:], os.Stdout, os.Stderr))
}

// stopped is kvmigrate with one more migration, during which the process is told
// to stop. It ends only with its context, so no clock decides the outcome.
func stopped() {
	latest := migrate.DefaultRegistry().Latest()
	migrate.DefaultRegistry().Register(migrate.Migration{
		Version: latest + 1, Name: "stopped", Description: "being stopped",
		Up: func(ctx context.Context, tx *migrate.Tx) error {
			if err := tx.Set(store.Entry{Key: []byte("half"), Value: []byte("done")}); err != nil {
				return err
			}
			self, err := os.FindProcess(os.Getpid())
			if err != nil {
				return err
			}
			if err := self.Signal(syscall.SIGTERM); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
	})
	main()
}

// slow is kvmigrate with one more migration, which ends when a file of the name end
// appears, or with its context unless there is one of the name deaf. It makes the
// file begun when it begins.
func slow() {
	latest := migrate.DefaultRegistry().Latest()
	migrate.DefaultRegistry().Register(migrate.Migration{
		Version: latest + 1, Name: "slow", Description: "waiting",
		Up: func(ctx context.Context, _ *migrate.Tx) error {
			if err := os.WriteFile("begun", nil, 0o600); err != nil {
				return err
			}
			for looks := time.Tick(10 * time.Millisecond); ; {
				if _, err := os.Stat("end"); err == nil {
					return nil
				}
				if _, err := os.Stat("deaf"); err != nil && ctx.Err() != nil {
					return ctx.Err()
				}
				<-looks
			}
		},
	})
	main()
}

// half is kvmigrate with one more migration, which commits a step and then fails.
func half() {
	latest := migrate.DefaultRegistry().Latest()
	migrate.DefaultRegistry().Register(migrate.Migration{
		Version: latest + 1, Name: "half", Description: "breaking half-way", Unreleased: true,
		Up: func(_ context.Context, tx *migrate.Tx) error {
			if tx.Cursor() != nil {
				return errors.New("the disk is on fire")
			}
			tx.Continue([]byte("half"))
			return nil
		},
	})
	main()
}

// saving is kvmigrate whose backups, once they are written, wait for a file of the name
// end.
func saving() {
	cfg := tablescli.Config()
	cfg.Options.Backup = &backup.Options{Observer: func(p backup.Progress) {
		for looks := time.Tick(10 * time.Millisecond); p.Stage == backup.Verifying && !ended(); <-looks {
		}
	}}
	os.Exit(cli.Run(context.Background(), cfg, os.Args[1:], os.Stdout, os.Stderr))
}

func ended() bool {
	_, err := os.Stat("end")
	return err == nil
}

// opening is kvmigrate that waits for a file of the name end before it opens a store.
func opening() {
	cfg := tablescli.Config()
	cfg.Open = func(ctx context.Context, dir string, o cli.OpenOptions) (store.Store, error) {
		for looks := time.Tick(10 * time.Millisecond); !ended(); <-looks {
		}
		return badgerstore.Open(ctx, dir, badgerstore.Options{Configure: badgerstore.Small, Logger: o.Logger})
	}
	os.Exit(cli.Run(context.Background(), cfg, os.Args[1:], os.Stdout, os.Stderr))
}

// looking is kvmigrate whose verify reads all entries again and again until there is a file
// of the name end.
func looking() {
	cfg := tablescli.Config()
	cfg.Verify = func(_ context.Context, v *migrate.Verifier) error {
		for !ended() {
			for _, err := range v.All(nil) {
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
	os.Exit(cli.Run(context.Background(), cfg, os.Args[1:], os.Stdout, os.Stderr))
}

// TestScripts runs the command as a process. The scripts have the other programs
// of TestMain, too, and these commands:
//
//	exits CODE kvmigrate ARG…   fails unless the exit code is CODE, and what --json
//	                            prints is as docs/schemas has it
//	put STORE KEY HEX           writes a raw entry
//	many STORE PREFIX N         writes N entries of an empty map
//	load STORE FILE             writes the entries of a dump
//	del STORE KEY               removes one
//	hold STORE                  keeps the store open until the script ends
//	await FILE                  waits until the file is there
//	glob NAME PATTERN           sets the variable NAME to the one file that matches
//	smalldisk DIR SIZE          mounts a file system of that size, for which see [mounts]
//	freeze DIR                  makes it read-only
//	fill FILE N                 writes a file of N MiB
//	hex FILE HEX                writes a file of raw bytes
//	cut FILE COPY               copies a file but for its last byte
//	sums DIR FILE               writes the name and checksum of each file in DIR to FILE
//	json FILE                   fails unless the file is one or more JSON values, as a
//	                            log is
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../../testdata/cli",
		Condition: func(name string) (bool, error) {
			if name != "mounts" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return mounts()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"put":   edits("put"),
			"many":  edits("many"),
			"load":  edits("load"),
			"del":   edits("del"),
			"hold": func(ts *testscript.TestScript, _ bool, args []string) {
				st, err := badgerstore.Open(context.Background(), ts.MkAbs(args[0]), badgerstore.Options{})
				ts.Check(err)
				ts.Defer(func() { ts.Check(st.Close()) })
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				for range time.Tick(10 * time.Millisecond) {
					if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
						return
					}
				}
			},
			"glob": func(ts *testscript.TestScript, _ bool, args []string) {
				found, err := filepath.Glob(ts.MkAbs(args[1]))
				ts.Check(err)
				if len(found) != 1 {
					ts.Fatalf("%s matches %d files, want one", args[1], len(found))
				}
				path, err := filepath.Rel(ts.MkAbs("."), found[0])
				ts.Check(err)
				ts.Setenv(args[0], path)
			},
			"smalldisk": func(ts *testscript.TestScript, _ bool, args []string) {
				unmount, err := smallDisk(ts.MkAbs(args[0]), args[1])
				ts.Check(err)
				ts.Defer(func() { ts.Check(unmount()) })
			},
			"freeze": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(freeze(ts.MkAbs(args[0]))) },
			"fill": func(ts *testscript.TestScript, _ bool, args []string) {
				mib, err := strconv.Atoi(args[1])
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), make([]byte, mib<<20), 0o600))
			},
			"hex": func(ts *testscript.TestScript, _ bool, args []string) {
				data, err := hex.DecodeString(args[1])
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
			},
			"cut": func(ts *testscript.TestScript, _ bool, args []string) {
				text := ts.ReadFile(args[0])
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text[:len(text)-1]), 0o600))
			},
			"sums": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), sums(ts, ts.MkAbs(args[0])), 0o600))
			},
			"json": func(ts *testscript.TestScript, _ bool, args []string) {
				values := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
				for n := 0; ; n++ {
					var v any
					err := values.Decode(&v)
					if errors.Is(err, io.EOF) && n > 0 {
						return
					}
					ts.Check(err)
				}
			},
		},
	})
}

func sums(ts *testscript.TestScript, dir string) (lines []byte) {
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		lines = fmt.Appendf(lines, "%x  %s\n", sha256.Sum256(data), path)
		return err
	}))
	return lines
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	if out := ts.ReadFile("stdout") + ts.ReadFile("stderr"); strings.Contains(out, "\x1b") {
		ts.Fatalf("%q acts on a terminal, and there is none", out)
	}
	if out := ts.ReadFile("stdout"); slices.Contains(args, "--json") && (out != "" || got == 0) {
		ts.Check(checkJSON(args[2:], out))
	}
}

// edits returns the command of a script that changes a store. It does that in a process
// of its own: a file that this one has open, and so a lock, lives on for a moment in
// every process that another script starts.
func edits(how string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(ts.Exec("kvmigrate-edit", append([]string{how}, args...)...))
	}
}

// edit changes a store, as the commands put, many, load and del of scripts say.
func edit() {
	if err := editStore(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func editStore(ctx context.Context, how, dir string, args []string) error {
	entries, deleted, err := changes(how, args)
	if err != nil {
		return err
	}
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{})
	if err != nil {
		return err
	}
	return errors.Join(store.Update(ctx, st, func(tx store.Txn) error {
		for _, e := range entries {
			if err := tx.Set(e); err != nil {
				return err
			}
		}
		for _, key := range deleted {
			if err := tx.Delete([]byte(key)); err != nil {
				return err
			}
		}
		return nil
	}), st.Close())
}

func changes(how string, args []string) (entries []store.Entry, deleted []string, err error) {
	switch how {
	case "put":
		value, err := hex.DecodeString(args[1])
		return []store.Entry{{Key: []byte(args[0]), Value: value}}, nil, err
	case "many":
		n, err := strconv.Atoi(args[1])
		for i := range n {
			entries = append(entries, store.Entry{Key: fmt.Appendf(nil, "%s%06d", args[0], i), Value: []byte{0xa0}})
		}
		return entries, nil, err
	case "load":
		text, err := os.ReadFile(args[0])
		if err == nil {
			entries, err = dump.Read(bytes.NewReader(text))
		}
		return entries, nil, err
	}
	return nil, args[:1], nil
}
