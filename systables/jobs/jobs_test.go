package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// quiet are options for a test: nothing is logged and the store is not polled.
func quiet(o jobs.Options) jobs.Options {
	o.Logger = slog.New(slog.DiscardHandler)
	if o.Poll == 0 {
		o.Poll = -1
	}
	return o
}

// start starts m, and shuts it down when the test ends.
func start(t *testing.T, m *jobs.Manager) {
	t.Helper()
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(ended()); err != nil {
			t.Error(err)
		}
	})
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func submit(t *testing.T, m *jobs.Manager, req jobs.Request) systables.JobID {
	t.Helper()
	job, err := m.Submit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return job.ID
}

func wait(t *testing.T, m *jobs.Manager, id systables.JobID) systables.Job {
	t.Helper()
	job, err := m.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func get(t *testing.T, st store.Store, id systables.JobID) (job systables.Job) {
	t.Helper()
	err := st.View(t.Context(), func(s store.Reader) (err error) {
		job, err = systables.Jobs.Get(s, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// outcome is what a test looks at in a row.
type outcome struct {
	Status   string
	Attempts int32
	Result   string
	Error    string
}

func outcomeOf(job systables.Job) outcome {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return outcome{job.Status, job.Attempts, text(job.Result), text(job.ErrorMessage)}
}

func wantOutcome(t *testing.T, job systables.Job, want outcome) {
	t.Helper()
	if diff := cmp.Diff(want, outcomeOf(job)); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	finished := want.Status != jobs.Pending && want.Status != jobs.Running
	if (job.CompletedAt != nil) != finished || (job.NotBefore != nil) != (want.Status == jobs.Pending) ||
		(job.RunToken != nil) != (want.Status == jobs.Running) || (job.LeaseUntil != nil) != (want.Status == jobs.Running) {
		t.Errorf("job %+v has columns that do not go with its status", job)
	}
}

// none are the parameters of an executor that has none.
type none struct{}

// block waits until its context ends and returns why.
func block(ctx context.Context, _ *jobs.Run, _ none) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{NodeID: "node-1"}))
		type params struct {
			Rows int `json:"rows"`
		}
		jobs.Register(m, "count", jobs.Policy{}, func(_ context.Context, run *jobs.Run, p params) (any, error) {
			time.Sleep(time.Minute) // of the bubble
			return map[string]any{"rows": p.Rows, "node": run.Job.NodeID}, nil
		})
		start(t, m)
		synctest.Wait() // until it has found nothing to do
		begun := systables.At(time.Now())
		id := submit(t, m, jobs.Request{Type: "count", Namespace: "ns", Table: "users", Parameters: params{3}})
		synctest.Wait()
		wantOutcome(t, get(t, st, id), outcome{Status: jobs.Running, Attempts: 1})

		got := wait(t, m, id)
		wantOutcome(t, got, outcome{Status: jobs.Completed, Attempts: 1, Result: `{"node":"node-1","rows":3}`})
		table, text, end := "users", `{"rows":3}`, begun+60_000
		want := systables.Job{
			ID: id, Type: "count", NamespaceID: "ns", TableName: &table, Status: jobs.Completed,
			Parameters: &text, Result: got.Result, CreatedAt: begun, StartedAt: &begun, CompletedAt: &end,
			NodeID: "node-1", Attempts: 1,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("job (-want +got):\n%s", diff)
		}
	})
}

// TestResources: what a job took is what its executor says, or nothing.
func TestResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{}))
		type params struct {
			Knows bool `json:"knows"`
		}
		jobs.Register(m, "job", jobs.Policy{}, func(ctx context.Context, run *jobs.Run, p params) (any, error) {
			if !p.Knows {
				return nil, nil
			}
			return nil, run.Update(ctx, func(tx store.Txn) error {
				return systables.Jobs.Update(tx, run.Job.ID, func(job systables.Job) (systables.Job, error) {
					memory, cpu := int64(1<<20), int64(5000)
					job.MemoryUsed, job.CPUUsed = &memory, &cpu
					return job, nil
				})
			})
		})
		start(t, m)
		job := wait(t, m, submit(t, m, jobs.Request{Type: "job", Parameters: params{true}}))
		if job.MemoryUsed == nil || *job.MemoryUsed != 1<<20 || job.CPUUsed == nil || *job.CPUUsed != 5000 {
			t.Errorf("memory %v and CPU %v, want what the executor has set", job.MemoryUsed, job.CPUUsed)
		}
		job = wait(t, m, submit(t, m, jobs.Request{Type: "job"}))
		if job.MemoryUsed != nil || job.CPUUsed != nil {
			t.Errorf("memory %v and CPU %v, want none", job.MemoryUsed, job.CPUUsed)
		}
	})
}

// TestOrder: jobs run in the order in which they were created, those of one
// millisecond included, and those for later in their turn.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{Concurrency: 1}))
		type params struct {
			N int `json:"n"`
		}
		var got []int
		jobs.Register(m, "note", jobs.Policy{}, func(_ context.Context, _ *jobs.Run, p params) (any, error) {
			got = append(got, p.N)
			return nil, nil
		})
		now := time.Now()
		var last systables.JobID
		for n, later := range []time.Duration{0, time.Hour, 0, time.Minute, 0, 0} {
			id := submit(t, m, jobs.Request{Type: "note", Parameters: params{n}, NotBefore: now.Add(later)})
			if n == 1 {
				last = id
			}
		}
		start(t, m)
		wait(t, m, last)
		if diff := cmp.Diff([]int{0, 2, 4, 5, 3, 1}, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if took := time.Since(now); took != time.Hour {
			t.Errorf("the last began after %v, want an hour", took)
		}
	})
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{Concurrency: 3}))
		var mu sync.Mutex
		var now, most int
		jobs.Register(m, "slow", jobs.Policy{}, func(context.Context, *jobs.Run, none) (any, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Minute)
			mu.Lock()
			now--
			mu.Unlock()
			return nil, nil
		})
		start(t, m)
		begun := time.Now()
		var ids []systables.JobID
		for range 10 {
			ids = append(ids, submit(t, m, jobs.Request{Type: "slow"}))
		}
		for _, id := range ids {
			wantOutcome(t, wait(t, m, id), outcome{Status: jobs.Completed, Attempts: 1})
		}
		if took := time.Since(begun); most != 3 || took != 4*time.Minute {
			t.Errorf("%d ran at a time, and all took %v; want 3 and 4m", most, took)
		}
	})
}

func TestRetry(t *testing.T) {
	errRun := errors.New("disk on fire")
	tests := map[string]struct {
		policy jobs.Policy
		run    func(ctx context.Context, attempt int32) (any, error)
		want   outcome
		took   time.Duration
		trace  string
	}{
		"until it completes": {
			run: func(_ context.Context, attempt int32) (any, error) {
				if attempt < 4 {
					return nil, errRun
				}
				return "done", nil
			},
			want: outcome{Status: jobs.Completed, Attempts: 4, Result: `"done"`},
			took: (1 + 2 + 4) * time.Second,
		},
		"five times": {
			run:  func(context.Context, int32) (any, error) { return nil, errRun },
			want: outcome{Status: jobs.Failed, Attempts: 5, Error: errRun.Error()},
			took: (1 + 2 + 4 + 8) * time.Second,
		},
		"as often as the policy says": {
			policy: jobs.Policy{Attempts: 3, Backoff: 50 * time.Minute},
			run:    func(context.Context, int32) (any, error) { return nil, errRun },
			want:   outcome{Status: jobs.Failed, Attempts: 3, Error: errRun.Error()},
			took:   50*time.Minute + time.Hour,
		},
		"not after a permanent error": {
			run: func(context.Context, int32) (any, error) {
				return nil, fmt.Errorf("%w: no such table", jobs.ErrPermanent)
			},
			want: outcome{Status: jobs.Failed, Attempts: 1, Error: "permanent failure: no such table"},
		},
		"after a panic": {
			policy: jobs.Policy{Attempts: 2},
			run:    func(context.Context, int32) (any, error) { panic("at the disco") },
			want:   outcome{Status: jobs.Failed, Attempts: 2, Error: "panic: at the disco"},
			took:   time.Second,
			trace:  "jobs_test.go",
		},
		"after it ended its goroutine": {
			policy: jobs.Policy{Attempts: 2},
			run:    func(context.Context, int32) (any, error) { runtime.Goexit(); return nil, nil },
			want:   outcome{Status: jobs.Failed, Attempts: 2, Error: "the function ended its goroutine (runtime.Goexit)"},
			took:   time.Second,
			trace:  "jobs_test.go",
		},
		"with an error that is no text": {
			policy: jobs.Policy{Attempts: 1},
			run:    func(context.Context, int32) (any, error) { return nil, errors.New("byte \xff") },
			want:   outcome{Status: jobs.Failed, Attempts: 1, Error: "byte \uFFFD"},
		},
		"with an error that is a nil pointer": {
			policy: jobs.Policy{Attempts: 1},
			run:    func(context.Context, int32) (any, error) { var err *hollow; return nil, err },
			want:   outcome{Status: jobs.Failed, Attempts: 1, Error: "panic: runtime error: invalid memory address or nil pointer dereference"},
			trace:  "jobs_test.go",
		},
		"with an error that is too long": {
			policy: jobs.Policy{Attempts: 1},
			run:    func(context.Context, int32) (any, error) { return nil, errors.New("x" + strings.Repeat("é", 20_000)) },
			want:   outcome{Status: jobs.Failed, Attempts: 1, Error: "x" + strings.Repeat("é", 8<<10-1) + "…"},
		},
		"not with a result that panics": {
			run:  func(context.Context, int32) (any, error) { return explosive{}, nil },
			want: outcome{Status: jobs.Failed, Attempts: 5, Error: "panic: boom"},
			took: (1 + 2 + 4 + 8) * time.Second, trace: "jobs_test.go",
		},
		"after a timeout": {
			policy: jobs.Policy{Attempts: 1, Timeout: time.Minute},
			run: func(ctx context.Context, _ int32) (any, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
			want: outcome{Status: jobs.Failed, Attempts: 1, Error: "context deadline exceeded: the job took longer than 1m0s: context deadline exceeded"},
			took: time.Minute,
		},
		"not with a result that has no encoding": {
			run:  func(context.Context, int32) (any, error) { return func() {}, nil },
			want: outcome{Status: jobs.Failed, Attempts: 1, Error: "permanent failure: encode result: json: unsupported type: func()"},
		},
		"not with a result that is too long": {
			run:  func(context.Context, int32) (any, error) { return strings.Repeat("x", 1<<20), nil },
			want: outcome{Status: jobs.Failed, Attempts: 1, Error: "permanent failure: the result has 1048578 bytes and may have 65536"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := jobs.New(newMemory(t), quiet(jobs.Options{}))
				jobs.Register(m, "try", tt.policy, func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
					return tt.run(ctx, run.Job.Attempts)
				})
				start(t, m)
				begun := time.Now()
				job := wait(t, m, submit(t, m, jobs.Request{Type: "try"}))
				wantOutcome(t, job, tt.want)
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if tt.trace == "" && job.Trace != nil || tt.trace != "" && (job.Trace == nil || !strings.Contains(*job.Trace, tt.trace)) {
					t.Errorf("trace is %v, want %q in it", job.Trace, tt.trace)
				}
			})
		})
	}
}

// A hollow is an error that panics if it is a nil pointer.
type hollow struct{ err error }

func (e *hollow) Error() string { return e.err.Error() }

// An explosive panics when it is encoded.
type explosive struct{}

func (explosive) MarshalJSON() ([]byte, error) { panic("boom") }

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{Concurrency: 1}))
		other := jobs.New(st, quiet(jobs.Options{}))
		var causes []error
		executor := func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
			<-ctx.Done()
			causes = append(causes, context.Cause(ctx), run.Update(t.Context(), func(store.Txn) error {
				t.Error("a cancelled run wrote")
				return nil
			}))
			return "late", nil
		}
		jobs.Register(m, "block", jobs.Policy{}, executor)
		jobs.Register(other, "block", jobs.Policy{}, executor)
		jobs.Register(m, "end", jobs.Policy{}, func(context.Context, *jobs.Run, none) (any, error) { return nil, nil })
		start(t, m)
		here := submit(t, m, jobs.Request{Type: "block"})
		elsewhere := submit(t, m, jobs.Request{Type: "block"})
		pending := submit(t, m, jobs.Request{Type: "block"})
		synctest.Wait()
		begun := time.Now()
		for range 2 { // the second changes nothing
			for _, id := range []systables.JobID{pending, here} {
				if err := m.Cancel(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				wantOutcome(t, wait(t, m, id), outcome{Status: jobs.Cancelled, Attempts: get(t, st, id).Attempts})
			}
		}
		synctest.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("a run of this manager was told after %v, want at once", took)
		}
		wantOutcome(t, get(t, st, elsewhere), outcome{Status: jobs.Running, Attempts: 1})
		if err := other.Cancel(t.Context(), elsewhere); err != nil {
			t.Fatal(err)
		}
		done := wait(t, m, submit(t, m, jobs.Request{Type: "end"})) // when the place is free
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("a run of another manager was told after %v, want a third of the lease", took)
		}
		want := []error{jobs.ErrCancelled, jobs.ErrCancelled, jobs.ErrCancelled, jobs.ErrCancelled}
		if !slices.EqualFunc(want, causes, func(want, got error) bool { return errors.Is(got, want) }) {
			t.Errorf("causes and errors of Update are %v, want %v", causes, want)
		}
		if err := m.Cancel(t.Context(), done.ID); !errors.Is(err, jobs.ErrFinished) {
			t.Errorf("Cancel of a completed job: %v, want ErrFinished", err)
		}
		if err := m.Cancel(t.Context(), "none"); !errors.Is(err, systables.ErrNotFound) {
			t.Errorf("Cancel of no job: %v, want ErrNotFound", err)
		}
		wantOutcome(t, get(t, st, here), outcome{Status: jobs.Cancelled, Attempts: 1})
	})
}

func TestIdempotencyKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{}))
		runs := 0
		type params struct {
			N int `json:"n"`
		}
		for _, typ := range []string{"one", "two"} {
			jobs.Register(m, typ, jobs.Policy{}, func(context.Context, *jobs.Run, params) (any, error) {
				runs++
				return nil, nil
			})
		}
		start(t, m)
		req := jobs.Request{Type: "one", Parameters: params{1}, IdempotencyKey: "nightly"}
		var wg sync.WaitGroup
		ids := make([]systables.JobID, 8)
		for i := range ids {
			wg.Go(func() { ids[i] = submit(t, m, req) })
		}
		wg.Wait()
		wait(t, m, ids[0])
		ids = append(ids, submit(t, m, req)) // after it has completed
		synctest.Wait()
		if n := len(slices.Compact(ids)); n != 1 || runs != 1 {
			t.Errorf("one key gave %d jobs and %d runs, want one of each", n, runs)
		}
		for name, req := range map[string]jobs.Request{
			"another type":     {Type: "two", Parameters: params{1}, IdempotencyKey: "nightly"},
			"other parameters": {Type: "one", Parameters: params{2}, IdempotencyKey: "nightly"},
		} {
			if _, err := m.Submit(t.Context(), req); !errors.Is(err, jobs.ErrKeyTaken) {
				t.Errorf("the key with %s: %v, want ErrKeyTaken", name, err)
			}
		}
		if a, b := submit(t, m, jobs.Request{Type: "one"}), submit(t, m, jobs.Request{Type: "one"}); a == b {
			t.Error("two jobs without a key are one")
		}
	})
}

// TestSameParameters: an idempotency key belongs to the values of its parameters, and
// not to how they are written.
func TestSameParameters(t *testing.T) {
	const text = `{"n": 9007199254740993, "f": 100, "any": {"a": [1, "ü", null], "b": -0.5}}`
	tests := map[string]struct {
		other string
		same  bool
	}{
		"as it was":                {text, true},
		"order of fields":          {`{"any":{"b":-0.5,"a":[1,"ü",null]},"f":100,"n":9007199254740993}`, true},
		"white space":              {"{\n\t\"n\" :9007199254740993, \"f\":100, \"any\":{\"a\":[ 1,\"ü\",null],\"b\":-0.5}}", true},
		"escapes":                  {`{"n": 9007199254740993, "f": 100, "any": {"\u0061": [1, "\u00fc", null], "b": -0.5}}`, true},
		"zeros":                    {`{"n": 9007199254740993, "f": 1.00e+2, "any": {"a": [1.0, "ü", null], "b": -0.50}}`, true},
		"exponents":                {`{"n": 9007199254740993, "f": 0.1E3, "any": {"a": [10e-1, "ü", null], "b": -500e-3}}`, true},
		"the next integer":         {`{"n": 9007199254740992, "f": 100, "any": {"a": [1, "ü", null], "b": -0.5}}`, false},
		"the next power":           {`{"n": 9007199254740993, "f": 1000, "any": {"a": [1, "ü", null], "b": -0.5}}`, false},
		"the sign":                 {`{"n": 9007199254740993, "f": 100, "any": {"a": [1, "ü", null], "b": 0.5}}`, false},
		"a number as text":         {`{"n": 9007199254740993, "f": 100, "any": {"a": ["1", "ü", null], "b": -0.5}}`, false},
		"the order of a list":      {`{"n": 9007199254740993, "f": 100, "any": {"a": ["ü", 1, null], "b": -0.5}}`, false},
		"a field that is left out": {`{"n": 9007199254740993, "any": {"a": [1, "ü", null], "b": -0.5}}`, false},
		"a huge exponent":          {`{"n": 9007199254740993, "f": 100, "any": {"a": [1e999999999999999999999, "ü", null], "b": -0.5}}`, false},
	}
	type params struct {
		N   int64           `json:"n"`
		F   float64         `json:"f"`
		Any json.RawMessage `json:"any"`
	}
	st := newMemory(t)
	m := jobs.New(st, quiet(jobs.Options{}))
	jobs.Register(m, "job", jobs.Policy{}, func(context.Context, *jobs.Run, params) (any, error) { return nil, nil })
	first := submit(t, m, jobs.Request{Type: "job", Parameters: json.RawMessage(text), IdempotencyKey: "key"})
	for name, tt := range tests {
		job, err := m.Submit(t.Context(), jobs.Request{Type: "job", Parameters: json.RawMessage(tt.other), IdempotencyKey: "key"})
		switch {
		case tt.same && (err != nil || job.ID != first):
			t.Errorf("%s: job %s, %v; want the first one", name, job.ID, err)
		case !tt.same && !errors.Is(err, jobs.ErrKeyTaken):
			t.Errorf("%s: %v, want ErrKeyTaken", name, err)
		}
	}
	for other, same := range map[string]bool{"0": true, "-0.0e5": true, "0e-7": true, "1e-7": false} {
		one := jobs.Request{Type: "job", Parameters: json.RawMessage(`{"f": 0}`), IdempotencyKey: "zero"}
		submit(t, m, one)
		one.Parameters = json.RawMessage(`{"f": ` + other + `}`)
		if _, err := m.Submit(t.Context(), one); (err == nil) != same {
			t.Errorf("0 and %s: %v, want that they are the same = %t", other, err, same)
		}
	}
}

type strict struct {
	Table string          `json:"table"`
	Days  int             `json:"days"`
	After time.Time       `json:"after,omitzero"`
	Deep  struct{ A int } `json:"deep,omitzero"`
}

func (p strict) Validate() error {
	if p.Days < 0 {
		return errors.New("days is negative")
	}
	return nil
}

func TestParameters(t *testing.T) {
	tests := map[string]struct {
		params any
		faults []string // parts of the error; nil if there is none
	}{
		"good": {params: strict{Table: "users", Days: 1}},
		"none": {},
		"every fault at once": {
			params: json.RawMessage(`{"table": 1, "days": -1, "dais": 2, "after": "noon", "after": "2025-01-15T12:00:00Z", "Table": "t", "deep": {"B": 1}}`),
			faults: []string{`"table": want type string, not a number`, "days is negative", `"dais" is unknown`, `"after": parsing time`, `"after" comes twice`, `"Table" is unknown`, `"deep": json: unknown field`},
		},
		"no object":   {params: []int{1}, faults: []string{"no JSON object"}},
		"no encoding": {params: func() {}, faults: []string{"encode parameters"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := newMemory(t)
			m := jobs.New(st, quiet(jobs.Options{}))
			jobs.Register(m, "strict", jobs.Policy{}, func(context.Context, *jobs.Run, strict) (any, error) { return nil, nil })
			before, _ := st.transactions()
			job, err := m.Submit(t.Context(), jobs.Request{Type: "strict", Parameters: tt.params})
			if tt.faults == nil {
				if err != nil {
					t.Fatal(err)
				}
				wantOutcome(t, get(t, st, job.ID), outcome{Status: jobs.Pending})
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, fault := range tt.faults {
				if !strings.Contains(err.Error(), fault) {
					t.Errorf("error %q\nwant in it: %s", err, fault)
				}
			}
			if faults, ok := errors.AsType[*multierror.Error](err); ok && len(faults.Errors) != len(tt.faults) {
				t.Errorf("%d faults, want %d: %v", len(faults.Errors), len(tt.faults), err)
			}
			if after, _ := st.transactions(); after != before {
				t.Error("the store was used for a job that is refused")
			}
		})
	}

	m := jobs.New(newMemory(t), quiet(jobs.Options{}))
	for _, have := range []string{"none", "block", "block, wait"} {
		_, err := m.Submit(t.Context(), jobs.Request{Type: "strict"})
		want := `submit job of type "strict": no executor is registered for this type of job: those that are: ` + have
		if !errors.Is(err, jobs.ErrUnknownType) || err.Error() != want {
			t.Errorf("Submit of an unknown type: %v, want %s", err, want)
		}
		jobs.Register(m, map[string]string{"none": "block", "block": "wait", "block, wait": "last"}[have], jobs.Policy{}, block)
	}
}

// TestStoredParameters: what somebody else wrote in a job's row is not trusted.
func TestStoredParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{}))
		jobs.Register(m, "strict", jobs.Policy{}, func(context.Context, *jobs.Run, strict) (any, error) { return nil, nil })
		text, due := `{"days": -1}`, systables.Timestamp(0)
		err := st.Update(t.Context(), func(tx store.Txn) error {
			return systables.Jobs.Insert(tx, systables.Job{ID: "a", Type: "strict", Status: jobs.Pending, Parameters: &text, NotBefore: &due})
		})
		if err != nil {
			t.Fatal(err)
		}
		start(t, m)
		job := wait(t, m, "a")
		if got := outcomeOf(job); got.Status != jobs.Failed || got.Attempts != 1 || !strings.Contains(got.Error, "days is negative") {
			t.Errorf("job %+v, want it failed after one run because days is negative", got)
		}
	})
}

// A touchy panics when it is asked what is wrong with it, and has a parameter that
// panics when it is decoded.
type touchy struct {
	Fuse fuse `json:"fuse"`
	N    int  `json:"n"`
}

func (p touchy) Validate() error {
	switch {
	case p.N == 1:
		panic("boom")
	case p.N > 1:
		var err *hollow
		return err
	}
	return nil
}

type fuse struct{}

func (*fuse) UnmarshalJSON([]byte) error { panic("hiss") }

// TestParametersPanic: a panic of the code that looks at parameters is an error of
// Submit, and makes a job that is stored all the same fail.
func TestParametersPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{}))
		jobs.Register(m, "touchy", jobs.Policy{}, func(context.Context, *jobs.Run, touchy) (any, error) { return nil, nil })
		for _, tt := range []struct {
			params any
			want   string
		}{
			{json.RawMessage(`{"n": 1}`), "validate parameters: panic: boom"},
			{json.RawMessage(`{"n": 2}`), "validate parameters: panic: runtime error: invalid memory address or nil pointer dereference"},
			{json.RawMessage(`{"fuse": 1, "x": 2}`), `parameter "fuse": panic: hiss; parameter "x" is unknown`},
			{explosive{}, "encode parameters: panic: boom"},
		} {
			_, err := m.Submit(t.Context(), jobs.Request{Type: "touchy", Parameters: tt.params})
			p, ok := errors.AsType[*jobs.PanicError](err)
			if want := `submit job of type "touchy": ` + tt.want; !ok || err.Error() != want || !strings.Contains(string(p.Stack), "jobs_test.go") {
				t.Errorf("Submit: %v, want %s with a stack", err, want)
			}
		}
		text, due := `{"n": 1}`, systables.Timestamp(0)
		err := st.Update(t.Context(), func(tx store.Txn) error {
			return systables.Jobs.Insert(tx, systables.Job{ID: "a", Type: "touchy", Status: jobs.Pending, Parameters: &text, NotBefore: &due})
		})
		if err != nil {
			t.Fatal(err)
		}
		start(t, m)
		job := wait(t, m, "a")
		wantOutcome(t, job, outcome{Status: jobs.Failed, Attempts: 1, Error: "permanent failure: validate parameters: panic: boom"})
		if job.Trace == nil || !strings.Contains(*job.Trace, "jobs_test.go") {
			t.Errorf("trace is %v, want the stack", job.Trace)
		}
	})
}

// Paging are parameters that others have in them.
type Paging struct {
	Limit int
	Skip  int `json:"skip,omitempty"`
}

// TestFields: parameters have the names that package encoding/json gives them.
func TestFields(t *testing.T) {
	type params struct {
		Paging
		Plain  string
		Tagged int64 `json:"tagged,string"`
		Out    int   `json:"-"`
	}
	want := params{Paging: Paging{Limit: 3, Skip: 4}, Plain: "p", Tagged: 5}
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{}))
		jobs.Register(m, "job", jobs.Policy{}, func(_ context.Context, _ *jobs.Run, got params) (any, error) {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			return nil, nil
		})
		start(t, m)
		wantOutcome(t, wait(t, m, submit(t, m, jobs.Request{Type: "job", Parameters: want})), outcome{Status: jobs.Completed, Attempts: 1})
		_, err := m.Submit(t.Context(), jobs.Request{Type: "job", Parameters: json.RawMessage(`{"plain": "p", "Out": 1, "Paging": {}}`)})
		if want := `submit job of type "job": parameter "plain" is unknown; parameter "Out" is unknown; parameter "Paging" is unknown`; err == nil || err.Error() != want {
			t.Errorf("Submit: %v, want %s", err, want)
		}
	})
}

// TestChecks: what a program looks at before a job is stored is said together with what
// else is wrong, and is not looked at again when the job runs.
func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := jobs.New(newMemory(t), quiet(jobs.Options{}))
		open := true
		jobs.Register(m, "strict", jobs.Policy{}, func(context.Context, *jobs.Run, strict) (any, error) { return nil, nil },
			func(ctx context.Context, p strict) error {
				if !open {
					return fmt.Errorf("table %s is shut: %v", p.Table, ctx.Value(ctxKey{}))
				}
				return nil
			},
			func(context.Context, strict) error {
				if !open {
					panic("boom")
				}
				return nil
			})
		id := submit(t, m, jobs.Request{Type: "strict", Parameters: strict{Table: "users"}})
		open = false
		_, err := m.Submit(context.WithValue(t.Context(), ctxKey{}, "at night"), jobs.Request{Type: "strict", Parameters: strict{Table: "users", Days: -1}})
		if want := `submit job of type "strict": days is negative; table users is shut: at night; validate parameters: panic: boom`; err == nil || err.Error() != want {
			t.Errorf("Submit: %v, want %s", err, want)
		}
		start(t, m)
		wantOutcome(t, wait(t, m, id), outcome{Status: jobs.Completed, Attempts: 1})
	})
}

type ctxKey struct{}

// TestStartFaults: what is wrong with a manager is said when it starts, all at once.
func TestStartFaults(t *testing.T) {
	m := jobs.New(newMemory(t), quiet(jobs.Options{Lease: time.Nanosecond, Grace: -1, Concurrency: -1}))
	for _, typ := range []string{"a", "a", ""} {
		jobs.Register(m, typ, jobs.Policy{}, block)
	}
	jobs.Register[none](m, "b", jobs.Policy{Attempts: -1, Backoff: -1, Timeout: -1}, nil)
	jobs.Register(m, "c", jobs.Policy{}, func(context.Context, *jobs.Run, *none) (any, error) { return nil, nil })
	jobs.Register(m, "d", jobs.Policy{}, func(context.Context, *jobs.Run, map[string]any) (any, error) { return nil, nil })
	err := m.Start(t.Context())
	const want = `start job manager: concurrency is negative; a lease of 1ns is too short: want 10ms at least; grace is negative; ` +
		`executor of type "a": it is registered twice; executor of type "": want a type; ` +
		`executor of type "b": want a function; executor of type "b": attempts are negative; executor of type "b": backoff is negative; executor of type "b": timeout is negative; ` +
		`executor of type "c": parameters of type *jobs_test.none: want a struct; executor of type "d": parameters of type map[string]interface {}: want a struct`
	if err == nil || err.Error() != want {
		t.Errorf("Start:\n%v\nwant\n%s", err, want)
	}
}

// TestInterrupted: what a dead manager was running is run again or fails, as the
// policy says: at once by a manager of its node, by others when its lease ends.
func TestInterrupted(t *testing.T) {
	again := outcome{Status: jobs.Completed, Attempts: 2}
	tests := map[string]struct {
		policy jobs.Policy
		node   string // of the manager that comes after the dead one
		want   outcome
		took   time.Duration
	}{
		"run again by its node":       {node: "node-1", want: again},
		"run again by another node":   {node: "node-2", want: again, took: 45 * time.Second},
		"run again by a nameless one": {want: again, took: 45 * time.Second},
		"fails": {policy: jobs.Policy{FailInterrupted: true}, node: "node-1",
			want: outcome{Status: jobs.Failed, Attempts: 1, Error: "interrupted in run 1: its process ended, or gave no sign of life"}},
		"fails the last time": {policy: jobs.Policy{Attempts: 1}, node: "node-1",
			want: outcome{Status: jobs.Failed, Attempts: 1, Error: "interrupted in run 1: its process ended, or gave no sign of life"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemory(t)
				dead := jobs.New(st, quiet(jobs.Options{NodeID: "node-1"}))
				jobs.Register(dead, "job", tt.policy, func(ctx context.Context, _ *jobs.Run, _ none) (any, error) {
					<-ctx.Done()
					return nil, nil
				})
				if err := dead.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				id := submit(t, dead, jobs.Request{Type: "job"})
				synctest.Wait()
				snapshot := &memory{entries: st.entries} // as the process left it when it died
				if err := dead.Shutdown(ended()); err != nil {
					t.Fatal(err)
				}

				m := jobs.New(snapshot, quiet(jobs.Options{NodeID: tt.node}))
				jobs.Register(m, "job", tt.policy, func(context.Context, *jobs.Run, none) (any, error) { return nil, nil })
				begun := time.Now()
				start(t, m)
				wantOutcome(t, wait(t, m, id), tt.want)
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// TestLostLease: a manager that cannot renew a lease tells its run to stop before
// another takes it over, and what the run then writes is refused.
func TestLostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{Concurrency: 1, NodeID: "node-1"}))
		begun := time.Now()
		var told time.Duration
		var late error
		jobs.Register(m, "job", jobs.Policy{}, func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
			if run.Job.Attempts == 1 {
				st.setFail(errors.New("store is out of order"))
				<-ctx.Done()
				told = time.Since(begun)
				if !errors.Is(context.Cause(ctx), jobs.ErrLost) {
					t.Errorf("the cause is %v, want ErrLost", context.Cause(ctx))
				}
				st.setFail(nil)
				time.Sleep(time.Hour) // it does not obey
				late = run.Update(t.Context(), func(store.Txn) error { return nil })
			}
			return run.Job.Attempts, nil
		})
		other := jobs.New(st, quiet(jobs.Options{NodeID: "node-2"}))
		jobs.Register(other, "job", jobs.Policy{}, func(_ context.Context, run *jobs.Run, _ none) (any, error) {
			return run.Job.NodeID, nil
		})
		start(t, m)
		id := submit(t, m, jobs.Request{Type: "job"})
		synctest.Wait()
		time.Sleep(31 * time.Second)
		start(t, other)
		wantOutcome(t, wait(t, other, id), outcome{Status: jobs.Completed, Attempts: 2, Result: `"node-2"`})
		if told == 0 || told > 30*time.Second {
			t.Errorf("the run was told after %v, want it within the lease", told)
		}
		time.Sleep(2 * time.Hour)
		if !errors.Is(late, jobs.ErrLost) {
			t.Errorf("Update of the run that lost its job: %v, want ErrLost", late)
		}
		wantOutcome(t, get(t, st, id), outcome{Status: jobs.Completed, Attempts: 2, Result: `"node-2"`})
	})
}

// TestStubborn: a run that has lost its job and does not stop keeps its manager from
// running the job a second time.
func TestStubborn(t *testing.T) {
	tests := map[string]struct {
		taken bool // whether another manager puts the job back, and has no place for it
		want  outcome
	}{
		"nobody takes it":   {want: outcome{Status: jobs.Completed, Attempts: 1, Result: "1"}},
		"another puts back": {taken: true, want: outcome{Status: jobs.Completed, Attempts: 2, Result: "2"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemory(t)
				m, other := jobs.New(st, quiet(jobs.Options{})), jobs.New(st, quiet(jobs.Options{Concurrency: 1}))
				runs, most := 0, 0
				executor := func(ctx context.Context, run *jobs.Run, _ none) (any, error) {
					runs++
					most = max(most, runs)
					defer func() { runs-- }()
					if run.Job.Attempts == 1 {
						st.setFail(errors.New("store is out of order"))
						<-ctx.Done()
						st.setFail(nil)
						time.Sleep(time.Hour)
					}
					return run.Job.Attempts, nil
				}
				jobs.Register(m, "job", jobs.Policy{}, executor)
				jobs.Register(other, "job", jobs.Policy{}, executor)
				jobs.Register(other, "block", jobs.Policy{}, block)
				if tt.taken {
					start(t, other)
					submit(t, other, jobs.Request{Type: "block"})
					synctest.Wait()
					time.Sleep(25 * time.Second) // it renews that lease before the store fails
				}
				start(t, m)
				id := submit(t, m, jobs.Request{Type: "job"})
				time.Sleep(2 * time.Hour)
				wantOutcome(t, get(t, st, id), tt.want)
				if most != 1 {
					t.Errorf("%d runs at a time", most)
				}
			})
		})
	}
}

// TestRenewed: a job that takes longer than its lease stays its manager's.
func TestRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		runs := 0
		var ms []*jobs.Manager
		for range 2 {
			m := jobs.New(st, quiet(jobs.Options{Poll: time.Second}))
			jobs.Register(m, "long", jobs.Policy{}, func(_ context.Context, run *jobs.Run, _ none) (any, error) {
				runs++
				time.Sleep(time.Hour)
				return nil, run.Update(t.Context(), func(store.Txn) error { return nil })
			})
			start(t, m)
			ms = append(ms, m)
		}
		job := wait(t, ms[1], submit(t, ms[0], jobs.Request{Type: "long"}))
		wantOutcome(t, job, outcome{Status: jobs.Completed, Attempts: 1})
		if runs != 1 {
			t.Errorf("%d runs, want one", runs)
		}
	})
}

func TestShutdown(t *testing.T) {
	tests := map[string]struct {
		patience time.Duration // of the context of Shutdown
		run      func(ctx context.Context) (any, error)
		want     outcome
		took     time.Duration
		stays    bool // whether Shutdown says that a job did not stop
	}{
		"waits": {
			patience: time.Hour,
			run:      func(context.Context) (any, error) { time.Sleep(time.Minute); return nil, nil },
			want:     outcome{Status: jobs.Completed, Attempts: 1},
			took:     time.Minute,
		},
		"puts back": {
			patience: time.Minute,
			run:      func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
			want:     outcome{Status: jobs.Pending},
			took:     time.Minute,
		},
		"keeps what completes all the same": {
			patience: time.Minute,
			run:      func(ctx context.Context) (any, error) { <-ctx.Done(); time.Sleep(time.Second); return "ok", nil },
			want:     outcome{Status: jobs.Completed, Attempts: 1, Result: `"ok"`},
			took:     time.Minute + time.Second,
		},
		"gives up": {
			patience: time.Minute,
			run:      func(context.Context) (any, error) { time.Sleep(time.Hour); return nil, nil },
			want:     outcome{Status: jobs.Running, Attempts: 1},
			took:     time.Minute + 5*time.Second,
			stays:    true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemory(t)
				m := jobs.New(st, quiet(jobs.Options{Concurrency: 1}))
				jobs.Register(m, "job", jobs.Policy{}, func(ctx context.Context, _ *jobs.Run, _ none) (any, error) {
					return tt.run(ctx)
				})
				if err := m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				id := submit(t, m, jobs.Request{Type: "job"})
				next := submit(t, m, jobs.Request{Type: "job"})
				synctest.Wait()
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
				defer cancel()
				err := m.Shutdown(ctx)
				if stays := errors.Is(err, context.DeadlineExceeded); stays != tt.stays || !stays && err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				wantOutcome(t, get(t, st, id), tt.want)
				wantOutcome(t, get(t, st, next), outcome{Status: jobs.Pending})
				if err := m.Start(t.Context()); err == nil {
					t.Error("it could be started again")
				}
				time.Sleep(2 * time.Hour)
				wantOutcome(t, get(t, st, next), outcome{Status: jobs.Pending})
			})
		})
	}
}

func TestShutdownBeforeStart(t *testing.T) {
	m := jobs.New(newMemory(t), quiet(jobs.Options{}))
	if err := m.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Start(t.Context()); err == nil {
		t.Error("it could be started after Shutdown")
	}
}

// TestIdle: with nothing to do a manager does next to nothing, and nothing that it
// cannot run makes it busy.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		other := jobs.New(st, quiet(jobs.Options{}))
		m := jobs.New(st, quiet(jobs.Options{Concurrency: 1}))
		jobs.Register(other, "foreign", jobs.Policy{}, block)
		jobs.Register(m, "block", jobs.Policy{}, block)
		start(t, m)
		submit(t, other, jobs.Request{Type: "foreign"})
		submit(t, m, jobs.Request{Type: "block", NotBefore: time.Now().Add(48 * time.Hour)})
		hour := func() int {
			synctest.Wait()
			before, _ := st.transactions()
			time.Sleep(time.Hour)
			after, _ := st.transactions()
			return after - before
		}
		// It looks for interrupted jobs four times a minute, and for due ones then.
		if views := hour(); views > 2*240 {
			t.Errorf("%d transactions in an hour with nothing to do", views)
		}
		submit(t, m, jobs.Request{Type: "block"})
		submit(t, m, jobs.Request{Type: "block"}) // has no place
		if views := hour(); views > 240+1 {
			t.Errorf("%d reads in an hour with no place", views)
		}
	})
}

// TestPoll: a job that another manager submitted is noticed by looking.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{Poll: 5 * time.Second}))
		other := jobs.New(st, quiet(jobs.Options{}))
		for _, m := range []*jobs.Manager{m, other} {
			jobs.Register(m, "job", jobs.Policy{}, func(context.Context, *jobs.Run, none) (any, error) { return nil, nil })
		}
		start(t, m)
		time.Sleep(12 * time.Second)
		id := submit(t, other, jobs.Request{Type: "job"})
		begun := time.Now()
		wantOutcome(t, wait(t, m, id), outcome{Status: jobs.Completed, Attempts: 1})
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it was noticed after %v, want 5 s at most", took)
		}
	})
}

// TestStoreFails: a store that is out of order for a while loses no job.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemory(t)
		m := jobs.New(st, quiet(jobs.Options{}))
		jobs.Register(m, "job", jobs.Policy{}, func(context.Context, *jobs.Run, none) (any, error) {
			time.Sleep(time.Minute)
			return nil, nil
		})
		start(t, m)
		id := submit(t, m, jobs.Request{Type: "job", NotBefore: time.Now().Add(time.Minute)})
		synctest.Wait()
		st.setFail(errors.New("store is out of order"))
		time.Sleep(time.Hour)
		st.setFail(nil)
		wantOutcome(t, wait(t, m, id), outcome{Status: jobs.Completed, Attempts: 1})
	})
}
