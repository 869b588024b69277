package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
)

// A figure is one line of the table: the values that several rounds measured.
type figure struct {
	scenario, what string
	values         []float64
	held           bound
}

// A bound is what the median of a figure is held to. The zero bound is none.
type bound struct {
	sense string
	limit float64
}

func atLeast(limit float64) bound { return bound{"at least", limit} }
func atMost(limit float64) bound  { return bound{"at most", limit} }
func below(limit float64) bound   { return bound{"below", limit} }

// unbound marks a figure that explains others.
var unbound bound

// verdict says whether v is within the bound.
func (b bound) verdict(v float64) string {
	met := true
	switch b.sense {
	case "":
		return ""
	case "at least":
		met = v >= b.limit
	case "at most":
		met = v <= b.limit
	case "below":
		met = v < b.limit
	}
	if met {
		return "met"
	}
	return "MISSED"
}

func (b bound) String() string {
	if b == unbound {
		return ""
	}
	return b.sense + " " + strconv.FormatFloat(b.limit, 'g', -1, 64)
}

func printTable(w io.Writer, figures []figure) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tFIGURE\tMIN\tMEDIAN\tMAX\tBOUND\t")
	for _, f := range figures {
		m := median(f.values)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%v\t%s\n", f.scenario, f.what,
			short(slices.Min(f.values)), short(m), short(slices.Max(f.values)), f.held, f.held.verdict(m))
	}
	return t.Flush()
}

// short formats v with three digits or four, and all of a large whole part.
func short(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios divides what two contestants measured in the same rounds.
func ratios(of, to []float64) []float64 {
	out := make([]float64, len(of))
	for i := range of {
		out[i] = of[i] / to[i]
	}
	return out
}

// each returns get of every value.
func each[T any](values []T, get func(T) float64) []float64 {
	out := make([]float64, 0, len(values))
	for _, v := range values {
		out = append(out, get(v))
	}
	return out
}

// A contestant does the work once and returns what was measured.
type contestant[T any] struct {
	name string
	run  func() (T, error)
}

// alternate lets the contestants take turns, in the other direction in every
// second round so that none always follows the same one. It returns what each
// measured, by name and in the order of the rounds.
func alternate[T any](rounds int, contestants ...contestant[T]) (map[string][]T, error) {
	turns := slices.Clone(contestants)
	measured := map[string][]T{}
	for range rounds {
		for _, c := range turns {
			v, err := c.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			measured[c.name] = append(measured[c.name], v)
		}
		slices.Reverse(turns)
	}
	return measured, nil
}
