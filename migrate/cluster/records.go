package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// keys are the records of a schema that this package reads and writes.
type keys struct {
	schema                                string
	version, progress, turn, lock, intent []byte
	history                               string // followed by the version in ten digits
	node, beat                            string // followed by the ID of the node
}

func newKeys(schema string) keys {
	key := func(name string) []byte { return []byte(schema + ":schema_" + name) }
	return keys{
		schema:  schema,
		version: key("version"), progress: key("progress"), turn: key("turn"), lock: key("lock"), intent: key("intent"),
		history: string(key("history:")), node: string(key("node:")), beat: string(key("beat:")),
	}
}

func (k keys) nodeOf(id string) []byte { return []byte(k.node + id) }
func (k keys) beatOf(id string) []byte { return []byte(k.beat + id) }

// nodeRecord is the value of a node's registration.
type nodeRecord struct {
	Name    string `cbor:"name"`
	Program string `cbor:"program"`
	Min     uint32 `cbor:"min"`
	Max     uint32 `cbor:"max"`
	Since   int64  `cbor:"since"` // Unix milliseconds
	TTL     int64  `cbor:"ttl"`   // milliseconds that its beat may stand unchanged
}

func (n Node) encode() ([]byte, error) {
	return value.Marshal(nodeRecord{
		Name: n.Name, Program: n.Program, Min: n.Min, Max: n.Max,
		Since: n.Since.UnixMilli(), TTL: n.TTL.Milliseconds(),
	})
}

func decodeNode(id string, data []byte) (Node, error) {
	var r nodeRecord
	if err := value.Unmarshal(data, &r); err != nil {
		return Node{}, err
	}
	return Node{
		ID: id, Name: r.Name, Program: r.Program, Min: r.Min, Max: r.Max,
		Since: time.UnixMilli(r.Since).UTC(), TTL: time.Duration(r.TTL) * time.Millisecond,
	}, nil
}

// An intent says which version is being introduced. Only who has the turn to migrate
// writes it, or who finds a migration under way without one.
type intent struct {
	Target  uint32 `cbor:"target"`
	Floor   uint32 `cbor:"floor"`   // the oldest version whose programs may write a store at Target
	Program string `cbor:"program"` // that introduces it
	Closed  bool   `cbor:"closed"`  // whether migrations may run, so that no node may read or write
}

// closes reports whether a store at version is closed to nodes. An intent that has
// been carried out is nothing but a leftover.
func (in *intent) closes(version uint32) bool {
	return in != nil && in.Closed && in.Target > version
}

// underWay is what of the progress of a migration concerns a node.
type underWay struct {
	Version uint32 `cbor:"version"`
	Name    string `cbor:"name"`
	Program string `cbor:"program"`
}

// CheckRecord returns an error that matches [store.ErrCorrupt] if key is that of a
// node's registration, of its sign of life, or of the intent of that schema, and data is
// not one.
func CheckRecord(schema string, key, data []byte) error {
	k, name := newKeys(schema), string(key)
	switch {
	case name == string(k.intent):
		if err := value.Unmarshal(data, new(intent)); err != nil {
			return k.corrupt("the intent to upgrade it", err)
		}
	case strings.HasPrefix(name, k.node):
		if _, err := decodeNode("", data); err != nil {
			return k.corrupt("the registration of a node", err)
		}
	case strings.HasPrefix(name, k.beat):
		if err := value.Unmarshal(data, new(uint64)); err != nil {
			return k.corrupt("the sign of life of a node", err)
		}
	}
	return nil
}

// get returns the value of key, nil if there is none.
func get(r store.Reader, key []byte) ([]byte, error) {
	e, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return e.Value, err
}

func (k keys) readVersion(r store.Reader) (uint32, error) {
	data, err := get(r, k.version)
	switch {
	case err != nil || data == nil:
		return 0, err
	case len(data) != 4:
		return 0, k.corrupt("its version", fmt.Errorf("%d bytes instead of 4", len(data)))
	}
	return binary.BigEndian.Uint32(data), nil
}

// readIntent returns nil if none stands.
func (k keys) readIntent(r store.Reader) (*intent, error) {
	data, err := get(r, k.intent)
	if err != nil || data == nil {
		return nil, err
	}
	in := new(intent)
	if err := value.Unmarshal(data, in); err != nil {
		return nil, k.corrupt("the intent to upgrade it", err)
	}
	return in, nil
}

// readProgress returns nil if no migration is under way. What cannot be read is
// under way, too: a store that is being restored has such a record.
func (k keys) readProgress(r store.Reader) (*underWay, error) {
	data, err := get(r, k.progress)
	if err != nil || data == nil {
		return nil, err
	}
	p := new(underWay)
	if value.Unmarshal(data, p) != nil {
		return new(underWay), nil
	}
	return p, nil
}

// readUpgrade returns the intent that has not been carried out, nil if there is none.
// stands says whether it is stored: a migration that was interrupted in a store which
// was not shared, and was copied, has none, and is one that nobody is told of yet.
func (k keys) readUpgrade(r store.Reader, version uint32) (in *intent, stands bool, err error) {
	in, err = k.readIntent(r)
	if err != nil || in != nil && in.Target > version {
		return in, true, err
	}
	p, err := k.readProgress(r)
	if err != nil || p == nil || p.Version <= version {
		return nil, false, err
	}
	return &intent{Target: p.Version, Floor: p.Version, Program: p.Program, Closed: true}, false, nil
}

// floor returns the oldest version whose programs may write a store at version,
// according to its history; version itself if that says nothing else.
func (k keys) floor(r store.Reader, version uint32) (uint32, error) {
	data, err := get(r, fmt.Appendf(nil, "%s%010d", k.history, version))
	if err != nil || data == nil {
		return version, err
	}
	var applied struct {
		WritableFrom uint32 `cbor:"writable_from"`
	}
	if err := value.Unmarshal(data, &applied); err != nil {
		return 0, k.corrupt(fmt.Sprintf("the history record of v%d", version), err)
	}
	if applied.WritableFrom == 0 {
		return version, nil
	}
	return applied.WritableFrom, nil
}

// A sighting is a node as one snapshot shows it.
type sighting struct {
	Node
	beat []byte
}

// readNodes returns all registered nodes, in the order of their IDs.
func (k keys) readNodes(r store.Reader) ([]sighting, error) {
	var nodes []sighting
	for e, err := range r.Scan(store.Scan{Prefix: []byte(k.node)}) {
		if err != nil {
			return nil, err
		}
		id := strings.TrimPrefix(string(e.Key), k.node)
		n, err := decodeNode(id, e.Value)
		if err != nil {
			return nil, k.corrupt(fmt.Sprintf("the registration of node %q", id), err)
		}
		nodes = append(nodes, sighting{Node: n})
	}
	for i := range nodes {
		var err error
		if nodes[i].beat, err = get(r, k.beatOf(nodes[i].ID)); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (k keys) corrupt(what string, err error) error {
	return fmt.Errorf("%s schema: %w: %s cannot be read: %w", k.schema, store.ErrCorrupt, what, err)
}
