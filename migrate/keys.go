package migrate

import (
	"bytes"
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrate/internal/schema"
)

// DefaultSchema is the schema that an empty Options.Schema means.
const DefaultSchema = schema.Default

// keys are the keys in which a schema keeps its own state.
type keys struct {
	version  []byte
	history  string // followed by the version in ten digits
	progress []byte
	lock     []byte
	turn     []byte
	intent   []byte
	node     string // followed by the ID of a node
	beat     string // followed by the ID of a node
	trail    string // followed by the number of the step in ten digits
	table    []byte // prefix of the table definitions
	reserved string // prefix of what only the runner writes
}

func newKeys(schema string) keys {
	return keys{
		version:  []byte(schema + ":schema_version"),
		history:  schema + ":schema_history:",
		progress: []byte(schema + ":schema_progress"),
		lock:     []byte(schema + ":schema_lock"),
		turn:     []byte(schema + ":schema_turn"),
		intent:   []byte(schema + ":schema_intent"),
		node:     schema + ":schema_node:",
		beat:     schema + ":schema_beat:",
		trail:    schema + ":schema_trail:",
		table:    []byte(schema + ":table:"),
		reserved: schema + ":schema_",
	}
}

func (k keys) historyOf(version uint32) []byte {
	return fmt.Appendf(nil, "%s%010d", k.history, version)
}

func (k keys) markOf(step uint64) []byte {
	return fmt.Appendf(nil, "%s%010d", k.trail, step)
}

// isRecord reports whether key is a record that a runner keeps, of whatever schema.
func isRecord(key []byte) bool {
	name, rest, ok := bytes.Cut(key, []byte(":schema_"))
	if !ok || checkSchema(string(name)) != nil {
		return false
	}
	switch string(rest) {
	case "version", "progress", "lock", "turn", "intent":
		return true
	}
	for _, prefix := range []string{"history:", "trail:", "node:", "beat:"} {
		if bytes.HasPrefix(rest, []byte(prefix)) {
			return true
		}
	}
	return false
}

// checkSchema reports why name cannot name a schema.
func checkSchema(name string) error { return schema.Check(name) }
