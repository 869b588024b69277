package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/cli"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/tablescli"
)

// fill puts the rows into the tables that the examples show.
func fill(tx store.Txn) error {
	const second = 1000
	at := systables.Timestamp(1736942400000) // 2025-01-15T12:00:00Z
	text := func(s string) *string { return &s }
	later := at + 90*second
	return errors.Join(
		systables.Users.Put(tx,
			systables.User{
				ID: "u1", Username: "ada", PasswordHash: "$2b$12$R9h/cIPz0gi.URNNX3kh2O", Role: "dba", Email: text("ada@example.com"),
				AuthType: "password", StorageMode: "table", CreatedAt: at, UpdatedAt: at, LastSeen: &later,
			},
			systables.User{
				ID: "u2", Username: "李娜", Role: "user", AuthType: "oauth", AuthData: text(`{"provider": "example", "subject": "7"}`),
				StorageMode: "table", CreatedAt: later, UpdatedAt: later,
			}),
		systables.Storages.Insert(tx, systables.Storage{
			ID: "archive", Name: "Archive", Type: "s3", BaseDirectory: "s3://example-archive", Credentials: text("c2VjcmV0"),
			SharedTablesTemplate: "{namespace}/{table}", UserTablesTemplate: "{namespace}/{table}/{user}", CreatedAt: at, UpdatedAt: at,
		}),
		systables.AuditLogs.Put(tx,
			systables.AuditLog{ID: "a1", Timestamp: at, ActorUserID: "u1", ActorUsername: "ada", Action: "user.create", Target: "u2"},
			systables.AuditLog{ID: "a2", Timestamp: later, ActorUserID: "u1", ActorUsername: "ada", Action: "table.alter", Target: "app:notes", Details: text(`{"columns": ["title"]}`)}),
		systables.Jobs.Put(tx,
			systables.Job{ID: "j1", Type: "retention", NamespaceID: "system", Status: "completed", CreatedAt: at, StartedAt: &at, CompletedAt: &later, NodeID: "node-1", Attempts: 1},
			systables.Job{ID: "j2", Type: "flush", NamespaceID: "system", Status: "pending", Parameters: text(`{"table": "audit_logs"}`), CreatedAt: later, NotBefore: &later, NodeID: "node-1"}),
	)
}

// looks are the words and the commands of the page's first part.
var looks = []struct {
	text     string
	commands []string
}{
	{"`kvmigrate tables` and `table` say what there is. They show a store of any version as it is, and do not write it. Nothing that a store holds acts on the terminal.", []string{
		"tables", "table storages",
	}},
	{"`get` shows one row by its primary key, or by a column that has a unique index. Secret columns are masked, and so is each column that the program does not know.", []string{
		"get users u1", "get users --by username nobody",
	}},
	{"`--show-secrets` shows what is masked, `--json` all of a row for programs.", []string{
		"get storages archive --json", "get storages archive --json --show-secrets",
	}},
	{"`scan` shows many rows, each on a line of at most 80 columns (`--wide`: of any length), without what is null or masked.", []string{
		"scan users", "scan users --prefix u2 --wide",
	}},
	{"With `--since`, `--until` or `--by` rows come in the order of a time, through an index if there is one. A time can be how long ago it is: `--since 36h`, `--since 7d`.", []string{
		"scan audit_logs --since 2025-01-15T12:01:00Z", "scan jobs --by created_at --reverse --limit 1", "scan jobs --by completed_at --json",
	}},
}

// look runs the commands over the store in dir, and returns the page's first part.
func look(ctx context.Context, dir string) (string, error) {
	cfg := cli.Config{Name: "kvmigrate", Options: migrate.Options{Schema: migrations.Schema}, Commands: tablescli.Commands}
	var b strings.Builder
	b.WriteString("## Looking at them\n\n")
	for _, l := range looks {
		fmt.Fprintf(&b, "%s\n\n```console\n", l.text)
		for _, command := range l.commands {
			fmt.Fprintf(&b, "$ kvmigrate --store data %s\n", command)
			var out bytes.Buffer
			code := cli.Run(ctx, cfg, append([]string{"--store", dir}, strings.Fields(command)...), &out, &out)
			if code != cli.ExitDone && code != cli.ExitFailed {
				return "", fmt.Errorf("%s: exit code %d: %s", command, code, &out)
			}
			b.Write(out.Bytes())
		}
		b.WriteString("```\n\n")
	}
	return b.String(), nil
}
