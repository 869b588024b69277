package migratevet

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
)

// patterns are import paths; path/... is path and all below it.
type patterns []string

// String implements flag.Value.
func (p *patterns) String() string { return strings.Join(*p, ",") }

// Set implements flag.Value.
func (p *patterns) Set(list string) error {
	*p = nil
	for pattern := range strings.SplitSeq(list, ",") {
		pattern = strings.TrimSpace(pattern)
		if pattern == "" {
			continue
		}
		// A pattern that can match nothing would pass for a check.
		if path := strings.TrimSuffix(pattern, "/..."); strings.Contains(path, "...") {
			return fmt.Errorf("%q: ... belongs at the end, after a slash", pattern)
		}
		*p = append(*p, pattern)
	}
	return nil
}

// match reports whether one of the patterns matches path.
func (p patterns) match(path string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool {
		root, below := strings.CutSuffix(pattern, "/...")
		return path == root || below && strings.HasPrefix(path, root+"/")
	})
}

// checkImport reports an import of a live package. What lies below the package
// of the migrations is part of the history, also where a pattern matches it.
func (c *checker) checkImport(spec *ast.ImportSpec) {
	path, err := strconv.Unquote(spec.Path.Value)
	if err != nil || !c.live.match(path) {
		return
	}
	home, _, _ := strings.Cut(c.pass.Pkg.Path(), " ") // "p [p.test]" in a test's build
	if !strings.HasPrefix(path, home+"/") {
		c.report(spec.Pos(), "%s goes on changing and history must not: copy the types that the migration touches into its file", path)
	}
}
