package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"example.com/field/disaster"
)

// ReadOutcomes reads what became of the tools in the disasters.
func ReadOutcomes(path string) (outcomes []disaster.Outcome, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return outcomes, json.Unmarshal(data, &outcomes)
}

// safety returns the generated parts of the comparison by their names: an overview,
// and a table for each disaster.
func safety(outcomes []disaster.Outcome) map[string]string {
	sections := map[string]string{"overview": overview(outcomes)}
	for _, d := range disaster.All {
		var b strings.Builder
		b.WriteString("| | what it leaves | the next start | what its user must do | shown by |\n|---|---|---|---|---|\n")
		for _, o := range outcomes {
			if o.Disaster == d.Name {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", o.Tool, cell(o.Left), cell(o.Then), cell(o.Must), program(o))
			}
		}
		sections[d.Name] = b.String()
	}
	return sections
}

// overview is the verdicts, a tool a line.
func overview(outcomes []disaster.Outcome) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, d := range disaster.All {
		fmt.Fprintf(&b, " [%s](#%s) |", d.Title, anchor(d.Title))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(disaster.All)) + "\n")
	var done []string
	for _, first := range outcomes {
		if slices.Contains(done, first.Tool) {
			continue
		}
		done = append(done, first.Tool)
		fmt.Fprintf(&b, "| %s |", first.Tool)
		for _, d := range disaster.All {
			i := slices.IndexFunc(outcomes, func(o disaster.Outcome) bool { return o.Tool == first.Tool && o.Disaster == d.Name })
			verdict := "not run"
			if i >= 0 {
				verdict = outcomes[i].Verdict
			}
			fmt.Fprintf(&b, " %s |", verdict)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// anchor is the link to a heading.
func anchor(title string) string {
	return strings.ReplaceAll(strings.ToLower(title), " ", "-")
}

// program links what produced an outcome: "disaster/kill.go, kill".
func program(o disaster.Outcome) string {
	file, function, _ := strings.Cut(o.Program, ", ")
	return fmt.Sprintf("[%s](../testdata/field/%s)", function, file)
}

// cell makes text safe in a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(text)
}
