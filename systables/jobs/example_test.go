package jobs_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvmigrate/kvmigrate/store/badgerstore"
	"github.com/kvmigrate/kvmigrate/systables"
	"github.com/kvmigrate/kvmigrate/systables/jobs"
)

// Greet are the parameters of a job.
type Greet struct {
	Name string `json:"name"`
}

// Validate says what is wrong with g.
func (g Greet) Validate() error {
	if g.Name == "" {
		return errors.New("want a name")
	}
	return nil
}

func Example() {
	ctx := context.Background()
	st, _ := badgerstore.OpenInMemory(ctx)
	defer st.Close()
	systables.Initialize(ctx, st)

	m := jobs.New(st, jobs.Options{NodeID: "node-1"})
	jobs.Register(m, "greet", jobs.Policy{Attempts: 3}, func(_ context.Context, _ *jobs.Run, p Greet) (any, error) {
		return "Good morning, " + p.Name, nil
	})
	m.Start(ctx)
	defer m.Shutdown(ctx)

	_, err := m.Submit(ctx, jobs.Request{Type: "greet"})
	fmt.Println("refused:", err != nil)
	job, _ := m.Submit(ctx, jobs.Request{Type: "greet", Parameters: Greet{"Zoë"}, IdempotencyKey: "today"})
	job, _ = m.Wait(ctx, job.ID)
	fmt.Println(job.Status, *job.Result)
	// Output:
	// refused: true
	// completed "Good morning, Zoë"
}
