package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// width is how many columns of a terminal a line of a table takes at most.
const width = 80

// terminal says how wide characters are. Those that are ambiguous, such as "…", have one
// column, as terminals of today show them also where the locale is an East Asian one.
var terminal = runewidth.Condition{StrictEmojiNeutral: true}

// A tabulator aligns lines of cells, which end with a tab, in columns, and makes them
// fit the width.
type tabulator struct {
	w     io.Writer
	text  strings.Builder
	wraps bool // whether the last column goes on in the next line, instead of being cut
}

// table returns a tabulator that cuts what is too long, in the widest columns first.
// JSON has all of it.
func table(w io.Writer) *tabulator { return &tabulator{w: w} }

// sheet returns a tabulator for labels and texts, which go on below themselves.
func sheet(w io.Writer) *tabulator { return &tabulator{w: w, wraps: true} }

// Write takes text for Flush.
func (t *tabulator) Write(p []byte) (int, error) { return t.text.Write(p) }

// Flush writes the lines. Those that have one cell only stay as they are.
func (t *tabulator) Flush() error {
	var lines [][]string
	var widths []int
	for line := range strings.Lines(t.text.String()) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		lines = append(lines, cells)
		if len(cells) == 1 {
			continue
		}
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], terminal.StringWidth(cell))
		}
	}
	t.fit(widths)
	for _, cells := range lines {
		if err := t.print(cells, widths); err != nil {
			return err
		}
	}
	return nil
}

// fit makes columns narrower until the line fits: the last one if that wraps, and then
// the widest.
func (t *tabulator) fit(widths []int) {
	const wrapped, least = 24, 10 // columns, of which no more are taken
	for total := lineWidth(widths); total > width; total-- {
		i := len(widths) - 1
		if !t.wraps || widths[i] <= wrapped {
			i = slices.Index(widths, slices.Max(widths))
		}
		if widths[i] <= least {
			return
		}
		widths[i]--
	}
}

func lineWidth(widths []int) int {
	total := 2 * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	return total
}

func (t *tabulator) print(cells []string, widths []int) error {
	if len(cells) == 1 {
		_, err := fmt.Fprintln(t.w, cells[0])
		return err
	}
	last := len(widths) - 1
	below := []string{""}
	if t.wraps && len(cells) == len(widths) {
		below = wrap(cells[last], widths[last])
		cells = append(slices.Clone(cells[:last]), below[0])
	}
	line := ""
	for i, cell := range cells {
		line += terminal.FillRight(terminal.Truncate(cell, widths[i], "…"), widths[i]) + "  "
	}
	_, err := fmt.Fprintln(t.w, strings.TrimRight(line, " "))
	for _, part := range below[1:] {
		_, err = fmt.Fprintf(t.w, "%*s%s\n", lineWidth(widths)-widths[last], "", part)
	}
	return err
}

// wrap breaks text between words into lines of n columns. A longer word stays whole.
func wrap(text string, n int) (lines []string) {
	line := ""
	for i, word := range strings.Split(text, " ") {
		switch {
		case i == 0:
			line = word
		case terminal.StringWidth(line+" "+word) > n:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// fitting returns what cuts a line to the width of the terminal that w is. If it is none,
// lines stay whole.
func fitting(w io.Writer) func(line string) string {
	whole := func(line string) string { return line }
	f, ok := w.(*os.File)
	if !ok {
		return whole
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns == 0 { // one that does not know its size
		return whole
	}
	return func(line string) string { return terminal.Truncate(line, columns, "…") }
}
