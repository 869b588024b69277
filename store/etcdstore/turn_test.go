package etcdstore_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/dump"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

// workerVariable holds the worker that this process is to be, and not a test.
const workerVariable = "ETCDSTORE_TEST_WORKER"

// A workerSpec is what a process that migrates is told.
type workerSpec struct {
	Addresses []string
	Prefix    string
	TTL       time.Duration
	Timeout   time.Duration // of the store
	Holds     []string      // the rows before which it says "hold", once each, and waits for a line; or "any"
	Alone     string        // a file that only one process at a time may hold
}

// beWorker is the main function of a process that migrates. It says what it logs and,
// at the end, what came of it. It ends when its standard input does.
func beWorker(text string) error {
	var spec workerSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	lines := make(chan struct{})
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- struct{}{}
		}
		os.Exit(1)
	}()
	st, err := etcdstore.Open(context.Background(), spec.Addresses, spec.Prefix, etcdstore.Options{Timeout: spec.Timeout, Logger: quiet})
	if err != nil {
		return err
	}
	var alone sync.Once
	var mu sync.Mutex
	o := workerOptions(func(row string) {
		if spec.Alone != "" {
			alone.Do(func() { beAlone(spec.Alone) })
		}
		mu.Lock()
		defer mu.Unlock()
		if i := slices.IndexFunc(spec.Holds, func(hold string) bool { return hold == row || hold == "any" }); i >= 0 {
			spec.Holds = slices.Delete(spec.Holds, i, i+1)
			fmt.Println("hold", row)
			<-lines
		}
	})
	o.TurnTTL = spec.TTL
	o.Logger = slog.New(slog.NewTextHandler(os.Stdout, nil))
	report, err := migrate.Up(context.Background(), st, o)
	fmt.Printf("end v%d, %d applied, error: %v\n", report.To, len(report.Applied), err)
	return st.Close()
}

// beAlone ends the process if another one holds the file. The lock goes with the
// process.
func beAlone(name string) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		fmt.Println("end: two processes work at once:", err)
		os.Exit(1)
	}
	kept = f
}

var kept *os.File // so that nobody closes it

const workerStep = 20

// workerOptions have a migration in batches that overlap, one in steps, and a plain one.
// A row that was changed twice would show it. visit is called with each row.
func workerOptions(visit func(row string)) migrate.Options {
	return migrateOptions(migrate.NewRegistry(
		rewriteLadder(func(row []byte) { visit(string(row)) }).Migrations()[0],
		migrate.Migration{Version: 2, Name: "steps", Up: func(_ context.Context, tx *migrate.Tx) error {
			i := uint32(0)
			if c := tx.Cursor(); c != nil {
				i = binary.BigEndian.Uint32(c)
			}
			for range workerStep {
				err := tx.Update(numberedKey(int(i)), func(row []byte) ([]byte, error) {
					visit(string(row))
					return append(row, " stepped"...), nil
				})
				if err != nil {
					return err
				}
				i++
			}
			if i < migratedRows {
				tx.Continue(binary.BigEndian.AppendUint32(nil, i))
			}
			return nil
		}},
		migrate.Migration{Version: 3, Name: "plain", Up: func(_ context.Context, tx *migrate.Tx) error {
			return tx.Set(entry("done", "yes"))
		}},
	))
}

// numberedKey is the key of a row of rowsToMigrate.
func numberedKey(i int) []byte { return rowsToMigrate()[i].Key }

// A worker is a process that migrates.
type worker struct {
	*process
	lines chan string
	seen  []string
}

func startWorker(t *testing.T, spec workerSpec) *worker {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	p, out := startProcess(t, t.TempDir(), workerVariable+"="+string(text))
	w := &worker{process: p, lines: make(chan string, 1000)}
	go func() {
		defer close(w.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			w.lines <- in.Text()
		}
	}()
	return w
}

// next returns the next line that contains one of texts, "" at the end of the process.
func (w *worker) next(texts ...string) string {
	for line := range w.lines {
		w.seen = append(w.seen, line)
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			return line
		}
	}
	return ""
}

// wait waits for a line that contains text.
func (w *worker) wait(text string) {
	w.t.Helper()
	if w.next(text) == "" {
		w.t.Fatalf("a worker ended without %q; it said:\n%s", text, strings.Join(w.seen, "\n"))
	}
}

// goOn lets a worker that holds go on.
func (w *worker) goOn() {
	w.t.Helper()
	if _, err := io.WriteString(w.stdin, "go on\n"); err != nil {
		w.t.Error(err)
	}
}

// wantEnd fails the test unless line is how a worker ends that is at the latest version.
func (w *worker) wantEnd(line string) {
	w.t.Helper()
	if !strings.HasPrefix(line, "end v3, ") || !strings.HasSuffix(line, "error: <nil>") {
		w.t.Errorf("a worker said %q, want v3; before it:\n%s", line, strings.Join(w.seen, "\n"))
	}
}

// A crew is several workers at once.
type crew struct {
	workers []*worker
	said    chan said
}

// A said is that a worker holds or ends; line is "" if it ends without a word.
type said struct {
	worker *worker
	line   string
}

func startCrew(t *testing.T, specs ...workerSpec) *crew {
	t.Helper()
	c := &crew{said: make(chan said)}
	for _, spec := range specs {
		w := startWorker(t, spec)
		c.workers = append(c.workers, w)
		go func() {
			for {
				line := w.next("hold", "end v", "end:")
				select {
				case c.said <- said{w, line}:
				case <-t.Context().Done():
					return
				}
				if !strings.HasPrefix(line, "hold") {
					return
				}
			}
		}()
	}
	return c
}

// work calls hold with each worker that holds, until all have ended. hold returns
// whether the worker lives.
func (c *crew) work(t *testing.T, hold func(w *worker) bool) {
	t.Helper()
	dead := map[*worker]bool{}
	for ended := 0; ended < len(c.workers); {
		s := <-c.said
		switch {
		case strings.HasPrefix(s.line, "hold"):
			dead[s.worker] = !hold(s.worker)
		default:
			ended++
			if !dead[s.worker] {
				s.worker.wantEnd(s.line)
			}
		}
	}
}

// wantWorked fails the test unless each row went through each migration once, history
// says so, and it is nobody's turn.
func wantWorked(t *testing.T, st store.Store) {
	t.Helper()
	wantRows(t, st, " rewritten stepped")
	r, err := migrate.New(st, workerOptions(nil))
	if err != nil {
		t.Fatal(err)
	}
	history, err := r.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var written []uint64
	for _, a := range history {
		written = append(written, a.KeysWritten)
	}
	if diff := cmp.Diff([]uint64{migratedRows, migratedRows, 1}, written); diff != "" {
		t.Errorf("keys written, as history has it (-want +got):\n%s", diff)
	}
	if status, err := r.Status(t.Context()); err != nil || status.Holder != nil {
		t.Errorf("Status = %+v, %v; want nobody's turn", status, err)
	}
}

// besidesTurn is all that a store holds but the turn, which changes with each sign of
// life.
func besidesTurn(t *testing.T, st store.Store) string {
	t.Helper()
	var out strings.Builder
	err := st.View(t.Context(), func(r store.Reader) error { return dump.Write(&out, r, store.Scan{}) })
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(out.String(), `"system:schema_turn"`)
	_, after, _ = strings.Cut(after, "\n")
	return before + after
}

// workersTTL is short, so that the tests are. On a machine that is very busy a process
// can be taken for dead, and stop, which most tests do not mind; the others have
// calmTTL.
const (
	workersTTL = 3 * time.Second
	calmTTL    = 6 * time.Second
)

func rounds(short, long int) int {
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		return long
	}
	return short
}

// newWork returns a store with the rows to migrate, and what a worker on it is told.
func newWork(t *testing.T, addresses ...string) (*etcdstore.Store, workerSpec) {
	t.Helper()
	prefix := newPrefix()
	st := open(t, prefix, etcdstore.Options{}, addresses...)
	fill(t, st, rowsToMigrate())
	return st, workerSpec{Addresses: addresses, Prefix: prefix, TTL: workersTTL}
}

// TestKillWorkers starts several processes at once, of which one works at a time, and
// kills the one that does, again and again. Another goes on where it was.
func TestKillWorkers(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range rounds(1, 40) {
		st, spec := newWork(t, sharedAddress(t))
		spec.TTL, spec.Alone = calmTTL, filepath.Join(t.TempDir(), "alone")
		var specs []workerSpec
		for range 5 {
			spec.Holds = nil
			for range 3 {
				spec.Holds = append(spec.Holds, fmt.Sprint("row ", 40+random.IntN(migratedRows-40), []string{"", " rewritten"}[random.IntN(2)]))
			}
			specs = append(specs, spec)
		}
		kills := 0
		startCrew(t, specs...).work(t, func(w *worker) bool {
			if kills == 3 {
				w.goOn()
				return true
			}
			kills++
			w.signal(syscall.SIGKILL)
			return false
		})
		if kills == 0 {
			t.Error("nobody was killed")
		}
		wantWorked(t, st)
	}
}

// TestKillNobody: of many processes that start at once one works, and all are at the
// latest version when they return.
func TestKillNobody(t *testing.T) {
	t.Parallel()
	st, spec := newWork(t, sharedAddress(t))
	spec.TTL, spec.Alone = 0, filepath.Join(t.TempDir(), "alone")
	startCrew(t, slices.Repeat([]workerSpec{spec}, rounds(5, 20))...).work(t, nil)
	wantWorked(t, st)
}

// TestKillPaused stops a process in the middle of a transaction, until another one has
// taken over, and lets it go on before that has committed anything: it must not commit.
func TestKillPaused(t *testing.T) {
	for _, row := range []string{"row 150", "row 159 rewritten"} { // the latter is the last of its step
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			for range rounds(1, 40) {
				st, spec := newWork(t, sharedAddress(t))
				spec.Holds = []string{row}
				paused, other := startWorker(t, spec), spec
				paused.wait("hold")
				paused.stop()
				paused.goOn()
				other.Holds = []string{"any"}
				successor := startWorker(t, other)
				successor.wait("taking over from")
				successor.wait("hold")
				before := besidesTurn(t, st)
				paused.signal(syscall.SIGCONT)
				paused.wait("stopped migrating system schema")
				if diff := cmp.Diff(before, besidesTurn(t, st)); diff != "" {
					t.Errorf("the paused process wrote (-before +after):\n%s", diff)
				}
				successor.goOn()
				successor.wantEnd(successor.next("end"))
				paused.wantEnd(paused.next("end"))
				wantWorked(t, st)
			}
		})
	}
}

// TestKillNetwork cuts a process off at a commit. Another one goes on, and the commit
// can come before that, later, or never.
func TestKillNetwork(t *testing.T) {
	for _, test := range []struct {
		name string
		rule rule
		row  string
	}{
		{"before the request", dropRequest, "row 150 rewritten"},
		{"before the answer", dropResponse, "row 150 rewritten"},
		{"the request arrives late", holdRequest, "row 150 rewritten"},
		{"the request of a step arrives late", holdRequest, "row 150 rewritten stepped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, sharedAddress(t))
			st, spec := newWork(t, sharedAddress(t))
			off := spec
			off.Addresses, off.Timeout = []string{p.address()}, 3*time.Second
			p.cutAt(test.rule, test.row)
			cut := startWorker(t, off)
			cut.wait("end v")
			if end := cut.seen[len(cut.seen)-1]; strings.HasSuffix(end, "<nil>") || p.left() != passOn {
				t.Errorf("a worker that is cut off said %q, want an error", end)
			}
			spec.Holds = []string{"any"}
			successor := startWorker(t, spec)
			successor.wait("taking over from")
			successor.wait("hold")
			before := besidesTurn(t, st)
			p.release()
			if diff := cmp.Diff(before, besidesTurn(t, st)); diff != "" {
				t.Errorf("the process that was cut off wrote (-before +after):\n%s", diff)
			}
			successor.goOn()
			successor.wantEnd(successor.next("end"))
			if log := strings.Join(successor.seen, "\n"); !strings.Contains(log, "resuming an interrupted migration") {
				t.Errorf("log of the other process:\n%s", log)
			}
			wantWorked(t, st)
		})
	}
}

// TestKillNetworkForAWhile: a process that was cut off for longer than it may be silent,
// and then finds another one at work, waits for it.
func TestKillNetworkForAWhile(t *testing.T) {
	t.Parallel()
	p := startProxy(t, sharedAddress(t))
	st, spec := newWork(t, sharedAddress(t))
	off := spec
	off.Addresses, off.Holds = []string{p.address()}, []string{"row 100"}
	p.cutAt(holdRequest, "row 150 rewritten")
	cut := startWorker(t, off)
	cut.wait("hold")
	spec.Holds = []string{"any"}
	successor := startWorker(t, spec)
	successor.wait("waiting for")
	cut.goOn()
	successor.wait("taking over from")
	successor.wait("hold")
	before := besidesTurn(t, st)
	p.release()
	p.heal()
	cut.wait("waiting for")
	if diff := cmp.Diff(before, besidesTurn(t, st)); diff != "" {
		t.Errorf("the process that was cut off wrote (-before +after):\n%s", diff)
	}
	successor.goOn()
	successor.wantEnd(successor.next("end"))
	cut.wantEnd(cut.next("end"))
	wantWorked(t, st)
}

// TestKillMembers: while several processes migrate, a follower of the cluster stands
// still for a while and then the leader dies.
func TestKillMembers(t *testing.T) {
	t.Parallel()
	for range rounds(1, 10) {
		cluster := startCluster(t, 3)
		st, spec := newWork(t, addresses(cluster)...)
		spec.TTL = calmTTL
		spec.Holds = []string{"row 100", "row 200", "row 100 rewritten"}
		leader, followers := leader(t, cluster)
		do := []func(){
			func() { followers[0].signal(syscall.SIGSTOP) },
			func() { followers[0].signal(syscall.SIGCONT) },
			func() { leader.signal(syscall.SIGKILL) },
		}
		startCrew(t, spec, spec, spec).work(t, func(w *worker) bool {
			if len(do) > 0 {
				do[0]()
				do = do[1:]
			}
			w.goOn()
			return true
		})
		if len(do) > 0 {
			t.Errorf("%d of the things that should befall the cluster did not", len(do))
		}
		wantWorked(t, st)
	}
}

// TestLongCheck: a check that reads more keys than a transaction compares, and takes
// longer than the process may be silent, does not conflict with the signs of life that
// come in between.
func TestLongCheck(t *testing.T) {
	t.Parallel()
	st, _ := newWork(t, sharedAddress(t))
	const ttl = workersTTL
	m := rewriteLadder(func([]byte) {}).Migrations()[0]
	attempts := 0
	m.Check = func(ctx context.Context, r store.Reader) error {
		attempts++
		for _, err := range r.Scan(store.Scan{Prefix: []byte("rows/")}) {
			if err != nil {
				return err
			}
		}
		time.Sleep(ttl) // what a larger table takes
		return ctx.Err()
	}
	o := migrateOptions(migrate.NewRegistry(m))
	o.TurnTTL = ttl
	if _, err := migrate.Up(t.Context(), st, o); err != nil {
		t.Error(err)
	}
	if attempts != 1 {
		t.Errorf("%d attempts, want one", attempts)
	}
	wantRewritten(t, st)
}
