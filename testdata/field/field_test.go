package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/perf/benchfmt"

	"example.com/field/child"
	"example.com/field/disaster"
	"example.com/field/machine"
	"example.com/field/report"
	"example.com/field/scenario"
	"example.com/field/tool"
)

func TestMain(m *testing.M) {
	child.Main()
	os.Exit(m.Run())
}

// TestScenarios lets every tool do every scenario on small sizes. The scenarios verify
// what the tools did.
func TestScenarios(t *testing.T) {
	config, err := machine.Describe(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b := scenario.Bench{
		Dir: t.TempDir(), Tools: tool.All(), Sizes: scenario.Tiny, Log: io.Discard, Config: config, Out: benchfmt.NewWriter(&out),
	}
	if err := b.Run(t.Context(), scenario.Names()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bench.txt")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err := report.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, contestant := range tool.All() {
		for _, name := range scenario.Names() {
			takesPart := contestant.Only == nil || slices.Contains(contestant.Only, name)
			if name == "Backup" && contestant.Restore == nil {
				takesPart = false
			}
			if got := res.Has(name, contestant.Name); got != takesPart {
				t.Errorf("%s in %s: measured = %v, want %v", contestant.Name, name, got, takesPart)
			}
		}
	}
	for name, text := range res.Sections("field") {
		if text == "" {
			t.Errorf("section %s is empty", name)
		}
	}
	if _, err := res.Plots(); err != nil {
		t.Error(err)
	}
}

// TestDisasters puts every tool through every disaster.
func TestDisasters(t *testing.T) {
	outcomes, err := disaster.Run(t.Context(), io.Discard, tool.All(), disaster.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"kill": {"goes on", "begins again"}, "two": {"take turns"}, "newer": {"refused"}, "edited": {"found by the tests"},
		"full": {"stops, begins again", "stops, goes on", "not run"},
	}
	ours := 0
	for _, o := range outcomes {
		if o.Verdict == "" || o.Left == "" {
			t.Errorf("%s, %s: nothing is said of what it left: %+v", o.Disaster, o.Tool, o)
		}
		if o.Tool == "kvmigrate" {
			ours++
			if !slices.Contains(want[o.Disaster], o.Verdict) {
				t.Errorf("kvmigrate in %s: %q, want one of %q: %+v", o.Disaster, o.Verdict, want[o.Disaster], o)
			}
		}
	}
	if ours != len(disaster.All) {
		t.Errorf("kvmigrate went through %d disasters of %d", ours, len(disaster.All))
	}
}

// TestDocs holds the documents and their plots against the committed results.
func TestDocs(t *testing.T) {
	if err := report.Check("results", "../../docs"); err != nil {
		t.Error(err)
	}
}
