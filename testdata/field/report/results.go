// Package report makes the tables and plots of the documents from files of results,
// and nothing else: the same results make the same bytes.
package report

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Results are what one run measured.
type Results struct {
	Machine []benchfmt.Config
	series  []series // in the order of the file
}

// A series is what one tool measured in one case of a scenario, round by round.
type series struct {
	scenario, which, tool string
	rounds                []map[string]float64 // by unit
}

// Read reads a file of results.
func Read(path string) (res Results, err error) {
	f, err := os.Open(path)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := benchfmt.NewReader(f, path)
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.SyntaxError:
			return res, rec
		case *benchfmt.Result:
			if res.Machine == nil {
				res.Machine = rec.Clone().Config
			}
			if err := res.add(rec); err != nil {
				return res, err
			}
		}
	}
	return res, r.Err()
}

func (res *Results) add(rec *benchfmt.Result) error {
	name := strings.Split(rec.Name.String(), "/")
	if len(name) < 3 {
		return fmt.Errorf("%q is not a scenario, a tool and a case", rec.Name)
	}
	toolName, ok := strings.CutPrefix(name[1], "tool=")
	if !ok {
		return fmt.Errorf("%q has no tool", rec.Name)
	}
	s := res.find(name[0], strings.Join(name[2:], "/"), toolName)
	if s == nil {
		res.series = append(res.series, series{name[0], strings.Join(name[2:], "/"), toolName, nil})
		s = &res.series[len(res.series)-1]
	}
	values := map[string]float64{}
	for _, v := range rec.Values {
		values[v.Unit] = v.Value
	}
	s.rounds = append(s.rounds, values)
	return nil
}

// find returns a series, nil if nothing was measured.
func (res *Results) find(scenario, which, tool string) *series {
	i := slices.IndexFunc(res.series, func(s series) bool {
		return s.scenario == scenario && s.which == which && s.tool == tool
	})
	if i < 0 {
		return nil
	}
	return &res.series[i]
}

// cases returns the cases of a scenario, small ones first.
func (res *Results) cases(scenario string) []string {
	var cases []string
	for _, s := range res.series {
		if s.scenario == scenario && !slices.Contains(cases, s.which) {
			cases = append(cases, s.which)
		}
	}
	slices.SortStableFunc(cases, func(a, b string) int { return size(a) - size(b) })
	return cases
}

// size returns the number at the end of a case.
func size(which string) int {
	_, number, _ := strings.Cut(which[strings.LastIndex(which, "/")+1:], "=")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// values returns what was measured in a unit, round by round.
func (s *series) values(unit string) []float64 {
	if s == nil {
		return nil
	}
	var values []float64
	for _, round := range s.rounds {
		if v, ok := round[unit]; ok {
			values = append(values, v)
		}
	}
	return values
}

// over divides the values of the same rounds.
func over(of, to []float64) []float64 {
	var ratios []float64
	for i := range min(len(of), len(to)) {
		ratios = append(ratios, of[i]/to[i])
	}
	return ratios
}

// A spread is what several rounds came to.
type spread struct{ min, median, max float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{sorted[0], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-1]}
}

// Has reports whether a tool measured something in a scenario.
func (res *Results) Has(scenario, tool string) bool {
	return slices.ContainsFunc(res.series, func(s series) bool { return s.scenario == scenario && s.tool == tool })
}
