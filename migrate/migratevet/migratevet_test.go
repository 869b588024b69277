package migratevet

import (
	"slices"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// TestAnalyzer loads all packages at once: what they import takes longer than they do.
func TestAnalyzer(t *testing.T) {
	a := newAnalyzer()
	if err := a.Flags.Set("live", "app/tables/..., app/migrations/..."); err != nil {
		t.Fatal(err)
	}
	analysistest.Run(t, analysistest.TestData(), a,
		"app/migrations", "outside", "maporder", "unsorted", "helpers", "goroutine", "dropped", "ignore", "files", "other")
}

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		list    string
		matches []string
	}{
		{"", nil},
		{"a/b", []string{"a/b"}},
		{"a/b/...", []string{"a/b", "a/b/c"}},
		{" a/bc, ,a/b/... ", []string{"a/b", "a/b/c", "a/bc"}},
	} {
		var p patterns
		if err := p.Set(tt.list); err != nil {
			t.Errorf("Set(%q): %v", tt.list, err)
		}
		var got []string
		for _, path := range []string{"a", "a/b", "a/b/c", "a/bc"} {
			if p.match(path) {
				got = append(got, path)
			}
		}
		if !slices.Equal(got, tt.matches) {
			t.Errorf("%q matches %q, want %q", tt.list, got, tt.matches)
		}
	}
	for _, bad := range []string{"...", "a/.../b", "a...", "a,b..."} {
		var p patterns
		if err := p.Set(bad); err == nil {
			t.Errorf("Set(%q) took it", bad)
		}
	}
}
