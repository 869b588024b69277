package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvmigrate/kvmigrate/migrate/internal/pulse"
	"github.com/kvmigrate/kvmigrate/migrate/internal/turn"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/value"
)

const simTTL = 10 * time.Second

var simKeys = newKeys("s")

// A proc is a process of the simulation: it upgrades the store if it may, joins, and
// then reads and writes rows of which each says in which format it is.
type proc struct {
	world   *world
	name    string
	program uint32 // the last version that it knows
	span    uint32 // how many versions before it that it supports

	dead    bool          // killed
	gone    bool          // left
	paused  time.Duration // until then
	leaving bool

	migrates bool // whether it has the turn

	member *Member
	beats  *task
	beat   string        // its last sign of life
	sign   time.Duration // when it gave that
	worked time.Duration // when it last did what it is there for
}

func (p *proc) max() int    { return int(p.program) }
func (p *proc) min() uint32 { return max(1, p.program-min(p.span, p.program)) }

// What the migrations do: the second of each three is one that programs before it can
// live with, and every other one takes several transactions.
func tolerant(version uint32) bool { return version%3 == 2 && version > 2 }
func batched(version uint32) bool  { return version%2 == 0 }

// format is that of the rows at version.
func format(version uint32) string {
	f := version
	for v := uint32(1); v <= version; v++ {
		if tolerant(v) {
			f--
		}
	}
	return strconv.Itoa(int(f))
}

func simFloor(version uint32) uint32 {
	if tolerant(version) {
		return version - 1
	}
	return version
}

func (p *proc) fits(version uint32) bool {
	return Node{Min: p.min(), Max: p.program}.supports(version, simFloor(version))
}

func (p *proc) main() {
	ctx := context.Background()
	for !p.leaving {
		p.up(ctx)
		m, err := newMember(p.world.store, Options{Schema: "s", Name: p.name, Program: fmt.Sprint("program ", p.program), Min: p.min(), Max: p.program, TTL: simTTL, Logger: silent})
		if err != nil {
			panic(err)
		}
		m.clock, m.node.ID = p.world, p.world.newID()
		below := &leaky{Store: p.world.store}
		switch p.world.gap { // the others are those of migrators
		case joinsBlindly, keepsIntent, keepsTurn:
			below.gap = p.world.gap
		}
		m.store = below
		if err := m.join(ctx); err != nil {
			p.world.tracef("does not join: %v", err)
			p.world.nap(5 * time.Second)
			continue
		}
		p.world.tracef("joined at v%d", m.Version())
		p.member, p.worked, p.sign = m, p.world.now, p.world.now
		p.beats = p.world.spawn(p, "beat", func() {
			for p.member == m && m.Err() == nil {
				_ = m.look(ctx)
				_ = p.world.Sleep(ctx, simTTL/3)
			}
		})
		for m.Err() == nil && !p.leaving {
			p.work(ctx, m)
			p.world.nap(3 * time.Second)
			if p.world.rng.IntN(5) == 0 {
				p.up(ctx)
			}
		}
		p.world.tracef("stops working: %v", m.Err())
		p.member = nil
		for !p.beats.done {
			p.world.nap(time.Second)
		}
		_ = m.Leave(ctx)
	}
	p.gone = true
}

// leaky is a store whose transactions are made to leave something out.
type leaky struct {
	store.Store
	gap       gap
	announced bool
}

func (l *leaky) View(ctx context.Context, fn func(store.Reader) error) error {
	return l.Store.View(ctx, func(r store.Reader) error { return fn(leakyReader{r, l}) })
}

func (l *leaky) Update(ctx context.Context, fn func(store.Txn) error) error {
	return l.Store.Update(ctx, func(t store.Txn) error { return fn(leakyTxn{t, l}) })
}

type leakyReader struct {
	store.Reader
	store *leaky
}

func (r leakyReader) Scan(s store.Scan) iter.Seq2[store.Entry, error] {
	l := r.store
	if l.gap == noGate || l.gap == looksOnce && l.announced {
		return func(func(store.Entry, error) bool) {}
	}
	if l.gap != impatient {
		return r.Reader.Scan(s)
	}
	return func(yield func(store.Entry, error) bool) {
		for e, err := range r.Reader.Scan(s) {
			if n, bad := decodeNode("", e.Value); bad == nil {
				n.TTL = 0
				e.Value, _ = n.encode()
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

type leakyTxn struct {
	store.Txn
	store *leaky
}

func (t leakyTxn) Get(key []byte) (store.Entry, error) {
	if t.store.gap == joinsBlindly && bytes.Equal(key, simKeys.intent) {
		return store.Entry{}, store.ErrNotFound
	}
	return t.Txn.Get(key)
}

func (t leakyTxn) Set(e store.Entry) error {
	if bytes.Equal(e.Key, simKeys.intent) {
		if t.store.announced && t.store.gap == staysOpen {
			return nil
		}
		t.store.announced = true
	}
	return t.Txn.Set(e)
}

func (t leakyTxn) Delete(key []byte) error {
	turn := bytes.Equal(key, simKeys.turn) || bytes.Equal(key, simKeys.lock)
	switch {
	case t.store.gap == keepsTurn && turn, t.store.gap == keepsIntent && (turn || bytes.Equal(key, simKeys.intent)):
		return nil
	}
	return t.Txn.Delete(key)
}

// rowKeys are those of all rows that there can be.
var rowKeys = [][]byte{[]byte("rows/0"), []byte("rows/1"), []byte("rows/2"), []byte("rows/3"), []byte("rows/4"), []byte("rows/5")}

// work reads all rows or writes one.
func (p *proc) work(ctx context.Context, m *Member) {
	w, st := p.world, m.Store()
	if w.gap == ungated {
		st = ignorant{w.store}
	}
	key := rowKeys[w.rng.IntN(len(rowKeys))]
	kind := w.rng.IntN(4)
	check := func(r store.Reader) (uint32, error) {
		version, ok := Version(r)
		if !ok {
			version = m.Version()
		}
		if !p.fits(version) {
			w.failf("%s works at v%d, which it does not support", p.name, version)
		}
		if kind == 3 { // a write that reads nothing
			return version, nil
		}
		for e, err := range r.Scan(store.Scan{Prefix: []byte("rows/")}) {
			if err != nil {
				return version, err
			}
			if string(e.Value) != format(version) {
				w.failf("%s reads a row of format %s at v%d, where it is %s", p.name, e.Value, version, format(version))
			}
		}
		return version, nil
	}
	var err error
	if kind == 0 {
		err = st.View(ctx, func(r store.Reader) error { _, err := check(r); return err })
	} else {
		err = st.Update(ctx, func(t store.Txn) error {
			version, err := check(t)
			switch {
			case err != nil:
				return err
			case kind == 1:
				return t.Delete(key)
			}
			return t.Set(store.Entry{Key: key, Value: []byte(format(version))})
		})
	}
	if err == nil {
		p.worked = w.now
	} else {
		w.tracef("did not work: %v", err)
	}
}

// ignorant is a store without a gate.
type ignorant struct{ store.Store }

// newTurn returns the turn to migrate, which is that of migrate's runner.
func (p *proc) newTurn() *turn.Turn {
	w := p.world
	t := &turn.Turn{
		Store: w.store, Clock: w, Keys: turn.Keys{Turn: simKeys.turn, Lock: simKeys.lock, Progress: simKeys.progress},
		Record:  turn.Record{Token: []byte(w.newID()), Program: p.name, TTL: simTTL.Milliseconds()},
		NewLock: func() ([]byte, error) { return []byte(w.newID()), nil },
		Read: func(r store.Reader) (now turn.Record, data []byte, err error) {
			if data, err = get(r, simKeys.turn); err == nil && data != nil {
				err = value.Unmarshal(data, &now)
			}
			return now, data, err
		},
	}
	if w.gap == unsettled {
		t.Store = renamed{w.store, store.ErrUnknown, errSecret}
	}
	return t
}

// fenced returns the store of the turn.
func (p *proc) fenced(t *turn.Turn) store.Store {
	switch p.world.gap {
	case unfenced:
		return p.world.store
	case unsettled:
		return renamed{t.Fenced(), errSecret, store.ErrUnknown}
	}
	return t.Fenced()
}

// renamed is a store of which an error has another name.
type renamed struct {
	store.Store
	from, to error
}

// errSecret is an unknown outcome that the turn is not told of.
var errSecret = errors.New("secret")

func (r renamed) Update(ctx context.Context, fn func(store.Txn) error) error {
	err := r.Store.Update(ctx, fn)
	if errors.Is(err, r.from) {
		return r.to
	}
	return err
}

// take waits for the turn, and returns nil if that takes too long.
func (p *proc) take(ctx context.Context) *turn.Turn {
	w := p.world
	watch := pulse.Watch{TTL: simTTL, Now: w.Now}
	alive := func(_ turn.Record, data []byte) bool { return watch.Alive("", data) }
	t := p.newTurn()
	for patience := w.now + w.upTo(3*simTTL); w.now < patience; {
		free := false
		err := w.store.View(ctx, func(r store.Reader) error {
			now, data, err := t.Read(r)
			free = data == nil || !alive(now, data)
			return err
		})
		if err != nil {
			panic(err)
		}
		if free {
			t.Record.Since = w.Now().UnixMilli()
			taken, err := t.Take(ctx, alive)
			switch {
			case err != nil:
				return nil
			case taken:
				return t
			}
		}
		_ = w.Sleep(ctx, time.Second)
	}
	return nil
}

// up brings the store as far as the program and the nodes let it.
func (p *proc) up(ctx context.Context) {
	version, under := p.state(ctx)
	if version >= p.program && under == nil || version > p.program {
		return
	}
	t := p.take(ctx)
	if t == nil {
		return
	}
	p.migrates = true
	within, end := t.Begin(ctx)
	kept := p.world.spawn(p, "turn", func() { t.Keep(within) })
	version, under = p.state(ctx)
	if version < p.program && (under == nil || under.Version <= p.program) {
		p.migrate(within, p.fenced(t), version)
	}
	end()
	for kept.wake = p.world.now; !kept.done; {
		p.world.nap(10 * time.Millisecond)
	}
	if t.Lost() == nil {
		_ = t.Release(ctx)
	}
	p.migrates = false
}

func (p *proc) state(ctx context.Context) (version uint32, under *underWay) {
	err := p.world.store.View(ctx, func(r store.Reader) (err error) {
		if version, err = simKeys.readVersion(r); err == nil {
			under, err = simKeys.readProgress(r)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return version, under
}

func (p *proc) migrate(ctx context.Context, st store.Store, version uint32) {
	w := p.world
	below := &leaky{Store: st}
	switch w.gap { // the others are those of nodes
	case noGate, looksOnce, staysOpen, impatient:
		below.gap = w.gap
	}
	gate := &Gate{Store: below, Schema: "s", Program: fmt.Sprint("program ", p.program), Floor: simFloor, Logger: silent, clock: w}
	open, holders, err := gate.Pass(ctx, version, p.program)
	w.tracef("may go from v%d to v%d, held back by %d nodes: %v", version, open, len(holders), err)
	for next := version + 1; next <= open && err == nil; next++ {
		if err = p.apply(ctx, st, next); err == nil {
			w.tracef("brought it to v%d", next)
		}
	}
	if err != nil {
		w.tracef("stops migrating: %v", err)
	}
	_ = gate.Withdraw(ctx)
}

// simProgress is the record of a migration under way.
type simProgress struct {
	underWay
	Cursor int `cbor:"cursor"`
}

// apply runs the migration to version.
func (p *proc) apply(ctx context.Context, st store.Store, version uint32) error {
	for done := false; !done; {
		err := st.Update(ctx, func(txn store.Txn) (err error) {
			done, err = p.batch(txn, version)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var errOvertaken = errors.New("another one was faster")

// batch does two rows, or all if that is how version is reached.
func (p *proc) batch(txn store.Txn, version uint32) (done bool, err error) {
	stored, err := simKeys.readVersion(txn)
	if err == nil && stored != version-1 {
		err = errOvertaken
	}
	if err != nil {
		return false, err
	}
	var at simProgress
	data, err := get(txn, simKeys.progress)
	if err == nil && data != nil {
		if err = value.Unmarshal(data, &at); err == nil && at.Version != version {
			err = errOvertaken
		}
	}
	if err != nil {
		return false, err
	}
	last := len(rowKeys)
	if batched(version) {
		last = min(last, at.Cursor+2)
	}
	from := rowKeys[at.Cursor]
	for e, err := range txn.Scan(store.Scan{Prefix: []byte("rows/"), From: from}) {
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(rowKeys[at.Cursor:last], func(k []byte) bool { return bytes.Equal(k, e.Key) }) {
			break
		}
		if string(e.Value) != format(version-1) {
			p.world.failf("%s meets a row of format %s on the way to v%d", p.name, e.Value, version)
		}
		if err := txn.Set(store.Entry{Key: e.Key, Value: []byte(format(version))}); err != nil {
			return false, err
		}
	}
	if last < len(rowKeys) {
		if stored == 0 {
			if err := txn.Set(store.Entry{Key: simKeys.version, Value: make([]byte, 4)}); err != nil {
				return false, err
			}
		}
		at.Version, at.Program, at.Cursor = version, p.name, last
		data, err := value.Marshal(at)
		if err != nil {
			return false, err
		}
		return false, txn.Set(store.Entry{Key: simKeys.progress, Value: data})
	}
	if data != nil {
		if err := txn.Delete(simKeys.progress); err != nil {
			return false, err
		}
	}
	if tolerant(version) {
		data, err := value.Marshal(map[string]any{"writable_from": version - 1})
		if err != nil {
			return false, err
		}
		if err := txn.Set(store.Entry{Key: fmt.Appendf(nil, "%s%010d", simKeys.history, version), Value: data}); err != nil {
			return false, err
		}
	}
	return true, txn.Set(store.Entry{Key: simKeys.version, Value: binary.BigEndian.AppendUint32(nil, version)})
}

// committed holds what stands in the store after a commit against what must hold.
func (w *world) committed(t *memoryTxn) {
	if w.traces {
		w.tracef("writes %s", written(t))
	}
	wrote := func(prefix string) bool {
		for key := range t.writes {
			if strings.HasPrefix(key, prefix) {
				return true
			}
		}
		return false
	}
	for _, p := range w.procs {
		if p.member == nil {
			continue
		}
		if beat := string(t.writes[simKeys.beat+p.member.node.ID]); beat != "" && beat != p.beat {
			p.beat, p.sign = beat, w.now
		}
	}
	version, under := w.readState()
	switch {
	case version < w.version:
		w.failf("the version went from v%d to v%d", w.version, version)
	case version > w.version:
		w.expectNoneLeft(version)
	}
	w.version = version
	migrates := wrote(string(simKeys.version)) || wrote(string(simKeys.progress))
	if migrates || wrote(simKeys.node) {
		w.expectNodesFit(version, under)
	}
	if migrates || wrote("rows/") {
		w.expectRowsFit(version, under)
	}
}

// readState reads the version and that of the migration under way, 0 if none is.
func (w *world) readState() (version, under uint32) {
	if i, ok := w.store.data[string(simKeys.version)]; ok {
		version = binary.BigEndian.Uint32(i.value)
	}
	i, ok := w.store.data[string(simKeys.progress)]
	if !ok {
		return version, 0
	}
	var p underWay
	in := new(intent)
	err := value.Unmarshal(i.value, &p)
	if i, ok := w.store.data[string(simKeys.intent)]; !ok {
		in = nil
	} else if err == nil {
		err = value.Unmarshal(i.value, in)
	}
	if err != nil {
		w.failf("%v", err)
	}
	if w.gap == "" && (!in.closes(version) || in.Target < p.Version) {
		w.failf("a migration to v%d is under way and the store is not closed for it", p.Version)
	}
	return version, p.Version
}

// expectNoneLeft: a node that does not support the new version was silent for too long.
func (w *world) expectNoneLeft(version uint32) {
	for _, p := range w.alive() {
		if m := p.member; m != nil && m.Err() == nil && !p.fits(version) && w.now-p.sign < simTTL {
			w.failf("%s is left behind by v%d, and has given a sign of life at %v", p.name, version, p.sign)
		}
	}
}

// expectNodesFit: every registered node supports the version, and the one that a
// migration under way leads to.
func (w *world) expectNodesFit(version, under uint32) {
	for key, i := range w.store.data {
		id, ok := strings.CutPrefix(key, simKeys.node)
		if !ok {
			continue
		}
		n, err := decodeNode(id, i.value)
		switch {
		case err != nil:
			w.failf("%v", err)
		case !n.supports(version, simFloor(version)):
			w.failf("stranded: %v is a node of a store at v%d", n, version)
		case under != 0 && !n.supports(under, simFloor(under)):
			w.failf("stranded: %v is a node of a store on its way to v%d", n, under)
		}
	}
}

// expectRowsFit: unless a migration is under way, every row is as the version says.
func (w *world) expectRowsFit(version, under uint32) {
	for _, key := range rowKeys {
		i, ok := w.store.data[string(key)]
		if ok && under == 0 && string(i.value) != format(version) {
			w.failf("a row is of format %s at v%d, where it is %s", i.value, version, format(version))
		}
	}
}

func written(t *memoryTxn) string {
	var keys []string
	for key, value := range t.writes {
		if value == nil {
			key = "-" + key
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}
