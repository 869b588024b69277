// Package sample makes realistic rows for the system tables: for the demo and
// for tests. The rows are the same on every call.
package sample

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
)

// epoch is when the sample's history begins.
var epoch = time.Date(2025, 1, 15, 8, 0, 0, 0, time.UTC)

// The number of rows that Load inserts in each table.
const (
	Users       = 250
	Namespaces  = 12
	Tables      = 40
	Storages    = 4
	LiveQueries = 30
	Jobs        = 120
	AuditLogs   = 150
)

// Load inserts rows into every table of schema v1, in one transaction: hundreds
// of users, jobs in every state, and among them empty, longest and largest
// values and letters of many scripts. The store must hold none of them.
func Load(ctx context.Context, st store.Store) error {
	return store.Update(ctx, st, func(tx store.Txn) error {
		g := generator{rand.New(rand.NewPCG(1, 2))}
		for _, load := range []func(store.Txn) error{
			g.users, g.namespaces, g.tables, g.storages, g.liveQueries, g.jobs, g.auditLogs,
		} {
			if err := load(tx); err != nil {
				return fmt.Errorf("load sample rows: %w", err)
			}
		}
		return nil
	})
}

// insert inserts n rows into t.
func insert[K ~string, R any](tx store.Txn, t systables.Table[K, R], n int, row func(i int) R) error {
	for i := range n {
		if err := t.Insert(tx, row(i)); err != nil {
			return err
		}
	}
	return nil
}

type generator struct{ *rand.Rand }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

// at is a moment of the sample's first 300 days.
func (g generator) at() systables.Timestamp {
	return systables.At(epoch.Add(time.Duration(g.Int64N(int64(300 * 24 * time.Hour))).Truncate(time.Millisecond)))
}

// maybe returns v for three rows in four, and otherwise null.
func maybe[T any](g generator, v T) *T {
	if g.IntN(4) == 0 {
		return nil
	}
	return &v
}

func (g generator) uuid() string {
	a, b := g.Uint64(), g.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

var (
	firstNames = []string{"ada", "linus", "grace", "zoë", "søren", "chloé", "максим", "さくら", "李娜", "יעל", "ahmed", "priya"}
	lastNames  = []string{"nguyen", "o'hara", "müller", "garcía", "kowalski", "smith", "Đặng", "åberg", "de la cruz"}
)

func (g generator) users(tx store.Txn) error {
	return insert(tx, systables.Users, Users, func(i int) systables.User {
		created := g.at()
		u := systables.User{
			ID:           systables.UserID(g.uuid()),
			Username:     fmt.Sprintf("%s.%s.%d", pick(g, firstNames...), pick(g, lastNames...), i),
			PasswordHash: fmt.Sprintf("$2b$12$%022x%031x", g.Uint64(), g.Uint64()),
			Role:         pick(g, "user", "user", "user", "user", "service", "dba", "system"),
			Email:        maybe(g, fmt.Sprintf("user%d@example.com", i)),
			AuthType:     pick(g, "password", "password", "oauth", "internal"),
			StorageMode:  pick(g, "table", "region"),
			StorageID:    maybe(g, "local"),
			CreatedAt:    created,
			UpdatedAt:    created + systables.Timestamp(g.IntN(1e9)),
			LastSeen:     maybe(g, created+systables.Timestamp(g.IntN(1e9))),
		}
		if u.AuthType == "oauth" {
			data := fmt.Sprintf(`{"provider":"%s","subject":"%d"}`, pick(g, "github", "google"), g.Uint32())
			u.AuthData = &data
		}
		if i%17 == 0 {
			deleted := u.UpdatedAt
			u.DeletedAt = &deleted
		}
		switch i {
		case 0: // as little as a row can hold
			u = systables.User{ID: "00000000-0000-0000-0000-000000000000"}
		case 1: // as much
			latest := systables.Timestamp(math.MaxInt64)
			u.ID, u.CreatedAt, u.LastSeen = "ffffffff-ffff-ffff-ffff-ffffffffffff", math.MinInt64, &latest
		}
		return u
	})
}

func (g generator) namespaces(tx store.Txn) error {
	return insert(tx, systables.Namespaces, Namespaces, func(i int) systables.Namespace {
		count := int32(g.IntN(40))
		if i == 0 {
			count = math.MaxInt32
		}
		return systables.Namespace{
			ID:         systables.NamespaceID(fmt.Sprintf("ns_%02d", i)),
			Name:       pick(g, "sales", "télémétrie", "在庫", "app") + fmt.Sprint(i),
			CreatedAt:  g.at(),
			Options:    maybe(g, `{"retention_days":30}`),
			TableCount: count,
		}
	})
}

func (g generator) tables(tx store.Txn) error {
	return insert(tx, systables.Tables, Tables, func(i int) systables.TableRow {
		ns, name := fmt.Sprintf("ns_%02d", i%Namespaces), fmt.Sprintf("%s_%d", pick(g, "events", "orders", "messages"), i)
		created := g.at()
		return systables.TableRow{
			ID: systables.TableID(ns + ":" + name), Name: name, Namespace: ns,
			Type: pick(g, "USER", "SHARED", "STREAM"), CreatedAt: created,
			SchemaVersion: 1 + int32(g.IntN(9)), Comment: maybe(g, "rows of "+name), UpdatedAt: created,
		}
	})
}

func (g generator) storages(tx store.Txn) error {
	return insert(tx, systables.Storages, Storages, func(i int) systables.Storage {
		kind := []string{"filesystem", "s3", "azure", "gcs"}[i]
		return systables.Storage{
			ID: systables.StorageID(kind), Name: "Storage on " + kind, Description: maybe(g, ""), Type: kind,
			BaseDirectory: "data/" + kind, Credentials: maybe(g, "enc:"+g.uuid()),
			SharedTablesTemplate: "{namespace}/{table}", UserTablesTemplate: "{namespace}/{user}/{table}",
			CreatedAt: g.at(), UpdatedAt: g.at(),
		}
	})
}

func (g generator) liveQueries(tx store.Txn) error {
	return insert(tx, systables.LiveQueries, LiveQueries, func(i int) systables.LiveQuery {
		user, conn, table, query := g.uuid(), fmt.Sprintf("c%d", g.IntN(1000)), fmt.Sprintf("orders_%d", i), fmt.Sprintf("q%d", i)
		changes := g.Int64N(1e6)
		if i == 0 {
			changes = math.MaxInt64
		}
		return systables.LiveQuery{
			ID: systables.LiveID(user + "-" + conn + "-" + table + "-" + query), ConnectionID: conn,
			NamespaceID: fmt.Sprintf("ns_%02d", i%Namespaces), TableName: table, QueryID: query, UserID: user,
			Query: "SELECT * FROM " + table + " WHERE city = 'Zürich'", Options: maybe(g, `{"last_rows":50}`),
			CreatedAt: g.at(), LastUpdate: g.at(), Changes: changes, Node: fmt.Sprintf("node-%d", g.IntN(3)),
		}
	})
}

func (g generator) jobs(tx store.Txn) error {
	return insert(tx, systables.Jobs, Jobs, func(i int) systables.Job {
		created := g.at()
		started, completed := created+systables.Timestamp(g.IntN(1e4)), created+systables.Timestamp(1e4+g.IntN(1e6))
		j := systables.Job{
			ID: systables.JobID(fmt.Sprintf("job-%06d", i)), Type: pick(g, "flush", "retention", "cleanup"),
			NamespaceID: fmt.Sprintf("ns_%02d", i%Namespaces), TableName: maybe(g, fmt.Sprintf("orders_%d", i)),
			Status:     []string{"pending", "running", "completed", "failed", "cancelled"}[i%5],
			Parameters: maybe(g, fmt.Sprintf(`{"batch":%d}`, g.IntN(1000))), CreatedAt: created,
			NodeID: fmt.Sprintf("node-%d", g.IntN(3)),
		}
		if j.Status != "pending" {
			j.StartedAt = &started
		}
		switch j.Status {
		case "completed":
			result, memory, cpu := fmt.Sprintf("%d rows", g.IntN(1e6)), g.Int64N(1<<30), g.Int64N(1<<30)
			j.CompletedAt, j.Result, j.MemoryUsed, j.CPUUsed = &completed, &result, &memory, &cpu
		case "failed":
			text, trace := "écriture refusée: no space left on device", "flush.go:42\nworker.go:17"
			j.CompletedAt, j.ErrorMessage, j.Trace = &completed, &text, &trace
		case "cancelled":
			j.CompletedAt = &completed
		}
		return j
	})
}

func (g generator) auditLogs(tx store.Txn) error {
	return insert(tx, systables.AuditLogs, AuditLogs, func(i int) systables.AuditLog {
		return systables.AuditLog{
			ID: systables.AuditID(fmt.Sprintf("audit-%06d", i)), Timestamp: g.at(), ActorUserID: g.uuid(),
			ActorUsername: pick(g, firstNames...), Action: pick(g, "user.create", "user.delete", "table.alter", "login"),
			Target: pick(g, "system.users", "ns_01:orders_1", ""), Details: maybe(g, `{"reason":"règle n° 4","ok":true}`),
			IPAddress: maybe(g, fmt.Sprintf("10.0.%d.%d", g.IntN(256), g.IntN(256))),
		}
	})
}
