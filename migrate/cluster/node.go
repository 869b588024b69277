package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/certain"
	"github.com/kvmigrate/kvmigrate/migrate/internal/pulse"
	"github.com/kvmigrate/kvmigrate/migrate/internal/schema"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

// A Node is a process that uses a store together with others.
type Node struct {
	// ID is what Join made up for it: 16 hexadecimal digits.
	ID string

	// Name says which one it is, for people, and Program what runs there.
	Name, Program string

	// Min and Max are the first and the last schema version that it supports. It
	// supports later ones, too, whose migrations say so (WritableFrom).
	Min, Max uint32

	// Since is when it joined, by its own clock; UTC, milliseconds.
	Since time.Time

	// TTL is how long it may give no sign of life before it is taken for dead.
	TTL time.Duration
}

// String names the node, for people.
func (n Node) String() string {
	return fmt.Sprintf("%s (%s, supports v%d to v%d)", n.Name, n.Program, n.Min, n.Max)
}

// Options say what joins. Only Max must be set.
type Options struct {
	// Schema is the schema that the node uses. Empty means "system".
	Schema string

	// Name is what people know the node by. Empty means the name of the host.
	Name string

	// Program is the program and its version, as in migrate.Options.
	Program string

	// Min and Max are the first and the last schema version that the program can
	// work with. Min 0 means Max.
	Min, Max uint32

	// TTL is how long the node may give no sign of life before it is taken for dead
	// and no longer holds back an upgrade. 0 means ten seconds; nodes of one store
	// may have different ones.
	TTL time.Duration

	// Logger receives what happens to the node. Nil means slog.Default.
	Logger *slog.Logger
}

const defaultTTL = 10 * time.Second

// A Member is this process as one of the nodes of a store. Its methods may be called
// concurrently.
type Member struct {
	node     Node
	keys     keys
	store    store.Store // below the gate
	clock    clock
	log      *slog.Logger
	beat     uint64   // of the last sign of life; only one goroutine uses it
	migrator migrator // that it sees at work; as beat

	mu      sync.Mutex
	version uint32
	err     error
	out     chan struct{} // closed once err is set

	stop    context.CancelFunc
	stopped chan struct{} // closed once no more signs of life are given
}

// Join makes this process a node of st, which gives signs of life until Leave. The
// node takes part in what is decided about upgrades: as long as it lives, the schema
// does not go beyond what it supports.
//
// The node has to do all its work through the [Member.Store], and none through st; only
// who migrates takes st itself.
//
// Join waits while it is not yet decided whether the store is to be upgraded, and for
// an upgrade by a process that has died to be taken back. The error is a
// [*RangeError] if the node supports not the active version, or not the one that the
// store is being brought to. In a store that has no version yet nobody can join: call
// migrate.Up before Join.
func Join(ctx context.Context, st store.Store, o Options) (*Member, error) {
	m, err := newMember(st, o)
	if err != nil {
		return nil, err
	}
	if err := m.join(ctx); err != nil {
		return nil, err
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	go func() {
		defer close(m.stopped)
		m.live(beating)
	}()
	return m, nil
}

func newMember(st store.Store, o Options) (*Member, error) {
	if o.Schema == "" {
		o.Schema = schema.Default
	}
	if err := schema.Check(o.Schema); err != nil {
		return nil, fmt.Errorf("join a store: %w", err)
	}
	if o.Min == 0 {
		o.Min = o.Max
	}
	if o.Max == 0 || o.Min > o.Max {
		return nil, fmt.Errorf("join a store: a node that supports v%d to v%d: want versions from v1 on", o.Min, o.Max)
	}
	if o.TTL < 0 || o.TTL > 0 && o.TTL < time.Millisecond*polls {
		return nil, fmt.Errorf("join a store: a TTL of %v: want at least %v", o.TTL, time.Millisecond*polls)
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	// A record with bytes that are no UTF-8 can be written, and not read again.
	o.Name, o.Program = strings.ToValidUTF8(o.Name, "\uFFFD"), strings.ToValidUTF8(o.Program, "\uFFFD")
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	return &Member{
		node: Node{
			ID: hex.EncodeToString(id), Name: cmp.Or(o.Name, "unnamed"), Program: cmp.Or(o.Program, "unknown program"),
			Min: o.Min, Max: o.Max, Since: time.Now().UTC().Truncate(time.Millisecond), TTL: cmp.Or(o.TTL, defaultTTL),
		},
		keys: newKeys(o.Schema), store: st, clock: wallClock{}, log: o.Logger,
		out: make(chan struct{}), stopped: make(chan struct{}),
	}, nil
}

// Node returns what the others know of this one.
func (m *Member) Node() Node { return m.node }

// Store returns the store that the node does its work through; see package's documentation
func (m *Member) Store() store.Store { return gated{m.store, m} }

// Version returns the active version as the node last saw it. A transaction has its
// own: see [Version].
func (m *Member) Version() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version
}

// Done is closed once the node supports the active version no more, or has left. The
// first happens only to one that was taken for dead, as after a long pause.
func (m *Member) Done() <-chan struct{} { return m.out }

// Err returns nil until Done is closed, and then a [*RangeError], or an error that
// matches [ErrLeft].
func (m *Member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// ErrLeft means that the node has left.
var ErrLeft = errors.New("node has left")

// Leave ends the signs of life and takes the node off the list. All its work must be
// done. One that could not be taken off holds back an upgrade for its TTL.
func (m *Member) Leave(ctx context.Context) error {
	if m.stop != nil {
		m.stop()
		<-m.stopped
	}
	m.end(fmt.Errorf("%s schema: %w", m.keys.schema, ErrLeft))
	err := certain.Update(ctx, m.store, func(txn store.Txn) error { return m.keys.remove(txn, m.node.ID) })
	if err != nil {
		return fmt.Errorf("%s schema: leave: %w", m.keys.schema, err)
	}
	return nil
}

// end sets err, unless the node is out already.
func (m *Member) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
		close(m.out)
	}
}

// sees notes the active version.
func (m *Member) sees(version uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version = max(m.version, version)
}

// join registers the node.
func (m *Member) join(ctx context.Context) error {
	for {
		err := m.sign(ctx, m.keys.register)
		refused, ok := errors.AsType[*RangeError](err)
		switch {
		case err == nil:
			return nil
		case !ok:
			return fmt.Errorf("%s schema: join: %w", m.keys.schema, err)
		case refused.Target == 0:
			return err
		}
		state, err := m.upgrade(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("%s schema: join: %w", m.keys.schema, err)
		case state == stuck, state == migrating:
			refused.Stuck = state == stuck
			return refused
		case state == undecided:
			if err := m.clock.Sleep(ctx, m.node.TTL/polls); err != nil {
				return fmt.Errorf("%w: %w", err, refused)
			}
		}
	}
}

// live gives signs of life until ctx ends or the node is out.
func (m *Member) live(ctx context.Context) {
	for m.clock.Sleep(ctx, m.node.TTL/3) == nil {
		err := m.look(ctx)
		switch {
		case m.Err() != nil:
			m.log.ErrorContext(ctx, m.Err().Error())
			return
		case err != nil && ctx.Err() == nil:
			m.log.WarnContext(ctx, fmt.Sprintf("%s schema: node %s could not give a sign of life, and tries again: %v", m.keys.schema, m.node.Name, err))
		}
	}
}

// look gives one sign of life, and sees to it that no dead migrator keeps the node
// from working.
func (m *Member) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.node.TTL)
	defer cancel()
	err := m.sign(ctx, m.keys.renew)
	if refused, ok := errors.AsType[*RangeError](err); ok && refused.Target == 0 {
		m.end(err)
		return err
	}
	_, upgradeErr := m.upgrade(ctx)
	return errors.Join(err, upgradeErr)
}

// sign gives a sign of life by do.
func (m *Member) sign(ctx context.Context, do func(store.Txn, Node, uint64) (uint32, error)) error {
	m.beat++ // also after one that failed, which may be there
	var version uint32
	err := certain.Update(ctx, m.store, func(txn store.Txn) (err error) {
		version, err = do(txn, m.node, m.beat)
		return err
	})
	if err == nil {
		m.sees(version)
	}
	return err
}

// An upgradeState is what a node has to do with an upgrade that stands in its way.
type upgradeState int

const (
	none      upgradeState = iota // there is none, or none any more
	undecided                     // it may still be given up, or its migrator may be dead
	migrating                     // it is carried out
	stuck                         // it was begun and nobody is at work on it
	abandoned                     // its migrator is dead and has done nothing yet
)

// upgrade looks at the upgrade that stands, and takes it back if its migrator is dead
// and has done nothing yet.
func (m *Member) upgrade(ctx context.Context) (state upgradeState, err error) {
	k := m.keys
	var turn []byte
	err = m.store.View(ctx, func(r store.Reader) error {
		state = none
		version, err := k.readVersion(r)
		if err != nil {
			return err
		}
		in, _, err := k.readUpgrade(r, version)
		if err != nil || in == nil {
			return err
		}
		if turn, err = get(r, k.turn); err != nil {
			return err
		}
		p, err := k.readProgress(r)
		if err != nil {
			return err
		}
		alive, moved := m.migrator.see(turn, m.clock)
		switch {
		case !alive && p != nil:
			state = stuck
		case alive && moved && in.Closed:
			state = migrating
		case alive:
			state = undecided
		default:
			state = abandoned
		}
		return nil
	})
	if err != nil || state != abandoned {
		return state, err
	}
	m.log.WarnContext(ctx, fmt.Sprintf("%s schema: who was to upgrade it is dead and has changed nothing yet: the upgrade is taken back", k.schema))
	return none, certain.Update(ctx, m.store, func(txn store.Txn) error { return k.abandon(txn, turn) })
}

// A migrator is what is seen of the process that has the turn to migrate.
type migrator struct {
	pulse pulse.Watch
	first []byte // the turn as it was first seen
	moved bool
}

// see judges the value of a turn, nil if nobody has it: whether the process that has
// it is alive, and whether it has given a sign of life since it was first seen.
func (w *migrator) see(turn []byte, c clock) (alive, moved bool) {
	if turn == nil {
		*w = migrator{}
		return false, false
	}
	var record struct {
		TTL int64 `cbor:"ttl"` // milliseconds
	}
	w.pulse.TTL, w.pulse.Now = defaultTTL, c.Now
	if err := value.Unmarshal(turn, &record); err == nil && record.TTL > 0 {
		w.pulse.TTL = time.Duration(record.TTL) * time.Millisecond
	}
	if w.first == nil {
		w.first = turn
	}
	w.moved = w.moved || !bytes.Equal(w.first, turn)
	return w.pulse.Alive("", turn), w.moved
}
