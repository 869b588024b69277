package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// A quantity is how values of a unit are written.
type quantity func(v float64) string

// inTime writes seconds.
func inTime(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if v >= u.size*0.9995 {
			return digits(v/u.size) + " " + u.name
		}
	}
	return digits(v/1e-9) + " ns"
}

// inMiB writes bytes.
func inMiB(v float64) string { return digits(v/(1<<20)) + " MiB" }

// asRatio writes a ratio.
func asRatio(v float64) string { return digits(v) + " ×" }

// digits writes three digits, all of a large whole part, or two of a small fraction.
func digits(v float64) string {
	switch {
	case v >= 1000:
		return humanize.Comma(int64(v + 0.5))
	case v >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 0.0995:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// write writes a spread: the median, and the extremes in brackets.
func (s spread) write(q quantity) string {
	return fmt.Sprintf("%s (%s – %s)", q(s.median), q(s.min), q(s.max))
}

// title returns a case for people: "100,000 rows", "restore of 1,000,000 rows".
func title(which string) string {
	var words []string
	for _, part := range strings.Split(which, "/") {
		key, value, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(value)
		switch {
		case err != nil:
			words = append(words, value+" of")
		case n == 1:
			words = append(words, "1 "+strings.TrimSuffix(key, "s"))
		default:
			words = append(words, humanize.Comma(int64(n))+" "+key)
		}
	}
	return strings.Join(words, " ")
}
