package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrate/cluster"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/etcdcli"
	"github.com/kvmigrate/kvmigrate/store/etcdstore/internal/etcdtest"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kvmigrate": main, "kvmigrate-edit": edit, "kvmigrate-node": node, "kvmigrate-slow": slow, "kvmigrate-telling": telling})
}

// server starts a member with a cluster of its own and stops it at the end of the test.
func server(t *testing.T, configure func(*embed.Config)) (address string) {
	t.Helper()
	c := etcdtest.NewConfig(t.TempDir(), "alone")
	if configure != nil {
		configure(c)
	}
	member, address, err := etcdtest.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	return address
}

var prefixes atomic.Int64

// TestScripts runs the command as a process, with a server whose address is in ETCD. The
// variable STORE is the name of an empty store of the script's own. Beside those of
// testscript the scripts have these commands:
//
//	exits CODE kvmigrate ARG…   fails unless the exit code is CODE
//	load STORE FILE             writes the entries of a dump
//	await FILE                  waits until the file is there
//	tls                         makes ETCD a server that wants certificates, and writes ca.pem, client.pem and client-key.pem
//	full                        makes ETCD a server with a quota of 4 MiB, and writes rows.txt, of 10 MB
//	room                        starts it again with a larger one, and clears its alarm
//	users                       makes ETCD a server with the users root and app, who may only what is under app/
func TestScripts(t *testing.T) {
	shared := server(t, nil)
	full := small{config: etcdtest.NewConfig(t.TempDir(), "small")}
	t.Cleanup(full.stop)
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/cli",
		Setup: func(e *testscript.Env) error {
			useServer(e.Setenv, shared)
			e.Setenv("STORE", fmt.Sprintf("etcd:%s/scripts/%d", shared, prefixes.Add(1)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"load": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(ts.Exec("kvmigrate-edit", args...))
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(awaitFile(t.Context(), ts.MkAbs(args[0])))
			},
			"tls": func(ts *testscript.TestScript, _ bool, _ []string) {
				useServer(ts.Setenv, server(t, func(c *embed.Config) { ts.Check(wantCertificates(c, ts.MkAbs("."))) }))
			},
			"full": func(ts *testscript.TestScript, _ bool, _ []string) {
				address, err := full.start()
				ts.Check(err)
				useServer(ts.Setenv, address)
				var rows bytes.Buffer
				for i := range 10_000 {
					fmt.Fprintf(&rows, "%q hex:%02000x\n", fmt.Sprintf("notes/%04d", i), i)
				}
				ts.Check(os.WriteFile(ts.MkAbs("rows.txt"), rows.Bytes(), 0o600))
			},
			"room": func(ts *testscript.TestScript, _ bool, _ []string) {
				address, err := full.grow()
				ts.Check(err)
				useServer(ts.Setenv, address)
			},
			"users": func(ts *testscript.TestScript, _ bool, _ []string) {
				address := server(t, func(c *embed.Config) { c.BcryptCost = 4 }) // the least: no password is guessed here
				ts.Check(do(address, addUsers))
				useServer(ts.Setenv, address)
			},
		},
	})
}

// A small server has a quota that is soon used up.
type small struct {
	config *embed.Config
	member *embed.Etcd
}

func (s *small) start() (address string, err error) {
	s.config.QuotaBackendBytes = 4 << 20
	s.member, address, err = etcdtest.Start(s.config)
	return address, err
}

// grow starts it again, at an address that is free now, with a larger quota, and clears
// its alarm.
func (s *small) grow() (address string, err error) {
	s.stop()
	s.config.QuotaBackendBytes = 0 // 2 GiB
	if s.member, address, err = etcdtest.Start(s.config); err != nil {
		return "", err
	}
	return address, do(address, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
		return err
	})
}

func (s *small) stop() {
	if s.member != nil {
		s.member.Close()
	}
	s.member = nil
}

func useServer(setenv func(key, value string), address string) { setenv("ETCD", address) }

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
}

// do calls task with a client of the server.
func do(address string, task func(context.Context, *clientv3.Client) error) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return task(context.Background(), client)
}

// addUsers gives the server users, who log in from then on.
func addUsers(ctx context.Context, client *clientv3.Client) error {
	for _, do := range []func() (any, error){
		func() (any, error) { return client.RoleAdd(ctx, "root") },
		func() (any, error) { return client.UserAdd(ctx, "root", "rootword") },
		func() (any, error) { return client.UserGrantRole(ctx, "root", "root") },
		func() (any, error) { return client.RoleAdd(ctx, "app") },
		func() (any, error) {
			return client.RoleGrantPermission(ctx, "app", "app/", clientv3.GetPrefixRangeEnd("app/"), clientv3.PermissionType(clientv3.PermReadWrite))
		},
		func() (any, error) { return client.UserAdd(ctx, "app", "appword") },
		func() (any, error) { return client.UserGrantRole(ctx, "app", "app") },
		func() (any, error) { return client.AuthEnable(ctx) },
	} {
		if _, err := do(); err != nil {
			return err
		}
	}
	return nil
}

// awaitFile returns when the file is there, with an error when ctx ends before.
func awaitFile(ctx context.Context, name string) error {
	for {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// slow is kvmigrate with one more migration, which says that it has begun by the file
// "begun" and waits for the file "end".
func slow() {
	migrate.DefaultRegistry().Register(migrate.Migration{
		Version: migrate.DefaultRegistry().Latest() + 1, Name: "slow", Description: "waiting", Unreleased: true,
		Up: func(ctx context.Context, _ *migrate.Tx) error {
			return errors.Join(os.WriteFile("begun", nil, 0o600), awaitFile(ctx, "end"))
		},
	})
	main()
}

// node is a program of the release before, which uses the store that its argument names
// until there is a file "end". It makes the file "joined" once it is a node.
func node() {
	if err := beNode(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func beNode(ctx context.Context, name string) (err error) {
	st, err := etcdcli.Open(ctx, strings.TrimPrefix(name, "etcd:"), cli.OpenOptions{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	before := migrate.DefaultRegistry().Latest() - 1
	m, err := cluster.Join(ctx, st, cluster.Options{Schema: migrations.Schema, Name: "db-1", Program: "app v1.8.0", Min: before, Max: before, TTL: 6 * time.Second})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile("joined", nil, 0o600), awaitFile(ctx, "end"), m.Leave(ctx))
}

// edit writes the entries of a dump into a store. It is a process of its own, so that no
// other inherits the lock of a directory.
func edit() {
	if err := load(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func load(ctx context.Context, name, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	entries, err := dump.Read(bytes.NewReader(text))
	if err != nil {
		return err
	}
	open := func() (store.Store, error) { return badgerstore.Open(ctx, name, badgerstore.Options{}) }
	if rest, ok := strings.CutPrefix(name, "etcd:"); ok {
		open = func() (store.Store, error) { return etcdcli.Open(ctx, rest, cli.OpenOptions{}) }
	}
	st, err := open()
	if err != nil {
		return err
	}
	for len(entries) > 0 && err == nil {
		batch := entries[:min(100, len(entries))]
		entries = entries[len(batch):]
		err = store.Update(ctx, st, func(tx store.Txn) error {
			for _, e := range batch {
				if err := tx.Set(e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return errors.Join(err, st.Close())
}

// telling is kvmigrate that says on standard error when a transaction is about to begin.
func telling() {
	tell := func(open cli.Opener) cli.Opener {
		return func(ctx context.Context, name string, o cli.OpenOptions) (store.Store, error) {
			st, err := open(ctx, name, o)
			return told{st}, err
		}
	}
	cfg := tablescli.Config()
	cfg.Open = tell(func(ctx context.Context, dir string, o cli.OpenOptions) (store.Store, error) {
		return badgerstore.Open(ctx, dir, badgerstore.Options{Configure: badgerstore.Small, ReadOnly: o.ReadOnly, Logger: o.Logger})
	})
	cfg.Stores = map[string]cli.Opener{"etcd": tell(etcdcli.Open)}
	os.Exit(cli.Run(context.Background(), cfg, os.Args[1:], os.Stdout, os.Stderr))
}

type told struct{ store.Store }

// Limits are small, so that a copy takes several transactions.
func (s told) Limits() store.Limits {
	l := s.Store.Limits()
	l.TxnEntries = 20
	return l
}

func (s told) Update(ctx context.Context, fn func(store.Txn) error) error {
	fmt.Fprintln(os.Stderr, "transaction")
	return s.Store.Update(ctx, fn)
}

// kvmigrate runs a command and returns its standard output.
func kvmigrate(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cfg := tablescli.Config()
	cfg.Stores = map[string]cli.Opener{"etcd": etcdcli.Open}
	cfg.Badger.Configure = badgerstore.Small
	if code := cli.Run(t.Context(), cfg, args, &stdout, &stderr); code != cli.ExitDone {
		t.Fatalf("kvmigrate %s: exit code %d\n%s", strings.Join(args, " "), code, stderr.Bytes())
	}
	return stdout.String()
}

// fillDir makes dir a store of the latest system schema with the rows of the old stores'
// golden file, but for what etcd does not keep.
func fillDir(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile("../../../../testdata/stores/v0006.after.txt")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := dump.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	for _, e := range entries {
		e.ExpiresAt, e.Meta = 0, 0
		fmt.Fprintf(&plain, "%q hex:%x\n", e.Key, e.Value)
	}
	for i := range 150 { // beside a table, as a program's own
		fmt.Fprintf(&plain, "%q hex:%x\n", fmt.Sprintf("notes/%04d", i), fmt.Sprintf("note %d", i))
	}
	file := filepath.Join(t.TempDir(), "rows.txt")
	if err := os.WriteFile(file, plain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := load(t.Context(), dir, file); err != nil {
		t.Fatal(err)
	}
}

// killed runs a command as a process that is killed after some transactions, and reports
// whether it was.
func killed(t *testing.T, transactions int, args ...string) bool {
	t.Helper()
	exe, err := exec.LookPath("kvmigrate-telling")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	buf := make([]byte, 1)
	for bytes.Count(seen.Bytes(), []byte("transaction\n")) < transactions {
		if _, err := io.ReadFull(stderr, buf); err != nil {
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%s: %v\n%s", args[0], err, seen.Bytes())
			}
			return false
		}
		seen.Write(buf)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	return true
}
