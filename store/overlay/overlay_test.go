package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/overlay"
	"github.com/kvmigrate/kvmigrate/store/storetest"
)

// closing closes c at the end of the test.
func closing[C io.Closer](t testing.TB, c C, err error) C {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func openBase(t testing.TB, configure func(badger.Options) badger.Options) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(context.WithoutCancel(t.Context()), t.TempDir(), badgerstore.Options{Configure: configure})
	return closing(t, st, err)
}

func openScratch(t testing.TB, base store.Store) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.OpenTemp(t.Context(), t.TempDir(), base.Limits())
	return closing(t, st, err)
}

func openOverlay(t testing.TB, base, scratch store.Store) *overlay.Store {
	t.Helper()
	st, err := overlay.New(t.Context(), base, scratch)
	return closing(t, st, err)
}

// apart makes a store that keeps all values apart from their keys, with small
// transactions.
func apart(o badger.Options) badger.Options {
	return o.WithMemTableSize(1 << 20).WithValueThreshold(0).WithValueLogFileSize(1 << 20)
}

func TestConformance(t *testing.T) {
	ctx := context.Background()
	over := func(t *testing.T, base store.Store) store.Store {
		return openOverlay(t, base, openScratch(t, base))
	}
	onMoving := func(move func(*moving) error) func(t *testing.T) store.Store {
		return func(t *testing.T) store.Store {
			base := openMemory(t)
			m := &moving{t: t, base: base, scratch: openScratch(t, base), move: move}
			m.Store = m.open()
			return closing(t, m, nil)
		}
	}
	for _, c := range []struct {
		name string
		open func(t *testing.T) store.Store
	}{
		{"over an empty base", func(t *testing.T) store.Store { return over(t, openMemory(t)) }},
		{"over a base that keeps values apart", func(t *testing.T) store.Store { return over(t, openBase(t, apart)) }},
		{"over another overlay", func(t *testing.T) store.Store { return over(t, over(t, openMemory(t))) }},
		// What the cases write, between two of their transactions.
		{"settled", onMoving(func(m *moving) error { return m.Settle(ctx) })},
		{"moved to the base", onMoving((*moving).rebase)},
	} {
		t.Run(c.name, func(t *testing.T) { storetest.Run(t, c.open) })
	}
}

// A moving store moves what was written to a lower layer before each transaction
// that is not inside another.
type moving struct {
	*overlay.Store
	t             *testing.T
	base, scratch store.Store
	move          func(*moving) error

	mu      sync.Mutex
	running int
	closed  bool
}

func (m *moving) open() *overlay.Store {
	st, err := overlay.New(m.t.Context(), m.base, m.scratch)
	if err != nil {
		m.t.Fatal(err)
	}
	return st
}

func (m *moving) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.Store.Close()
}

func (m *moving) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == 0 && !m.closed {
		if err := m.move(m); err != nil {
			m.t.Errorf("move between transactions: %v", err)
		}
	}
	m.running++
}

func (m *moving) end() {
	m.mu.Lock()
	m.running--
	m.mu.Unlock()
}

func (m *moving) View(ctx context.Context, fn func(store.Reader) error) error {
	m.begin()
	defer m.end()
	return m.Store.View(ctx, fn)
}

func (m *moving) Update(ctx context.Context, fn func(store.Txn) error) error {
	m.begin()
	defer m.end()
	return m.Store.Update(ctx, fn)
}

// rebase writes the changes into the base and lays a new overlay over it.
func (m *moving) rebase() error {
	ctx := context.WithoutCancel(m.t.Context())
	if err := errors.Join(apply(ctx, m.Store, m.base), m.Store.Close()); err != nil {
		return err
	}
	var keys [][]byte
	err := m.scratch.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(store.Scan{KeysOnly: true}) {
			if err != nil {
				return err
			}
			keys = append(keys, bytes.Clone(e.Key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(keys, 1000) {
		if err := m.scratch.Update(ctx, func(tx store.Txn) error {
			for _, key := range some {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	m.Store = m.open()
	return nil
}

// apply makes the changes of st to another store.
func apply(ctx context.Context, st *overlay.Store, to store.Store) error {
	return st.Changes(ctx, func(c overlay.Change) error {
		return to.Update(ctx, func(tx store.Txn) error {
			if c.After == nil {
				return tx.Delete(c.Key)
			}
			return tx.Set(*c.After)
		})
	})
}

func update(t *testing.T, st store.Store, fn func(store.Txn) error) {
	t.Helper()
	if err := st.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func set(key, value string) func(store.Txn) error {
	return func(tx store.Txn) error { return tx.Set(store.Entry{Key: []byte(key), Value: []byte(value)}) }
}

func contents(t *testing.T, st store.Store) string {
	t.Helper()
	var out bytes.Buffer
	if err := st.View(t.Context(), func(r store.Reader) error { return dump.Write(&out, r, store.Scan{}) }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The base goes on, and neither disturbs the other.
func TestBaseGoesOn(t *testing.T) {
	base := openBase(t, badgerstore.Small)
	update(t, base, set("a", "old"))
	update(t, base, set("b", "old"))
	st := openOverlay(t, base, openScratch(t, base))
	update(t, st, set("b", "overlay"))
	update(t, base, set("a", "base"))
	update(t, base, set("c", "base"))
	update(t, base, func(tx store.Txn) error { return tx.Delete([]byte("b")) })
	for _, tt := range []struct {
		name string
		st   store.Store
		want string
	}{
		{"overlay", st, "\"a\" hex:6f6c64\n\"b\" hex:6f7665726c6179\n"},
		{"base", base, "\"a\" hex:62617365\n\"c\" hex:62617365\n"},
	} {
		if diff := cmp.Diff(tt.want, contents(t, tt.st)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}

// An entry that expires over one that does not lets the latter stay hidden.
func TestExpiredHides(t *testing.T) {
	base := openBase(t, badgerstore.Small)
	update(t, base, set("k", "base"))
	st := openOverlay(t, base, openScratch(t, base))
	update(t, st, func(tx store.Txn) error {
		return tx.Set(store.Entry{Key: []byte("k"), Value: []byte("short"), ExpiresAt: uint64(time.Now().Unix()) - 1})
	})
	if got := contents(t, st); got != "" {
		t.Errorf("contents = %s, want nothing", got)
	}
}

func changes(t *testing.T, st *overlay.Store) []string {
	t.Helper()
	var got []string
	text := func(e *store.Entry) string {
		if e == nil {
			return "-"
		}
		return fmt.Sprintf("%s/%d", e.Value, e.Meta)
	}
	err := st.Changes(t.Context(), func(c overlay.Change) error {
		got = append(got, fmt.Sprintf("%s: %s > %s", c.Key, text(c.Before), text(c.After)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestChanges(t *testing.T) {
	base := openBase(t, badgerstore.Small)
	for _, key := range []string{"changed", "deleted", "meta", "same", "there and back"} {
		update(t, base, set(key, "1"))
	}
	st := openOverlay(t, base, openScratch(t, base))
	update(t, st, func(tx store.Txn) error {
		return errors.Join(
			set("changed", "2")(tx), set("same", "1")(tx), set("added", "1")(tx), set("short-lived", "1")(tx), set("there and back", "2")(tx),
			tx.Set(store.Entry{Key: []byte("meta"), Value: []byte("1"), Meta: 7}),
			tx.Delete([]byte("deleted")), tx.Delete([]byte("absent")))
	})
	update(t, st, func(tx store.Txn) error {
		return errors.Join(tx.Delete([]byte("short-lived")), set("there and back", "1")(tx))
	})
	want := []string{
		"added: - > 1/0",
		"changed: 1/0 > 2/0",
		"deleted: 1/0 > -",
		"meta: 1/0 > 1/7",
	}
	if diff := cmp.Diff(want, changes(t, st)); diff != "" {
		t.Errorf("changes (-want +got)\n%s", diff)
	}

	before := contents(t, st)
	if err := st.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("Settle changed what the store shows (-before +after)\n%s", diff)
	}
	update(t, st, func(tx store.Txn) error {
		return errors.Join(tx.Delete([]byte("added")), set("changed", "1")(tx), set("deleted", "1")(tx))
	})
	want = []string{
		"added: 1/0 > -",
		"changed: 2/0 > 1/0",
		"deleted: - > 1/0",
	}
	if diff := cmp.Diff(want, changes(t, st)); diff != "" {
		t.Errorf("changes since Settle (-want +got)\n%s", diff)
	}
	got := st.Written()
	if diff := cmp.Diff(overlay.Written{Transactions: 3, Sets: 9, Deletes: 4, Bytes: 111}, got); diff != "" {
		t.Errorf("written (-want +got)\n%s", diff)
	}
}

// More than Settle moves at a time, and a value that exceeds one alone.
func TestSettleMuch(t *testing.T) {
	base := openBase(t, badgerstore.Small)
	st := openOverlay(t, base, openScratch(t, base))
	for i := range 5 {
		update(t, st, func(tx store.Txn) error {
			for j := range 500 {
				if err := set(fmt.Sprintf("%d/%03d", i, j), "value")(tx); err != nil {
					return err
				}
			}
			return set(fmt.Sprintf("%d/large", i), string(make([]byte, 700<<10)))(tx)
		})
	}
	before := contents(t, st)
	if err := st.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := changes(t, st); len(got) != 0 {
		t.Errorf("%d changes since Settle, want none", len(got))
	}
	if contents(t, st) != before {
		t.Error("Settle changed what the store shows")
	}
}

func TestSettleRefusesWhileATransactionRuns(t *testing.T) {
	base := openBase(t, badgerstore.Small)
	st := openOverlay(t, base, openScratch(t, base))
	update(t, st, func(tx store.Txn) error {
		if err := st.Settle(t.Context()); !errors.Is(err, store.ErrBusy) {
			t.Errorf("Settle inside a transaction: %v, want ErrBusy", err)
		}
		return set("k", "v")(tx)
	})
	if got := changes(t, st); len(got) != 1 {
		t.Errorf("changes = %q, want one", got)
	}
}

func TestScratchTooSmall(t *testing.T) {
	base := openBase(t, badgerstore.Small)
	if st, err := overlay.New(t.Context(), base, openBase(t, badgerstore.Small)); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("New = %v, %v; want ErrUnsupported, because a transaction would not fit", st, err)
	}
}

// Over random histories the overlay is the store that it stands for: one that the
// base was copied to and that had the same writes.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			base, twin := openMemory(t), openMemory(t)
			write := func(to ...store.Store) {
				key, value := []byte{"abc"[random.IntN(3)], byte(random.IntN(8))}, []byte{byte(random.IntN(3))}
				gone := random.IntN(3) == 0
				for _, st := range to {
					update(t, st, func(tx store.Txn) error {
						if gone {
							return tx.Delete(key)
						}
						return tx.Set(store.Entry{Key: key, Value: value})
					})
				}
			}
			for range 20 {
				write(base, twin)
			}
			st := openOverlay(t, base, openScratch(t, base))
			for range 60 {
				write(st, twin)
				if random.IntN(10) == 0 {
					if err := st.Settle(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				s := store.Scan{Reverse: random.IntN(2) == 0, KeysOnly: random.IntN(4) == 0}
				if random.IntN(2) == 0 {
					s.Prefix = []byte{"abcd"[random.IntN(4)]}
				}
				if random.IntN(2) == 0 {
					s.From = []byte{"abc"[random.IntN(3)], byte(random.IntN(8))}
				}
				if diff := cmp.Diff(scan(t, twin, s), scan(t, st, s)); diff != "" {
					t.Fatalf("Scan%+v (-twin +overlay)\n%s", s, diff)
				}
			}
		})
	}
}

func openMemory(t *testing.T) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.OpenInMemory(t.Context())
	return closing(t, st, err)
}

func scan(t *testing.T, st store.Store, s store.Scan) []string {
	t.Helper()
	var got []string
	if err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(s) {
			if err != nil {
				return err
			}
			got = append(got, dump.Line(e))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// A mute store does not answer.
type mute struct {
	store.Store
	asked chan struct{}
}

func (m mute) View(ctx context.Context, _ func(store.Reader) error) error {
	close(m.asked)
	<-ctx.Done()
	return ctx.Err()
}

// TestNewContext: the context of New ends a New that waits for the base, and nothing after
// it.
func TestNewContext(t *testing.T) {
	base := openBase(t, apart)
	scratch := openScratch(t, base)
	ctx, cancel := context.WithCancel(t.Context())
	silent := mute{base, make(chan struct{})}
	go func() {
		<-silent.asked
		cancel()
	}()
	if _, err := overlay.New(ctx, silent, scratch); !errors.Is(err, context.Canceled) {
		t.Errorf("New over a store that does not answer = %v, want %v", err, context.Canceled)
	}

	ctx, cancel = context.WithCancel(t.Context())
	over, err := overlay.New(ctx, base, scratch)
	over = closing(t, over, err)
	cancel()
	err = over.View(t.Context(), func(r store.Reader) error {
		_, err := r.Get([]byte("k"))
		return err
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get after the context of New has ended: %v, want %v", err, store.ErrNotFound)
	}
}
