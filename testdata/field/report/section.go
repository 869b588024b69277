package report

import (
	"fmt"
	"slices"
	"strings"

	"example.com/field/tool"
)

// A measure is one table, and one plot, of a scenario.
type measure struct {
	section  string // its name in the document
	scenario string
	unit     string
	write    quantity
	floor    bool   // whether ratios to the floor are shown
	plot     string // the file; empty is none
	axis     string // of the plot
	lines    bool   // whether its cases are points of one line for each tool
}

var measures = []measure{
	{"startup", "Startup", "sec/op", inTime, true, "startup", "time of a start", true},
	{"opening", "Opening", "sec/op", inTime, true, "opening", "time of opening, a start and closing", true},
	{"install", "Install", "sec/op", inTime, true, "install", "time", false},
	{"rewrite", "Rewrite", "sec/op", inTime, true, "rewrite", "time", false},
	{"rewrite-memory", "Rewrite", "peak-B", inMiB, true, "rewrite-memory", "peak of resident memory", false},
	{"interrupted", "Interrupted", "work/op", asRatio, false, "interrupted", "time of both runs, over that of one without an interruption", false},
	{"dryrun", "DryRun", "sec/op", inTime, true, "dryrun", "time", false},
	{"dryrun-memory", "DryRun", "peak-B", inMiB, true, "", "", false},
	{"backup", "Backup", "sec/GB", inTime, true, "backup", "time for each GB", false},
	{"backup-size", "Backup", "file-B", inMiB, false, "", "", false},
}

// base returns what round numbers of the unit are multiples of.
func (m measure) base() float64 {
	if strings.HasSuffix(m.unit, "-B") {
		return 1 << 20
	}
	return 1
}

// Sections returns the generated parts of the document by their names. Plots are
// linked in folder.
func (res *Results) Sections(folder string) map[string]string {
	sections := map[string]string{"machine": res.machine(), "contestants": contestants(res)}
	for _, m := range measures {
		text := res.table(m)
		if m.plot != "" {
			text = fmt.Sprintf("![%s](%s/%s.svg)\n\n%s", m.axis, folder, m.plot, text)
		}
		sections[m.section] = text
	}
	return sections
}

// machine returns the description of the machine.
func (res *Results) machine() string {
	var b strings.Builder
	for _, line := range res.Machine {
		switch line.Key {
		case "note":
			fmt.Fprintf(&b, "**%s**\n\n", upperFirst(string(line.Value)))
		case "modules":
			fmt.Fprintf(&b, "- modules: %s\n", strings.ReplaceAll(string(line.Value), "github.com/", ""))
		default:
			fmt.Fprintf(&b, "- %s: %s\n", line.Key, line.Value)
		}
	}
	return b.String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// tools returns the tools that measured something in a scenario. Those of an old file
// that are no longer there are left out.
func (res *Results) tools(scenario string) []tool.Tool {
	return slices.DeleteFunc(tool.Known(), func(t tool.Tool) bool {
		return !slices.ContainsFunc(res.series, func(s series) bool {
			return s.tool == t.Name && (scenario == "" || s.scenario == scenario)
		})
	})
}

// contestants says what the tools are.
func contestants(res *Results) string {
	var b strings.Builder
	b.WriteString("| contestant | what it is |\n|---|---|\n")
	for _, t := range res.tools("") {
		fmt.Fprintf(&b, "| [%s](../testdata/field/%s) | %s |\n", t.Name, t.Source, t.About)
	}
	return b.String()
}

// table returns a measure as a table.
func (res *Results) table(m measure) string {
	cases := res.casesOf(m)
	var b strings.Builder
	b.WriteString("| |")
	for _, which := range cases {
		fmt.Fprintf(&b, " %s |", title(which))
		if m.floor {
			b.WriteString(" over the floor |")
		}
	}
	b.WriteString("\n|---|")
	for range cases {
		b.WriteString("--:|")
		if m.floor {
			b.WriteString("--:|")
		}
	}
	b.WriteString("\n")
	for _, t := range res.tools(m.scenario) {
		row := ""
		measured := false
		for _, which := range cases {
			values := res.find(m.scenario, which, t.Name).values(m.unit)
			if len(values) == 0 {
				row += " |"
				if m.floor {
					row += " |"
				}
				continue
			}
			measured = true
			row += " " + spreadOf(values).write(m.write) + " |"
			if m.floor {
				floor := res.find(m.scenario, which, tool.Floor).values(m.unit)
				row += " " + spreadOf(over(values, floor)).write(digits) + " |"
			}
		}
		if measured {
			fmt.Fprintf(&b, "| %s |%s\n", t.Name, row)
		}
	}
	return b.String()
}

// casesOf returns the cases that have the measure.
func (res *Results) casesOf(m measure) []string {
	return slices.DeleteFunc(res.cases(m.scenario), func(which string) bool {
		return !slices.ContainsFunc(res.tools(m.scenario), func(t tool.Tool) bool {
			return len(res.find(m.scenario, which, t.Name).values(m.unit)) > 0
		})
	})
}
