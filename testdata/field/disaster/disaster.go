// Package disaster puts every tool through what goes wrong in the field, in real
// processes, and records what it leaves and what its user has to do.
package disaster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"example.com/field/tool"
)

// An Outcome is what one disaster did to one tool.
type Outcome struct {
	Disaster string // its name
	Tool     string
	Verdict  string // in a few words
	Left     string // what the disaster left, as the tool's records and the rows say
	Then     string // what the next start did
	Must     string // what the user has to do
	Program  string // the file and function that produced this
}

// A Disaster is one of them.
type Disaster struct {
	Name  string // of its section
	Title string
	run   func(ctx context.Context, s scene) (Outcome, error)
	prog  string // file and function of run
}

// All are the disasters, in the order of the document.
var All = []Disaster{
	{"kill", "Killed in the middle of a migration", kill, "disaster/kill.go, kill"},
	{"two", "Two processes at once", two, "disaster/two.go, two"},
	{"newer", "A program that is older than the database", newer, "disaster/newer.go, newer"},
	{"edited", "A migration that was edited after its release", edited, "disaster/edited.go, edited"},
	{"full", "A full disk", full, "disaster/full.go, full"},
}

// Sizes are how large the disasters are.
type Sizes struct {
	Rows     int // accounts in the database
	KillAt   int // the change of a row at which the process is killed
	FullRows int // accounts on the disk that fills
	FullGrow int // by how much each grows, in bytes
	FullRoom int // how much room there is for that, in bytes

	// Patience is how long a process stands still in the middle of its migration while
	// another one starts. It is less than any tool waits for a lock.
	Patience time.Duration
}

// Full are the sizes of the document, Tiny those of a test. The row loop on Badger
// commits for the first time after some 40,000 rows.
var (
	Full = Sizes{Rows: 100_000, KillAt: 90_000, FullRows: 40_000, FullGrow: 8000, FullRoom: 240 << 20, Patience: 2 * time.Second}
	Tiny = Sizes{Rows: 12_000, KillAt: 11_000, FullRows: 2000, FullGrow: 8000, FullRoom: 8 << 20, Patience: 200 * time.Millisecond}
)

// A scene is where a disaster happens to a tool.
type scene struct {
	tool  tool.Tool
	dir   string // empty
	sizes Sizes
}

// Run puts the tools through all disasters.
func Run(ctx context.Context, log io.Writer, tools []tool.Tool, sizes Sizes) (outcomes []Outcome, err error) {
	for _, d := range All {
		for _, t := range tools {
			if t.Variant {
				continue
			}
			fmt.Fprintln(log, d.Name, t.Name)
			out, err := d.happen(ctx, t, sizes)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", d.Name, t.Name, err)
			}
			outcomes = append(outcomes, out)
		}
	}
	return outcomes, nil
}

func (d Disaster) happen(ctx context.Context, t tool.Tool, sizes Sizes) (out Outcome, err error) {
	dir, err := os.MkdirTemp("", "field-disaster-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out, err = d.run(ctx, scene{t, dir, sizes})
	out.Disaster, out.Tool, out.Program = d.Name, t.Name, d.prog
	out.Left, out.Then = tidy(out.Left, dir), tidy(out.Then, dir)
	return out, err
}

// variable is what differs from run to run in what tools say.
var variable = regexp.MustCompile(`(PID|process) \d+|since \d{4}-\S+|\(field\S*\)|0x[0-9a-f]+`)

// tidy makes what was observed one line that has no word of this machine.
func tidy(text, dir string) string {
	text = strings.ReplaceAll(text, dir, "…")
	text = variable.ReplaceAllStringFunc(text, func(found string) string {
		word, _, ok := strings.Cut(found, " ")
		if !ok {
			return "…"
		}
		return word + " …"
	})
	return strings.Join(strings.Fields(text), " ")
}

// released is the program of the release before the migration of the accounts.
var released = program{Small: 1}

// prepare makes a database of n accounts at version 1.
func (s scene) prepare(ctx context.Context, n int) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	_, err := actInChild.Run(ctx, act{Tool: s.tool.Name, Dir: s.dir, Do: "fill", Rows: n})
	if err != nil {
		return err
	}
	return s.start(ctx, released)
}

// start starts a program in a process of its own, to its end.
func (s scene) start(ctx context.Context, p program) error {
	_, err := actInChild.Run(ctx, act{Tool: s.tool.Name, Dir: s.dir, Do: "start", Program: p})
	return err
}

// look returns what the database has, by a process that does not migrate.
func (s scene) look(ctx context.Context) (seen, error) {
	return actInChild.Run(ctx, act{Tool: s.tool.Name, Dir: s.dir, Do: "look"})
}

// afterwards starts p again, as the user does, and puts the database in order before
// that where a start does not do it. It fills in Then, Must and, unless the rows are
// as they should be, Verdict.
func (s scene) afterwards(ctx context.Context, p program, out *Outcome) error {
	out.Must = "start it again"
	err := s.start(ctx, p)
	if err != nil {
		out.Then = "refuses: " + quote(err)
		repaired, repairErr := actInChild.Run(ctx, act{Tool: s.tool.Name, Dir: s.dir, Do: "repair", Program: p})
		if repairErr != nil || repaired.Repair == "" {
			out.Verdict, out.Must = "does not start again", "restore a backup"
			return nil
		}
		out.Verdict = "waits for a person"
		out.Must = "find out what of the migration is there, " + repaired.Repair + ", start it again"
		if err := s.start(ctx, p); err != nil {
			out.Verdict, out.Must = "does not start again", "restore a backup"
			return nil
		}
	}
	after, lookErr := s.look(ctx)
	if lookErr != nil {
		return lookErr
	}
	if err == nil {
		out.Then = after.State + "; " + after.rows()
	} else {
		out.Then += "; after that " + after.State + "; " + after.rows()
	}
	if !after.eachOnce() {
		out.Verdict, out.Must = "damages rows", "restore a backup, or have written every change so that it may be made twice"
	}
	return nil
}

// quote returns the text of an error as it is written in the table.
func quote(err error) string {
	text := err.Error()
	const longest = 300
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return "“" + text + "”"
}

// rows says how often the rows were changed.
func (s seen) rows() string {
	if len(s.Changed) == 0 {
		return "no rows"
	}
	if len(s.Changed) == 1 && s.Changed[0] > 0 {
		return "no row changed"
	}
	if s.eachOnce() {
		return "every row changed once"
	}
	var parts []string
	for _, times := range slices.Sorted(maps.Keys(s.Changed)) {
		how := map[int]string{0: "not changed", 1: "changed once", 2: "changed twice"}[times]
		parts = append(parts, fmt.Sprintf("%s rows %s", humanize.Comma(int64(s.Changed[times])), how))
	}
	return strings.Join(parts, ", ")
}

func (s seen) eachOnce() bool { return len(s.Changed) == 1 && s.Changed[1] > 0 }

// below returns the scene in a folder of itself.
func (s scene) below(name string) scene {
	s.dir = filepath.Join(s.dir, name)
	return s
}
