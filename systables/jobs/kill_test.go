package jobs_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/store/value"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// workerDir names the directory in which the test binary is to be the process that
// TestKill kills, and workerJobs how many jobs it submits.
const workerDir, workerJobs = "KVMIGRATE_TEST_WORKER_DIR", "KVMIGRATE_TEST_WORKER_JOBS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerDir); dir != "" {
		if err := work(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// steps is how many records each run of a job makes.
const steps = 4

// A record is what an executor leaves of each of its steps, in the transaction of the
// step.
type record struct {
	Job     systables.JobID `cbor:"job"`
	Token   string          `cbor:"token"`
	Attempt int32           `cbor:"attempt"`
	Step    int             `cbor:"step"`
}

var (
	trail   = store.MustPartition("test.trail")
	counter = []byte("test:records")
)

// appendRecord adds r to the trail, behind all that committed before it.
func appendRecord(tx store.Txn, r record) (n uint64, err error) {
	switch e, err := tx.Get(counter); {
	case err == nil:
		n = binary.BigEndian.Uint64(e.Value)
	case !errors.Is(err, store.ErrNotFound):
		return 0, err
	}
	data, err := value.Marshal(r)
	if err != nil {
		return 0, err
	}
	return n, errors.Join(
		tx.Set(store.Entry{Key: trail.Key(binary.BigEndian.AppendUint64(nil, n)), Value: data}),
		tx.Set(store.Entry{Key: counter, Value: binary.BigEndian.AppendUint64(nil, n+1)}),
	)
}

// newWorker returns a manager whose jobs leave records and tell done of each. running
// is of all managers of a process.
func newWorker(st store.Store, node string, running *sync.Map, done func(n uint64)) *jobs.Manager {
	m := jobs.New(st, jobs.Options{NodeID: node, Concurrency: 3, Poll: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	jobs.Register(m, "work", jobs.Policy{Attempts: 10_000}, func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
		if other, twice := running.LoadOrStore(run.Job.ID, node); twice {
			return nil, fmt.Errorf("%w: it runs on %v as well", jobs.ErrPermanent, other)
		}
		defer running.Delete(run.Job.ID)
		for step := range steps {
			var n uint64
			err := run.Update(ctx, func(tx store.Txn) (err error) {
				n, err = appendRecord(tx, record{run.Job.ID, *run.Job.RunToken, run.Job.Attempts, step})
				return err
			})
			if err != nil {
				return nil, err
			}
			done(n)
		}
		return nil, nil
	})
	return m
}

// work runs jobs by two managers until all have ended or it is killed, and prints the
// number of each record that it made.
func work(ctx context.Context, dir string) error {
	var n int
	if _, err := fmt.Sscan(os.Getenv(workerJobs), &n); err != nil {
		return err
	}
	st, err := badgerstore.Open(ctx, dir, badgerstore.Options{Configure: badgerstore.Small, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if _, err := systables.Initialize(ctx, st); err != nil {
		return err
	}
	var running sync.Map
	var printing sync.Mutex
	var ms []*jobs.Manager
	for _, node := range []string{"node-1", "node-2"} {
		m := newWorker(st, node, &running, func(n uint64) {
			printing.Lock()
			defer printing.Unlock()
			fmt.Println(n)
		})
		if err := m.Start(ctx); err != nil {
			return err
		}
		ms = append(ms, m)
	}
	ids := make([]systables.JobID, n)
	for i := range ids {
		job, err := ms[i%2].Submit(ctx, jobs.Request{Type: "work", IdempotencyKey: fmt.Sprint("job ", i)})
		if err != nil {
			return err
		}
		ids[i] = job.ID
	}
	for _, id := range ids {
		if _, err := ms[0].Wait(ctx, id); err != nil {
			return err
		}
	}
	for _, m := range ms {
		if err := m.Shutdown(ctx); err != nil {
			return err
		}
	}
	return st.Close()
}

// TestKill: no job is lost, and no two runs of one are under way at a time, when the
// process is killed at any moment.
func TestKill(t *testing.T) {
	kills := 12
	if os.Getenv("KVMIGRATE_SOAK") != "" {
		kills = 300
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const each = 12 // records between two kills, on average
	n := kills * each / steps
	dir := filepath.Join(t.TempDir(), "store")
	acknowledged := map[string]bool{}
	// process runs a worker, kills it after some lines if kill is set, and returns how
	// it ended.
	process := func(kill bool) error {
		worker := exec.CommandContext(t.Context(), self)
		worker.Env = append(os.Environ(), workerDir+"="+dir, fmt.Sprint(workerJobs, "=", n))
		worker.Stderr = os.Stderr
		out, err := worker.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for left := rand.N(2 * each); ; left-- {
			if kill && left == 0 {
				if err := worker.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			line, err := lines.ReadString('\n')
			if errors.Is(err, io.EOF) { // a line that was cut short acknowledges nothing
				return worker.Wait()
			}
			acknowledged[line[:len(line)-1]] = true
		}
	}
	killed := 0
	for range kills {
		if process(true) != nil {
			killed++
		}
	}
	if err := process(false); err != nil {
		t.Fatalf("the last worker, which nobody killed: %v", err)
	}

	st, err := badgerstore.Open(t.Context(), dir, badgerstore.Options{Configure: badgerstore.Small, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	runs := checkTrail(t, st, n)
	err = st.View(t.Context(), func(s store.Reader) error {
		for line := range acknowledged {
			var n uint64
			if _, err := fmt.Sscan(line, &n); err != nil {
				return err
			}
			if _, err := s.Get(trail.Key(binary.BigEndian.AppendUint64(nil, n))); err != nil {
				t.Errorf("record %d, which was acknowledged: %v", n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if killed == 0 || runs == n {
		t.Errorf("%d kills interrupted none of %d jobs", killed, n)
	}
	t.Logf("%d kills, %d jobs, %d runs, %d records", killed, n, runs, len(acknowledged))
}

// checkTrail wants n jobs in st, all completed, and of each on the trail one run after
// the other, the last one whole. It returns how many runs there were.
func checkTrail(t *testing.T, st store.Store, n int) (runs int) {
	t.Helper()
	last := map[systables.JobID]record{}
	err := st.View(t.Context(), func(s store.Reader) error {
		for e, err := range s.Scan(store.Scan{Prefix: trail.Prefix()}) {
			if err != nil {
				return err
			}
			var r record
			if err := value.Unmarshal(e.Value, &r); err != nil {
				return err
			}
			before, begun := last[r.Job]
			switch {
			case begun && r.Token == before.Token:
				if r.Step != before.Step+1 || r.Attempt != before.Attempt {
					t.Errorf("%+v comes after %+v", r, before)
				}
			case r.Step != 0 || r.Attempt <= before.Attempt:
				t.Errorf("%+v, of another run, comes after %+v", r, before)
			default:
				runs++
			}
			last[r.Job] = r
		}
		found := 0
		for job, err := range systables.Jobs.All(s, "") {
			if err != nil {
				return err
			}
			found++
			if job.Status != jobs.Completed {
				t.Errorf("job %s is %s: %+v", job.ID, job.Status, outcomeOf(job))
			}
			// A run that was killed before its first step left no record. Nor did one
			// that had made all of them and was killed before it was completed do more.
			if r := last[job.ID]; r.Step != steps-1 || r.Attempt != job.Attempts {
				t.Errorf("job %s was completed in run %d, its last record is %+v", job.ID, job.Attempts, r)
			}
		}
		if found != n {
			t.Errorf("%d jobs, want %d", found, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// TestTwoManagers: two managers of one store on the disk share its jobs, and every
// second one is cancelled meanwhile.
func TestTwoManagers(t *testing.T) {
	st, err := badgerstore.Open(t.Context(), t.TempDir(), badgerstore.Options{Configure: badgerstore.Small, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := systables.Initialize(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	var running sync.Map
	var ms []*jobs.Manager
	for _, node := range []string{"node-1", "node-2"} {
		m := newWorker(st, node, &running, func(uint64) {})
		start(t, m)
		ms = append(ms, m)
	}
	const n = 40
	var ids [n]systables.JobID
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			job, err := ms[i%2].Submit(t.Context(), jobs.Request{Type: "work"})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = job.ID
			if i%2 == 0 {
				return
			}
			if err := ms[i/2%2].Cancel(t.Context(), job.ID); err != nil && !errors.Is(err, jobs.ErrFinished) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, id := range ids {
		job := wait(t, ms[0], id)
		if job.Status != jobs.Completed && (i%2 == 0 || job.Status != jobs.Cancelled) || job.Attempts > 1 {
			t.Errorf("job %d: %+v", i, outcomeOf(job))
		}
	}
}
