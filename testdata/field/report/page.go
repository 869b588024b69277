package report

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Fill returns page with every section between its markers:
//
//	<!-- generated: NAME -->
//	<!-- end -->
//
// All sections must have a place, and all places a section.
func Fill(page string, sections map[string]string) (string, error) {
	const begin, end = "<!-- generated: ", "<!-- end -->"
	var b strings.Builder
	left := maps.Clone(sections)
	for {
		before, rest, found := strings.Cut(page, begin)
		b.WriteString(before)
		if !found {
			break
		}
		name, rest, _ := strings.Cut(rest, " -->\n")
		text, ok := left[name]
		if !ok {
			return "", fmt.Errorf("there is no section %q, or it has two places", name)
		}
		delete(left, name)
		_, after, ok := strings.Cut(rest, end)
		if !ok {
			return "", fmt.Errorf("section %q does not end", name)
		}
		fmt.Fprintf(&b, "%s%s -->\n%s\n%s", begin, name, text, end)
		page = after
	}
	if len(left) > 0 {
		return "", fmt.Errorf("the page has no place for %s", strings.Join(slices.Sorted(maps.Keys(left)), ", "))
	}
	return b.String(), nil
}

// Files returns the documents, and the plots, as the results in the folder results
// make them, by their paths below docs.
func Files(results, docs string) (map[string][]byte, error) {
	res, err := Read(filepath.Join(results, "bench.txt"))
	if err != nil {
		return nil, err
	}
	files, err := res.Plots()
	if err != nil {
		return nil, err
	}
	for name, data := range maps.Clone(files) {
		delete(files, name)
		files[filepath.Join("field", name)] = data
	}
	outcomes, err := ReadOutcomes(filepath.Join(results, "disasters.json"))
	if err != nil {
		return nil, err
	}
	for name, sections := range map[string]map[string]string{
		"field.md":      res.Sections("field"),
		"comparison.md": safety(outcomes),
	} {
		page, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			return nil, err
		}
		filled, err := Fill(string(page), sections)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = []byte(filled)
	}
	return files, nil
}

// Write writes what Files returns.
func Write(results, docs string) error {
	files, err := Files(results, docs)
	if err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(docs, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644))
	}
	return err
}

// Check returns an error for each file below docs that is not as the results make it.
func Check(results, docs string) error {
	files, err := Files(results, docs)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data, readErr := os.ReadFile(filepath.Join(docs, name))
		if readErr == nil && !bytes.Equal(data, files[name]) {
			readErr = fmt.Errorf("%s is not what the results make: run go run . report in testdata/field", name)
		}
		err = errors.Join(err, readErr)
	}
	return err
}
