// Package schema has the rules that all parts of kvmigrate follow for the names of
// schemas.
package schema

import (
	"fmt"
	"strings"
)

// Default is the schema that an empty name means.
const Default = "system"

const maxLen = 64

// Check reports why name cannot name a schema: it ends at the first ':' or '.' of a
// key.
func Check(name string) error {
	bad := strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
	if bad || name == "" || len(name) > maxLen || name[0] < 'a' {
		return fmt.Errorf("schema name %q: want a letter and then up to %d of a-z, 0-9, '_' and '-'", name, maxLen-1)
	}
	return nil
}
