package cluster

import (
	"bytes"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// The protocol: each function is all that one transaction does. What makes them safe
// together is what they read, because of two transactions of which one writes what the
// other has read only one commits:
//
//   - all that a node does reads the version and the intent;
//   - all that a migrator does reads the lock of its turn, which whoever ends the turn
//     changes.

// supports reports whether n can work with a store at version, whose oldest programs
// that may write it are those of version floor.
func (n Node) supports(version, floor uint32) bool {
	return n.Min <= version && (version <= n.Max || floor <= n.Max)
}

// supported reports whether n can work with the store as it is.
func (k keys) supported(r store.Reader, n Node, version uint32) (bool, error) {
	if version <= n.Max {
		return n.supports(version, version), nil
	}
	floor, err := k.floor(r, version)
	return n.supports(version, floor), err
}

// admit reads, in the snapshot of a node's transaction, what decides about it, and
// returns the active version.
func (k keys) admit(r store.Reader, n Node) (uint32, error) {
	version, err := k.readVersion(r)
	if err != nil {
		return 0, err
	}
	in, err := k.readIntent(r)
	if err != nil {
		return 0, err
	}
	ok, err := k.supported(r, n, version)
	switch {
	case err != nil:
		return version, err
	case !ok:
		return version, &RangeError{Schema: k.schema, Version: version, Node: n}
	case in.closes(version):
		return version, &UpgradingError{Schema: k.schema, Version: version, Target: in.Target, Program: in.Program}
	}
	return version, nil
}

// register makes n one of the nodes, unless it does not support the active version or
// the one that is being introduced. It returns the active one.
func (k keys) register(txn store.Txn, n Node, beat uint64) (uint32, error) {
	version, err := k.readVersion(txn)
	if err != nil {
		return 0, err
	}
	in, stands, err := k.readUpgrade(txn, version)
	if err != nil {
		return 0, err
	}
	ok, err := k.supported(txn, n, version)
	switch {
	case err != nil:
		return version, err
	case !ok:
		return version, &RangeError{Schema: k.schema, Version: version, Node: n}
	case in != nil && !n.supports(in.Target, in.Floor):
		return version, &RangeError{Schema: k.schema, Version: version, Target: in.Target, Node: n, Program: in.Program}
	case in != nil && !stands:
		if err := k.setIntent(txn, *in); err != nil {
			return version, err
		}
	}
	data, err := n.encode()
	if err != nil {
		return version, err
	}
	if err := txn.Set(store.Entry{Key: k.nodeOf(n.ID), Value: data}); err != nil {
		return version, err
	}
	return version, k.setBeat(txn, n.ID, beat)
}

// renew gives a sign of life of n. A node that was taken for dead is registered anew,
// if it may be.
func (k keys) renew(txn store.Txn, n Node, beat uint64) (uint32, error) {
	data, err := get(txn, k.nodeOf(n.ID))
	switch {
	case err != nil:
		return 0, err
	case data == nil:
		return k.register(txn, n, beat)
	}
	// Read, so that an earlier sign of life which is late does not undo a later one.
	if _, err := get(txn, k.beatOf(n.ID)); err != nil {
		return 0, err
	}
	version, err := k.readVersion(txn)
	if err != nil {
		return 0, err
	}
	return version, k.setBeat(txn, n.ID, beat)
}

func (k keys) setBeat(txn store.Txn, id string, beat uint64) error {
	data, err := value.Marshal(beat)
	if err != nil {
		return err
	}
	return txn.Set(store.Entry{Key: k.beatOf(id), Value: data})
}

// remove makes the node with that ID none.
func (k keys) remove(txn store.Txn, id string) error {
	if err := txn.Delete(k.nodeOf(id)); err != nil {
		return err
	}
	return txn.Delete(k.beatOf(id))
}

// evict removes a node, unless it has given a sign of life since it was seen.
func (k keys) evict(txn store.Txn, n sighting) error {
	data, err := get(txn, k.nodeOf(n.ID))
	if err != nil || data == nil {
		return err
	}
	beat, err := get(txn, k.beatOf(n.ID))
	if err != nil || !bytes.Equal(beat, n.beat) {
		return err
	}
	return k.remove(txn, n.ID)
}

// announce says that in is coming: from now on nobody registers who does not support
// it. A store in which a migration is under way is closed by that already.
func (k keys) announce(txn store.Txn, in intent) error {
	p, err := k.readProgress(txn)
	if err != nil {
		return err
	}
	in.Closed = p != nil
	return k.setIntent(txn, in)
}

// shut closes the store to all nodes. A transaction of one that is open has read the
// intent as it was and can no longer commit, so that a migration sees all that was
// committed before it and nothing comes in between.
func (k keys) shut(txn store.Txn, in intent) error {
	in.Closed = true
	return k.setIntent(txn, in)
}

func (k keys) setIntent(txn store.Txn, in intent) error {
	data, err := value.Marshal(in)
	if err != nil {
		return err
	}
	return txn.Set(store.Entry{Key: k.intent, Value: data})
}

// withdraw takes the intent back, unless a migration is under way, from which there is
// no way back.
func (k keys) withdraw(txn store.Txn) error {
	p, err := k.readProgress(txn)
	if err != nil || p != nil {
		return err
	}
	data, err := get(txn, k.intent)
	if err != nil || data == nil {
		return err
	}
	return txn.Delete(k.intent)
}

// abandon takes back an intent whose migrator is dead, as far as one can tell who saw
// its turn unchanged for too long. If it is not, it finds its turn ended.
func (k keys) abandon(txn store.Txn, turn []byte) error {
	now, err := get(txn, k.turn)
	if err != nil || !bytes.Equal(now, turn) {
		return err
	}
	p, err := k.readProgress(txn)
	if err != nil || p != nil {
		return err
	}
	for _, key := range [][]byte{k.turn, k.lock, k.intent} {
		if err := txn.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
