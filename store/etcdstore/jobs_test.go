package etcdstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrations"
	"github.com/kvmigrate/kvmigrate/store"
	"github.com/kvmigrate/kvmigrate/store/etcdstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// greeting are the parameters of a job that leaves its name behind.
type greeting struct {
	Name string `json:"name"`
}

// newGreeter returns a manager whose jobs fail if they are tried twice or interrupted.
func newGreeter(st store.Store, node string) *jobs.Manager {
	m := jobs.New(st, jobs.Options{NodeID: node, Poll: 20 * time.Millisecond, Logger: quiet})
	jobs.Register(m, "greet", jobs.Policy{Attempts: 1, FailInterrupted: true}, func(ctx context.Context, run *jobs.Run, p greeting) (any, error) {
		key := []byte("greetings/" + p.Name)
		greet := func(tx store.Txn) error {
			switch _, err := tx.Get(key); {
			case err == nil:
				return nil // the attempt before took effect
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
			return tx.Set(store.Entry{Key: key, Value: []byte("step of " + p.Name)})
		}
		err := run.Update(ctx, greet)
		if errors.Is(err, store.ErrUnknown) {
			err = run.Update(ctx, greet)
		}
		return "result of " + p.Name, err
	})
	return m
}

// TestJobs cuts the connection of a job manager at each of its commits: no job is lost,
// none is there or runs twice, also not by a request that arrives when all is over.
func TestJobs(t *testing.T) {
	p := startProxy(t, sharedAddress(t))
	prefix := newPrefix()
	direct := open(t, prefix, etcdstore.Options{}, sharedAddress(t))
	_, err := migrate.Up(t.Context(), direct, migrate.Options{Schema: migrations.Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	m := newGreeter(open(t, prefix, etcdstore.Options{}, p.address()), "node-1")
	elsewhere := newGreeter(direct, "node-2") // which runs none
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	want := map[systables.JobID]string{}
	for rule, ruleName := range map[rule]string{dropRequest: "request lost", dropResponse: "response lost", holdRequest: "request late"} {
		for _, test := range []struct {
			name string
			cut  string        // what is before the name in the request that is cut
			by   *jobs.Manager // who submits
		}{
			{"submit", "", m},
			{"claim", "", elsewhere}, // m writes the name first when it claims
			{"step", "step of ", elsewhere},
			{"finish", "result of ", elsewhere},
		} {
			name := test.name + ", " + ruleName
			p.set(rule, test.cut+name)
			job, err := test.by.Submit(t.Context(), jobs.Request{Type: "greet", Parameters: greeting{name}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := m.Wait(t.Context(), job.ID); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if p.left() != passOn {
				t.Errorf("%s: the proxy has met no request to cut", name)
			}
			want[job.ID] = fmt.Sprintf(`completed in run 1: "result of %s"`, name)
		}
	}
	p.release()
	got := map[systables.JobID]string{}
	greetings := 0
	err = direct.View(t.Context(), func(s store.Reader) error {
		for job, err := range systables.Jobs.All(s, "") {
			if err != nil {
				return err
			}
			got[job.ID] = fmt.Sprintf("%s in run %d: %v", job.Status, job.Attempts, textOr(job.Result, job.ErrorMessage))
		}
		for _, err := range s.Scan(store.Scan{Prefix: []byte("greetings/"), KeysOnly: true}) {
			if err != nil {
				return err
			}
			greetings++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || greetings != len(want) {
		t.Errorf("%d greetings, jobs (-want +got):\n%s", greetings, diff)
	}
}

// textOr returns the first of texts that is there.
func textOr(texts ...*string) string {
	for _, text := range texts {
		if text != nil {
			return *text
		}
	}
	return ""
}
