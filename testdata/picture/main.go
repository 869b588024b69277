// Command picture draws what the demo prints as a terminal: docs/demo.svg, and
// docs/demo-narrow.svg for telephones. go generate ./docs runs it.
package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

func main() {
	root := flag.String("root", ".", "the root of the repository")
	out := flag.String("out", ".", "where the pictures go")
	flag.Parse()
	if err := pictures(context.Background(), *root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

// pictures are as wide as can be read where they are shown, and leave out the parts of
// the demo that are wider.
func pictures(ctx context.Context, root, out string) error {
	demo := exec.CommandContext(ctx, "go", "run", "./testdata/demo")
	demo.Dir, demo.Stderr = root, os.Stderr
	text, err := demo.Output()
	if err != nil {
		return fmt.Errorf("the demo: %w", err)
	}
	for _, p := range []struct {
		name    string
		columns int
		without []string
	}{
		{"demo.svg", 96, []string{"What is on disk", "A version of three bytes"}},
		{"demo-narrow.svg", 46, []string{"What was applied", "What is on disk", "A version of three bytes"}},
	} {
		path := filepath.Join(out, p.name)
		if err := os.WriteFile(path, draw(lines(string(text), p.columns, p.without), p.columns), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// A line is what one row of the terminal shows, and as what.
type line struct{ text, class string }

// lines returns the demo's text, which does not differ between two runs, in rows of that
// many columns, but for the sections whose titles begin with one of without.
func lines(text string, columns int, without []string) (rows []line) {
	text = times.ReplaceAllString(text, "2026-11-24T09:00:00Z")
	sections := strings.Split(strings.TrimSpace(text), "\n\n")
	for _, section := range sections {
		title := strings.TrimPrefix(section, "# ")
		if slices.ContainsFunc(without, func(w string) bool { return strings.HasPrefix(title, w) }) {
			continue
		}
		if len(rows) > 0 {
			rows = append(rows, line{})
		}
		for row := range strings.Lines(section) {
			row = strings.TrimRight(row, "\n")
			for _, part := range wrap(row, columns) {
				rows = append(rows, line{part, class(row)})
			}
		}
	}
	return rows
}

// class says what a row is, for its colour.
func class(row string) string {
	switch {
	case strings.HasPrefix(row, "# "):
		return "comment"
	case strings.HasPrefix(row, "$ "):
		return "command"
	case strings.HasPrefix(row, "level=ERROR"), strings.HasPrefix(row, "kvmigrate: "), strings.HasPrefix(row, "(exit code"):
		return "error"
	case strings.HasPrefix(row, "level="):
		return "log"
	}
	return "text"
}

// wrap breaks a row between words, and indents what follows.
func wrap(row string, columns int) (parts []string) {
	const indent = "  "
	for utf8.RuneCountInString(row) > columns {
		runes := []rune(row)
		at := strings.LastIndexByte(string(runes[:columns+1]), ' ')
		if at <= len(indent) {
			at = len(string(runes[:columns]))
		}
		parts = append(parts, row[:at])
		row = indent + strings.TrimLeft(row[at:], " ")
	}
	return append(parts, row)
}

// style follows the reader's choice of a light or a dark page.
const style = `
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; fill: #1f2328 }
.window { fill: #f6f8fa; stroke: #d1d9e0 } .dot { fill: #d1d9e0 }
.comment { fill: #59636e; font-style: italic } .command { fill: #0550ae; font-weight: 600 }
.log { fill: #59636e } .error { fill: #b3261e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .window { fill: #161b22; stroke: #30363d } .dot { fill: #30363d }
  .comment, .log { fill: #9198a1 } .command { fill: #79c0ff } .error { fill: #ff9a92 }
}`

// draw returns the rows as a picture. Each is as wide as its columns are, whatever the
// font of the reader.
func draw(rows []line, columns int) []byte {
	const advance, leading, margin, bar = 8.4, 20, 18, 34
	width, height := float64(columns)*advance+2*margin, bar+leading*len(rows)+margin
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&out, "<title>What make demo prints</title>\n<style>%s\n</style>\n", style)
	fmt.Fprintf(&out, `<rect class="window" x=".5" y=".5" width="%.0f" height="%d" rx="8"/>`+"\n", width-1, height-1)
	for i := range 3 {
		fmt.Fprintf(&out, `<circle class="dot" cx="%d" cy="17" r="5"/>`+"\n", margin+5+18*i)
	}
	for i, row := range rows {
		trimmed := strings.TrimLeft(row.text, " ")
		if trimmed == "" {
			continue
		}
		x := margin + advance*float64(len(row.text)-len(trimmed))
		fmt.Fprintf(&out, `<text class="%s" x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs">`,
			row.class, x, bar+leading*i+14, advance*float64(utf8.RuneCountInString(trimmed)))
		_ = xml.EscapeText(&out, []byte(trimmed)) // a Buffer takes all
		out.WriteString("</text>\n")
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}
