package systables

import (
	"time"

	"github.com/kvmigrate/kvmigrate/store/tuple"
)

// Each table's keys have a type of their own, so that a job's key cannot be taken
// for a user's.
type (
	// UserID is the primary key of Users, a UUID.
	UserID string
	// NamespaceID is the primary key of Namespaces.
	NamespaceID string
	// TableID is the primary key of Tables: "namespace_id:table_name".
	TableID string
	// StorageID is the primary key of Storages.
	StorageID string
	// LiveID is the primary key of LiveQueries:
	// "{user_id}-{connection_id}-{table}-{query_id}".
	LiveID string
	// JobID is the primary key of Jobs.
	JobID string
	// AuditID is the primary key of AuditLogs.
	AuditID string
	// MetricID is the primary key of Metrics.
	MetricID string
)

// Timestamp is a point in time in Unix milliseconds, UTC.
type Timestamp int64

// At returns the timestamp of t, cut to milliseconds.
func At(t time.Time) Timestamp { return Timestamp(t.UnixMilli()) }

// Time returns ts as a time in UTC.
func (ts Timestamp) Time() time.Time { return time.UnixMilli(int64(ts)).UTC() }

// JSON is the text of a JSON value.
type JSON string

// The tables. Their methods may be called concurrently, each within a
// transaction of its own.
var (
	Users = UserTable{newTable("users", 2, func(r User) UserID { return r.ID }, index[User]{
		name: "username", columns: []string{"username"}, unique: true,
		key: func(r User) []byte { return tuple.AppendString(nil, r.Username) },
	})}
	Namespaces  = newTable("namespaces", 1, func(r Namespace) NamespaceID { return r.ID }).under(namespaceRules)
	Tables      = newTable("tables", 1, func(r TableRow) TableID { return r.ID }).under(tableRules)
	Storages    = newTable("storages", 1, func(r Storage) StorageID { return r.ID })
	LiveQueries = newTable("live_queries", 1, func(r LiveQuery) LiveID { return r.ID })
	Jobs        = newTable("jobs", 3, func(r Job) JobID { return r.ID }, jobsIndexes...)
	AuditLogs   = newTable("audit_logs", 2, func(r AuditLog) AuditID { return r.ID }, index[AuditLog]{
		name: "timestamp", columns: []string{"timestamp", "audit_id"},
		key: func(r AuditLog) []byte {
			return tuple.AppendString(tuple.AppendInt(nil, int64(r.Timestamp)), string(r.ID))
		},
	})
	Metrics = newTable("metrics", 2, func(r Metric) MetricID { return r.ID }, index[Metric]{
		name: "recorded_at", columns: []string{"recorded_at", "metric_id"},
		key: func(r Metric) []byte {
			return tuple.AppendString(tuple.AppendInt(nil, int64(r.RecordedAt)), string(r.ID))
		},
	})
)

// The indexes of Jobs, in the order of the catalog.
const (
	jobsByStatus = iota
	jobsQueue
	jobsByKey
)

var jobsIndexes = []index[Job]{
	jobsByStatus: {
		name: "status", columns: []string{"status", "created_at", "job_id"},
		key: func(r Job) []byte {
			key := tuple.AppendInt(tuple.AppendString(nil, r.Status), int64(r.CreatedAt))
			return tuple.AppendString(key, string(r.ID))
		},
	},
	jobsQueue: {
		name: "queue", columns: []string{"not_before", "job_id"},
		key: func(r Job) []byte {
			if r.NotBefore == nil {
				return nil
			}
			return tuple.AppendString(tuple.AppendInt(nil, int64(*r.NotBefore)), string(r.ID))
		},
	},
	jobsByKey: {
		name: "idempotency_key", columns: []string{"idempotency_key"}, unique: true,
		key: func(r Job) []byte {
			if r.IdempotencyKey == nil {
				return nil
			}
			return tuple.AppendString(nil, *r.IdempotencyKey)
		},
	},
}

// User is a row of system.users.
type User struct {
	ID           UserID     `cbor:"user_id"`
	Username     string     `cbor:"username" text:"notempty"` // unique
	PasswordHash string     `cbor:"password_hash" secret:"true"`
	Role         string     `cbor:"role" values:"user,service,dba,system"`
	Email        *string    `cbor:"email,omitempty"`
	AuthType     string     `cbor:"auth_type" values:"password,oauth,internal"`
	AuthData     *string    `cbor:"auth_data,omitempty" text:"json"` // provider, subject
	StorageMode  string     `cbor:"storage_mode" values:"table,region"`
	StorageID    *string    `cbor:"storage_id,omitempty"`
	CreatedAt    Timestamp  `cbor:"created_at"`
	UpdatedAt    Timestamp  `cbor:"updated_at"`
	LastSeen     *Timestamp `cbor:"last_seen,omitempty"`
	DeletedAt    *Timestamp `cbor:"deleted_at,omitempty"` // see [UserTable.SoftDelete]

	FailedLoginAttempts int32      `cbor:"failed_login_attempts"`
	LockedUntil         *Timestamp `cbor:"locked_until,omitempty"`
	LastLoginAt         *Timestamp `cbor:"last_login_at,omitempty"`
}

// Namespace is a row of system.namespaces.
type Namespace struct {
	ID         NamespaceID `cbor:"namespace_id"`
	Name       string      `cbor:"name" text:"notempty"`
	CreatedAt  Timestamp   `cbor:"created_at"`
	Options    *string     `cbor:"options,omitempty" text:"json"`
	TableCount int32       `cbor:"table_count"` // kept by Tables: see there
}

// TableRow is a row of system.tables. Its ID is its Namespace, a colon and its Name,
// and the namespace must exist. Insert and Delete keep the namespace's TableCount,
// and a namespace that has tables cannot be deleted.
type TableRow struct {
	ID            TableID   `cbor:"table_id"`
	Name          string    `cbor:"table_name" text:"notempty"`
	Namespace     string    `cbor:"namespace" text:"notempty"`
	Type          string    `cbor:"table_type" values:"USER,SHARED,STREAM,SYSTEM"`
	CreatedAt     Timestamp `cbor:"created_at"`
	SchemaVersion int32     `cbor:"schema_version"`
	Comment       *string   `cbor:"table_comment,omitempty"`
	UpdatedAt     Timestamp `cbor:"updated_at"`
}

// Storage is a row of system.storages.
type Storage struct {
	ID                   StorageID `cbor:"storage_id"`
	Name                 string    `cbor:"storage_name" text:"notempty"`
	Description          *string   `cbor:"description,omitempty"`
	Type                 string    `cbor:"storage_type" values:"filesystem,s3,azure,gcs"`
	BaseDirectory        string    `cbor:"base_directory"`
	Credentials          *string   `cbor:"credentials,omitempty" secret:"true"` // encrypted JSON
	SharedTablesTemplate string    `cbor:"shared_tables_template"`
	UserTablesTemplate   string    `cbor:"user_tables_template"`
	CreatedAt            Timestamp `cbor:"created_at"`
	UpdatedAt            Timestamp `cbor:"updated_at"`
}

// LiveQuery is a row of system.live_queries.
type LiveQuery struct {
	ID           LiveID    `cbor:"live_id"`
	ConnectionID string    `cbor:"connection_id"`
	NamespaceID  string    `cbor:"namespace_id"`
	TableName    string    `cbor:"table_name"`
	QueryID      string    `cbor:"query_id"`
	UserID       string    `cbor:"user_id"`
	Query        string    `cbor:"query"` // SQL
	Options      *string   `cbor:"options,omitempty" text:"json"`
	CreatedAt    Timestamp `cbor:"created_at"`
	LastUpdate   Timestamp `cbor:"last_update"`
	Changes      int64     `cbor:"changes"` // changes pushed
	Node         string    `cbor:"node"`
}

// Job is a row of system.jobs. Package jobs writes it.
//
// MemoryUsed and CPUUsed are nil unless the job's executor has set them itself: what one
// job takes of a Go process cannot be told, because its goroutines share their heap,
// threads and garbage collector with all others. An executor that starts a process knows
// what that took.
type Job struct {
	ID           JobID      `cbor:"job_id"`
	Type         string     `cbor:"job_type" text:"notempty"` // flush, retention, cleanup, …
	NamespaceID  string     `cbor:"namespace_id"`
	TableName    *string    `cbor:"table_name,omitempty"`
	Status       string     `cbor:"status" values:"pending,running,completed,failed,cancelled"`
	Parameters   *string    `cbor:"parameters,omitempty" text:"json"`
	Result       *string    `cbor:"result,omitempty"`
	Trace        *string    `cbor:"trace,omitempty"`
	MemoryUsed   *int64     `cbor:"memory_used,omitempty"` // bytes
	CPUUsed      *int64     `cbor:"cpu_used,omitempty"`    // microseconds
	CreatedAt    Timestamp  `cbor:"created_at"`
	StartedAt    *Timestamp `cbor:"started_at,omitempty"`
	CompletedAt  *Timestamp `cbor:"completed_at,omitempty"`
	NodeID       string     `cbor:"node_id"`
	ErrorMessage *string    `cbor:"error_message,omitempty"`

	Attempts       int32      `cbor:"attempts"`                  // runs begun
	NotBefore      *Timestamp `cbor:"not_before,omitempty"`      // when a pending job may run; without it, it does not
	IdempotencyKey *string    `cbor:"idempotency_key,omitempty"` // unique
	RunToken       *string    `cbor:"run_token,omitempty"`       // of the run that may change a running job
	LeaseUntil     *Timestamp `cbor:"lease_until,omitempty"`     // when that run counts as dead
}

// AuditLog is a row of system.audit_logs.
type AuditLog struct {
	ID            AuditID   `cbor:"audit_id"`
	Timestamp     Timestamp `cbor:"timestamp"`
	ActorUserID   string    `cbor:"actor_user_id"`
	ActorUsername string    `cbor:"actor_username"`
	Action        string    `cbor:"action"`
	Target        string    `cbor:"target"`
	Details       *string   `cbor:"details,omitempty" text:"json"`
	IPAddress     *string   `cbor:"ip_address,omitempty"`
}

// Metric is a row of system.metrics.
type Metric struct {
	ID         MetricID  `cbor:"metric_id"`
	NodeID     string    `cbor:"node_id"`
	Name       string    `cbor:"name"`
	Value      float64   `cbor:"value"`
	Labels     *JSON     `cbor:"labels,omitempty"`
	RecordedAt Timestamp `cbor:"recorded_at"`
}
