package systables

import (
	"fmt"

	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// catalogPrefix is what the keys of the catalog start with.
const catalogPrefix = migrations.Schema + ":table:"

// Catalog returns the definitions of all system tables in s, by name. It reads
// the catalog of any version. The error matches [store.ErrCorrupt] if a
// definition cannot be decoded.
func Catalog(s store.Reader) ([]Definition, error) {
	var catalog []Definition
	for e, err := range s.Scan(store.Scan{Prefix: []byte(catalogPrefix)}) {
		if err != nil {
			return nil, fmt.Errorf("read catalog: %w", err)
		}
		var d Definition
		if err := value.Unmarshal(e.Value, &d); err != nil {
			return nil, fmt.Errorf("read catalog: %w: definition of table %q: %w", store.ErrCorrupt, e.Key[len(catalogPrefix):], err)
		}
		catalog = append(catalog, d)
	}
	return catalog, nil
}
