package migrate

import (
	"bytes"
	"crypto/rand"
	"errors"

	"github.com/kvmigrate/kvmigrate/migrate/internal/turn"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// lockRecord is the value of a schema's lock: which run may commit steps of the
// migration under way. It is there exactly while the progress is or, in a store that
// several processes share, somebody's turn.
type lockRecord struct {
	Token   []byte `cbor:"token"` // random bytes, new in each run
	Program string `cbor:"program"`
}

const tokenBytes = 16

// newLock makes up what the lock holds while this run is the one to commit.
func (r *Runner) newLock() ([]byte, error) {
	return value.Marshal(lockRecord{Token: newToken(), Program: r.programName()})
}

func newToken() []byte {
	token := make([]byte, tokenBytes)
	_, _ = rand.Read(token) // never fails
	return token
}

// takeLock makes this run the one to commit. A transaction of another run that
// is still open has read the lock and can no longer commit. In a turn the lock is
// taken with that.
func (u *run) takeLock(txn store.Txn) (err error) {
	if u.inTurn {
		return nil
	}
	if u.lock == nil {
		if u.lock, err = u.newLock(); err != nil {
			return err
		}
	}
	e, err := txn.Get(u.keys.lock)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && bytes.Equal(e.Value, u.lock) {
		return nil
	}
	return u.keep(txn, u.keys.lock, u.lock)
}

// errAgain: what is stored is not what this run assumed.
var errAgain = turn.ErrAgain

// fence refuses a transaction that does not see this run in charge of the
// migration. What it reads, a rival must write.
func (u *run) fence(txn store.Txn) error {
	version, _, err := u.readVersion(txn)
	if err != nil {
		return err
	}
	if version != u.m.from() {
		return errAgain
	}
	if u.inTurn {
		return nil // its store has looked
	}
	e, err := txn.Get(u.keys.lock)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return errAgain
	case err != nil:
		return err
	case !bytes.Equal(e.Value, u.lock):
		return errAgain
	}
	return nil
}
