package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kvmigrate/kvmigrate/store"
)

// liveInterval is how often a run says how far it is, in the file beside the store.
// A shorter run leaves no file, unless it makes a backup.
const liveInterval = time.Second

// A Live is what a run says of itself to other processes, which cannot open the
// store meanwhile: in a file in the directory of a store that has one (see
// [store.Locator]), written every second and removed when the run ends.
type Live struct {
	Schema  string    `json:"schema"`
	PID     int       `json:"pid"`
	Program string    `json:"program"`
	Started time.Time `json:"started"` // the run, UTC
	Updated time.Time `json:"updated"` // the file, UTC
	From    uint32    `json:"from"`    // the version that the run found
	To      uint32    `json:"to"`      // the version that it goes to

	// The migration that runs, or the backup from before it, as in [Event].
	Version   uint32        `json:"version"`
	Name      string        `json:"name"`
	BackingUp bool          `json:"backing_up,omitempty"`
	Phase     int           `json:"phase"`
	Phases    int           `json:"phases"`
	Done      uint64        `json:"done"`
	Total     uint64        `json:"total"`
	Rate      float64       `json:"rate"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	ETA       time.Duration `json:"eta_ns"`
	Text      string        `json:"text"` // all that, for people
}

// ReadLive returns what a run over the schema in the store at dir, which another
// process has open, last said of itself. The error matches os.ErrNotExist if there
// is no such run, or has not been for a second. A run that was killed leaves its
// file: compare PID with that of the [store.LockedError] that opening the store
// returns, which is the process that lives.
func ReadLive(dir, schema string) (Live, error) {
	data, err := os.ReadFile(liveName(dir, schema))
	if err != nil {
		return Live{}, err
	}
	var l Live
	if err := json.Unmarshal(data, &l); err != nil {
		return Live{}, fmt.Errorf("read %s: %w", liveName(dir, schema), err)
	}
	return l, nil
}

func liveName(dir, schema string) string {
	return filepath.Join(dir, "kvmigrate."+schema+".json")
}

// A liveFile is the file of one run. Its methods do nothing if the store has no
// directory.
type liveFile struct {
	name string
	live Live
	log  *slog.Logger
}

func (r *Runner) newLiveFile(plan Plan) *liveFile {
	f := &liveFile{log: r.log}
	if located, ok := store.As[store.Locator](r.store); ok && located.Dir() != "" {
		f.name = liveName(located.Dir(), r.schema)
	}
	f.live = Live{
		Schema: r.schema, PID: os.Getpid(), Program: r.programName(), Started: time.Now().UTC(),
		From: plan.From, To: plan.To,
	}
	return f
}

// liveWriting is held while a file is written or removed: runs of one process over one
// store have the same.
var liveWriting sync.Mutex

// write replaces the file, so that a reader sees the old one or the new one. Not to
// be able to is no reason to stop migrating.
func (f *liveFile) write(ctx context.Context, now time.Time, e Event) {
	if f.name == "" {
		return
	}
	l := f.live
	l.Updated, l.Version, l.Name, l.BackingUp = now.UTC(), e.Version, e.Name, e.Kind == BackingUp
	l.Phase, l.Phases, l.Done, l.Total = e.Phase, e.Phases, e.Done, e.Total
	l.Rate, l.Elapsed, l.ETA, l.Text = e.Rate, e.Elapsed, e.ETA, e.String()
	data, err := json.Marshal(l)
	liveWriting.Lock()
	defer liveWriting.Unlock()
	if err == nil {
		err = os.WriteFile(f.name+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(f.name+".new", f.name)
	}
	if err != nil {
		f.log.WarnContext(ctx, fmt.Sprintf("other processes will not see how far the migration is: %v", err))
		f.name = ""
	}
}

// remove removes the file, also one that a run which was killed left.
func (f *liveFile) remove() {
	if f.name == "" {
		return
	}
	liveWriting.Lock()
	defer liveWriting.Unlock()
	if err := errors.Join(remove(f.name+".new"), remove(f.name)); err != nil {
		f.log.Warn(fmt.Sprintf("the file that says how far the migration is stays behind: %v", err))
	}
}

// remove removes a file if it is there.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
