package migratevet

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// checkDropped reports a call whose error nothing can see.
func (c *checker) checkDropped(e ast.Expr) {
	if name := c.failing(e); name != "" {
		c.report(e.Pos(), "the error of %s is dropped, and the migration goes on after it failed: check it and return it", name)
	}
}

// failing returns the name of what e calls if that returns an error of the
// transaction: a method, or a function that is passed one or writes through it.
func (c *checker) failing(e ast.Expr) string {
	if method := c.txMethod(e); method != "" {
		if slices.Contains(failers, method) {
			return method
		}
		return ""
	}
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok || !c.returnsError(call) || !c.passesTxn(call) && !c.callWrites(call, map[types.Object]bool{}) {
		return ""
	}
	switch fun := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	default:
		return "this call"
	}
}

// checkAssigned reports calls whose error, their last result, is assigned to
// what nothing reads.
func (c *checker) checkAssigned(names, values []ast.Expr) {
	for i, value := range values {
		last := i
		if len(values) == 1 {
			last = len(names) - 1
		}
		if c.lost(names[last]) {
			c.checkDropped(value)
		}
	}
}

// checkScanRange reports a range over a scan that does not look at its errors.
func (c *checker) checkScanRange(loop *ast.RangeStmt) {
	if c.txMethod(loop.X) == "Scan" && (loop.Value == nil || c.lost(loop.Value)) {
		c.report(loop.Pos(), "the error of Scan is dropped, and a scan that broke off looks like one that is done: check the second variable and return it")
	}
}

// lost reports whether nothing reads what is assigned to e: the blank
// identifier, a variable that is never read, or one that is given to the blank
// identifier next.
func (c *checker) lost(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	if !ok || id.Name == "_" {
		return ok
	}
	obj := c.pass.TypesInfo.ObjectOf(id)
	if obj == nil || obj.Parent() == c.pass.Pkg.Scope() {
		return false
	}
	uses := c.variableUses()[obj]
	if !slices.ContainsFunc(uses, func(u use) bool { return u.kind == reads }) {
		return true
	}
	next := slices.IndexFunc(uses, func(u use) bool { return u.id == id }) + 1
	rest := slices.DeleteFunc(slices.Clone(uses[next:]), func(u use) bool { return u.kind == discards })
	return next > 0 && next < len(uses) && uses[next].kind == discards && (len(rest) == 0 || rest[0].kind == assigns)
}

// A use is one of a variable.
type use struct {
	id    *ast.Ident // of a named result, which is read at the end, its declaration
	kind  useKind
	pos   token.Pos // an assignment comes after what it assigns
	value ast.Expr  // whose last result is assigned, nil if it is another one
}

type useKind int

const (
	reads    useKind = iota
	assigns          // x = …
	discards         // _ = x
)

// variableUses returns the uses of the package's variables, each in the order of
// the source; and notes the variables that are also used at other times, by a
// function literal or through a pointer.
func (c *checker) variableUses() map[types.Object][]use {
	if c.uses != nil {
		return c.uses
	}
	c.uses = map[types.Object][]use{}
	add := func(u use) {
		if obj := c.pass.TypesInfo.ObjectOf(u.id); obj != nil {
			c.uses[obj] = append(c.uses[obj], u)
		}
	}
	special := map[*ast.Ident]bool{}
	c.shared = map[types.Object]bool{}
	returned := func(fn *ast.FuncType, end token.Pos) {
		if fn.Results == nil {
			return
		}
		for _, field := range fn.Results.List {
			for _, name := range field.Names {
				add(use{name, reads, end, nil})
			}
		}
	}
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				returned(n.Type, n.End())
			case *ast.FuncLit:
				returned(n.Type, n.End())
				for obj := range c.outer(n) {
					c.shared[obj] = true
				}
			case *ast.UnaryExpr:
				if id, ok := ast.Unparen(n.X).(*ast.Ident); ok && n.Op == token.AND {
					c.shared[c.pass.TypesInfo.ObjectOf(id)] = true
				}
			case *ast.AssignStmt:
				if n.Tok != token.ASSIGN && n.Tok != token.DEFINE {
					break
				}
				for i, left := range n.Lhs {
					id, ok := left.(*ast.Ident)
					switch {
					case !ok:
					case id.Name != "_":
						special[id] = true
						add(use{id, assigns, n.End(), assigned(n.Rhs, i, len(n.Lhs))})
					case len(n.Lhs) == len(n.Rhs):
						if right, ok := ast.Unparen(n.Rhs[i]).(*ast.Ident); ok {
							special[right] = true
							add(use{right, discards, right.Pos(), nil})
						}
					}
				}
			case *ast.ValueSpec:
				for i, name := range n.Names {
					add(use{name, assigns, n.End(), assigned(n.Values, i, len(n.Names))})
				}
			case *ast.RangeStmt:
				if id, ok := n.Value.(*ast.Ident); ok && id.Name != "_" {
					special[id] = true
					add(use{id, assigns, n.Body.Pos(), n.X})
				}
			case *ast.Ident:
				if c.pass.TypesInfo.Uses[n] != nil && !special[n] {
					add(use{n, reads, n.Pos(), nil})
				}
			}
			return true
		})
	}
	for _, uses := range c.uses {
		slices.SortStableFunc(uses, func(a, b use) int { return cmp.Compare(a.pos, b.pos) })
	}
	return c.uses
}

// assigned returns the value whose last result the i-th of n variables is
// assigned, nil if there is none.
func assigned(values []ast.Expr, i, n int) ast.Expr {
	switch {
	case len(values) == n:
		return values[i]
	case len(values) == 1 && i == n-1:
		return values[0]
	}
	return nil
}

// isBlank reports whether e is the blank identifier.
func isBlank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}
