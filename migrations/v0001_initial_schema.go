package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations/catalogv1"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/tuple"
	"github.com/kvmigrate/kvmigrate/store/value"
)

func init() {
	migrate.Register(migrate.Migration{
		Version:     1,
		Name:        "initial_schema",
		Description: "creating 7 system tables",
		Up:          up0001,
	})
}

// up0001 creates the seven tables. Users that are there already, in a store from
// before schemas had versions, enter the index on username.
func up0001(_ context.Context, tx *migrate.Tx) error {
	for _, t := range tables0001 {
		if err := catalogv1.Create(tx, t); err != nil {
			return err
		}
	}
	return indexUsernames0001(tx)
}

func indexUsernames0001(tx *migrate.Tx) error {
	index := store.MustPartition("system.users.username")
	users := store.MustPartition("system.users")
	for e, err := range tx.Scan(store.Scan{Prefix: users.Prefix()}) {
		if err != nil {
			return err
		}
		var user struct {
			Username string `cbor:"username"`
		}
		if err := value.Unmarshal(e.Value, &user); err != nil {
			return fmt.Errorf("row of system.users: %w", err)
		}
		id, _ := users.Cut(e.Key)
		ref, err := value.Marshal(string(id))
		if err != nil {
			return err
		}
		key := index.Key(tuple.AppendString(nil, user.Username))
		if _, err := tx.Get(key); !errors.Is(err, store.ErrNotFound) {
			return errors.Join(errors.New("two users have one username"), err)
		}
		if err := tx.Set(store.Entry{Key: key, Value: ref, ExpiresAt: e.ExpiresAt}); err != nil {
			return err
		}
	}
	return nil
}

var tables0001 = []catalogv1.Table{
	{
		Name: "users", Comment: "System users for authentication and authorization", Version: 1,
		PrimaryKey: []string{"user_id"},
		Columns: []catalogv1.Column{
			{Name: "user_id", Type: "Text", Comment: "user identifier, UUID"},
			{Name: "username", Type: "Text", Comment: "unique"},
			{Name: "password_hash", Type: "Text", Comment: "bcrypt"},
			{Name: "role", Type: "Text", Comment: "user, service, dba, system"},
			{Name: "email", Type: "Text", Nullable: true},
			{Name: "auth_type", Type: "Text", Comment: "password, oauth, internal"},
			{Name: "auth_data", Type: "Text", Nullable: true, Comment: "JSON: provider, subject"},
			{Name: "storage_mode", Type: "Text", Comment: "preferred partitioning mode: table, region"},
			{Name: "storage_id", Type: "Text", Nullable: true},
			{Name: "created_at", Type: "Timestamp"},
			{Name: "updated_at", Type: "Timestamp"},
			{Name: "last_seen", Type: "Timestamp", Nullable: true},
			{Name: "deleted_at", Type: "Timestamp", Nullable: true, Comment: "soft delete"},
		},
		Indexes: []catalogv1.Index{{Name: "username", Columns: []string{"username"}, Unique: true}},
	},
	{
		Name: "namespaces", Comment: "Database namespaces for multi-tenancy", Version: 1,
		PrimaryKey: []string{"namespace_id"},
		Columns: []catalogv1.Column{
			{Name: "namespace_id", Type: "Text"},
			{Name: "name", Type: "Text"},
			{Name: "created_at", Type: "Timestamp"},
			{Name: "options", Type: "Text", Nullable: true, Comment: "JSON"},
			{Name: "table_count", Type: "Int"},
		},
		Indexes: []catalogv1.Index{},
	},
	{
		Name: "tables", Comment: "Tables of every namespace", Version: 1,
		PrimaryKey: []string{"table_id"},
		Columns: []catalogv1.Column{
			{Name: "table_id", Type: "Text", Comment: "namespace_id:table_name"},
			{Name: "table_name", Type: "Text"},
			{Name: "namespace", Type: "Text"},
			{Name: "table_type", Type: "Text", Comment: "USER, SHARED, STREAM, SYSTEM"},
			{Name: "created_at", Type: "Timestamp"},
			{Name: "schema_version", Type: "Int"},
			{Name: "table_comment", Type: "Text", Nullable: true},
			{Name: "updated_at", Type: "Timestamp"},
		},
		Indexes: []catalogv1.Index{},
	},
	{
		Name: "storages", Comment: "Storage configurations for data persistence", Version: 1,
		PrimaryKey: []string{"storage_id"},
		Columns: []catalogv1.Column{
			{Name: "storage_id", Type: "Text"},
			{Name: "storage_name", Type: "Text"},
			{Name: "description", Type: "Text", Nullable: true},
			{Name: "storage_type", Type: "Text", Comment: "filesystem, s3, azure, gcs"},
			{Name: "base_directory", Type: "Text"},
			{Name: "credentials", Type: "Text", Nullable: true, Comment: "encrypted JSON"},
			{Name: "shared_tables_template", Type: "Text"},
			{Name: "user_tables_template", Type: "Text"},
			{Name: "created_at", Type: "Timestamp"},
			{Name: "updated_at", Type: "Timestamp"},
		},
		Indexes: []catalogv1.Index{},
	},
	{
		Name: "live_queries", Comment: "Active WebSocket live query subscriptions", Version: 1,
		PrimaryKey: []string{"live_id"},
		Columns: []catalogv1.Column{
			{Name: "live_id", Type: "Text", Comment: "{user_id}-{connection_id}-{table}-{query_id}"},
			{Name: "connection_id", Type: "Text"},
			{Name: "namespace_id", Type: "Text"},
			{Name: "table_name", Type: "Text"},
			{Name: "query_id", Type: "Text"},
			{Name: "user_id", Type: "Text"},
			{Name: "query", Type: "Text", Comment: "SQL"},
			{Name: "options", Type: "Text", Nullable: true, Comment: "JSON"},
			{Name: "created_at", Type: "Timestamp"},
			{Name: "last_update", Type: "Timestamp"},
			{Name: "changes", Type: "BigInt", Comment: "changes pushed"},
			{Name: "node", Type: "Text"},
		},
		Indexes: []catalogv1.Index{},
	},
	{
		Name: "jobs", Comment: "Background jobs for database maintenance", Version: 1,
		PrimaryKey: []string{"job_id"},
		Columns: []catalogv1.Column{
			{Name: "job_id", Type: "Text"},
			{Name: "job_type", Type: "Text", Comment: "flush, retention, cleanup, …"},
			{Name: "namespace_id", Type: "Text"},
			{Name: "table_name", Type: "Text", Nullable: true},
			{Name: "status", Type: "Text", Comment: "pending, running, completed, failed, cancelled"},
			{Name: "parameters", Type: "Text", Nullable: true, Comment: "JSON"},
			{Name: "result", Type: "Text", Nullable: true},
			{Name: "trace", Type: "Text", Nullable: true},
			{Name: "memory_used", Type: "BigInt", Nullable: true, Comment: "bytes"},
			{Name: "cpu_used", Type: "BigInt", Nullable: true, Comment: "microseconds"},
			{Name: "created_at", Type: "Timestamp"},
			{Name: "started_at", Type: "Timestamp", Nullable: true},
			{Name: "completed_at", Type: "Timestamp", Nullable: true},
			{Name: "node_id", Type: "Text"},
			{Name: "error_message", Type: "Text", Nullable: true},
		},
		Indexes: []catalogv1.Index{},
	},
	{
		Name: "audit_logs", Comment: "Audit log of administrative actions", Version: 1,
		PrimaryKey: []string{"audit_id"},
		Columns: []catalogv1.Column{
			{Name: "audit_id", Type: "Text"},
			{Name: "timestamp", Type: "Timestamp"},
			{Name: "actor_user_id", Type: "Text"},
			{Name: "actor_username", Type: "Text"},
			{Name: "action", Type: "Text"},
			{Name: "target", Type: "Text"},
			{Name: "details", Type: "Text", Nullable: true, Comment: "JSON"},
			{Name: "ip_address", Type: "Text", Nullable: true},
		},
		Indexes: []catalogv1.Index{},
	},
}
