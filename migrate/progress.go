package migrate

import "github.com/kvmigrate/kvmigrate/store/value"

// progress is the record of a migration under way.
type progress struct {
	Version uint32 `cbor:"version"`
	Name    string `cbor:"name"`
}

func decodeProgress(data []byte) (progress, error) {
	var p progress
	err := value.Unmarshal(data, &p)
	return p, err
}
