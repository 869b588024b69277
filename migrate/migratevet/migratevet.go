// Package migratevet finds in migrations what goes wrong only later, in another
// release or on another run. Command migratevet runs it under go vet.
package migratevet

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/tools/go/analysis"
)

const doc = `check that migrations do the same on every run and in every release

It looks at packages with a file named as migrations are, v0001_add_thing.go,
and at all files there but tests, because migrations use them; and reports

  - imports of the program's live packages, which -live names
  - clocks, chance and the machine
  - writes through the transaction in the order of a map, also by way of a slice
    that was filled in that order and not sorted
  - goroutines that have the transaction, or that are not waited for
  - errors that are dropped, of the transaction and of functions that it is
    passed to

A comment "//migratevet:ignore reason" at the end of a line, or alone above it,
keeps it from reporting anything there.`

// Analyzer reports what a package of migrations must not do: import the packages
// that its flag live names, ask a clock, chance or the machine, write in the
// order of a map, start goroutines that have the transaction or outlive the call, or drop an error of a transaction. Packages
// without a file that is named as migrations are, and tests, it passes over.
var Analyzer = newAnalyzer()

// newAnalyzer returns an analyzer with flags of its own.
func newAnalyzer() *analysis.Analyzer {
	var live patterns
	a := &analysis.Analyzer{
		Name: "migratevet",
		Doc:  doc,
		URL:  "https://pkg.go.dev/github.com/kvmigrate/kvmigrate/migrate/migratevet",
		Run: func(pass *analysis.Pass) (any, error) {
			return nil, run(pass, live)
		},
	}
	a.Flags.Var(&live, "live", "comma-separated `packages` that a migration must not import; path/... is path and all below it")
	return a
}

// fileRule matches the names of migration files, and of their tests.
var fileRule = regexp.MustCompile(`^v[0-9]{4,}_.+\.go$`)

func run(pass *analysis.Pass, live patterns) error {
	var files []*ast.File
	found := false
	for _, file := range pass.Files {
		name := filepath.Base(pass.Fset.File(file.FileStart).Name())
		if !strings.HasSuffix(name, "_test.go") {
			files = append(files, file)
			found = found || fileRule.MatchString(name)
		}
	}
	if !found {
		return nil
	}
	c := &checker{pass: pass, live: live, said: map[finding]bool{}}
	for _, file := range files {
		if err := c.readIgnores(file); err != nil {
			return err
		}
		ast.Inspect(file, c.check)
	}
	return nil
}

// A checker looks at a package of migrations.
type checker struct {
	pass    *analysis.Pass
	live    patterns
	ignored map[int]bool                      // lines of the file at hand
	said    map[finding]bool                  // what was reported
	bodies  map[types.Object][]*ast.BlockStmt // of the package's functions, once asked for
	methods map[types.Object]string           // of a transaction that variables are given, with bodies
	uses    map[types.Object][]use            // of the package's variables, once asked for
	shared  map[types.Object]bool             // variables that are used at any time, with uses
}

type finding struct {
	pos  token.Pos
	text string
}

// check looks at one node.
func (c *checker) check(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec:
		c.checkImport(n)
	case *ast.Ident:
		c.checkUse(n)
	case *ast.FuncDecl:
		if n.Body != nil {
			c.checkOrder(n.Body)
			c.checkGoroutines(n.Body)
			c.checkLeaving(n.Type, n.Body)
		}
	case *ast.FuncLit:
		c.checkOrder(n.Body)
		c.checkGoroutines(n.Body)
		c.checkLeaving(n.Type, n.Body)
	case *ast.BlockStmt:
		c.checkOverwritten(n.List)
	case *ast.CaseClause:
		c.checkOverwritten(n.Body)
	case *ast.CommClause:
		c.checkOverwritten(n.Body)
	case *ast.RangeStmt:
		c.checkMapRange(n)
		c.checkScanRange(n)
	case *ast.GoStmt:
		c.checkDropped(n.Call)
	case *ast.DeferStmt:
		c.checkDropped(n.Call)
	case *ast.ExprStmt:
		c.checkDropped(n.X)
	case *ast.AssignStmt:
		c.checkAssigned(n.Lhs, n.Rhs)
	case *ast.ValueSpec:
		names := make([]ast.Expr, len(n.Names))
		for i, name := range n.Names {
			names[i] = name
		}
		c.checkAssigned(names, n.Values)
	}
	return true
}

// report reports a finding once, unless the line is to be ignored.
func (c *checker) report(pos token.Pos, format string, args ...any) {
	f := finding{pos, fmt.Sprintf(format, args...)}
	if !c.said[f] && !c.ignored[c.pass.Fset.PositionFor(pos, false).Line] {
		c.said[f] = true
		c.pass.Reportf(pos, "%s", f.text)
	}
}
