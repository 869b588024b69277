package migratevet

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// checkOverwritten reports errors in a block that it assigns over before anything
// can read them.
func (c *checker) checkOverwritten(block []ast.Stmt) {
	for i, stmt := range block {
		if !isPlain(stmt) {
			continue
		}
		for _, u := range c.assignments(stmt) {
			next, ok := c.following(u)
			if ok && next.kind == assigns && c.assignsNext(block[i+1:], next.id) && !c.lost(u.id) {
				c.checkDropped(u.value)
			}
		}
	}
}

// assignments returns what a statement assigns to variables that only the
// statements of their function use.
func (c *checker) assignments(stmt ast.Stmt) []use {
	var found []use
	for n := range ast.Preorder(stmt) {
		id, ok := n.(*ast.Ident)
		if !ok {
			continue
		}
		obj := c.pass.TypesInfo.ObjectOf(id)
		if obj == nil || obj.Parent() == c.pass.Pkg.Scope() {
			continue
		}
		for _, u := range c.variableUses()[obj] {
			if u.id == id && u.kind == assigns && u.value != nil && !c.shared[obj] {
				found = append(found, u)
			}
		}
	}
	return found
}

// following returns the use of a variable that comes after u in the source.
func (c *checker) following(u use) (use, bool) {
	uses := c.variableUses()[c.pass.TypesInfo.ObjectOf(u.id)]
	i := slices.IndexFunc(uses, func(other use) bool { return other.id == u.id }) + 1
	if i == len(uses) {
		return use{}, false
	}
	return uses[i], true
}

// assignsNext reports whether nothing leaves a block before a statement of it
// assigns to id.
func (c *checker) assignsNext(block []ast.Stmt, id *ast.Ident) bool {
	for _, stmt := range block {
		first := stmt
		switch stmt := stmt.(type) {
		case *ast.IfStmt:
			first = stmt.Init
		case *ast.SwitchStmt:
			first = stmt.Init
		}
		if first != nil && isPlain(first) && within(id.Pos(), first) {
			return true
		}
		if !isPlain(stmt) {
			return false
		}
	}
	return false
}

// isPlain reports whether the statement after stmt comes next.
func isPlain(stmt ast.Stmt) bool {
	switch stmt.(type) {
	case *ast.AssignStmt, *ast.DeclStmt, *ast.ExprStmt, *ast.IncDecStmt:
		return true
	}
	return false
}

// checkLeaving reports the ifs of a function, but not of the literals in it, that
// find an error and leave without it.
func (c *checker) checkLeaving(fn *ast.FuncType, body *ast.BlockStmt) {
	results := 0
	if c.lastIsError(fn) {
		results = fn.Results.NumFields()
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if stmt, ok := n.(*ast.IfStmt); ok {
			c.checkFound(stmt, results)
		}
		_, isLit := n.(*ast.FuncLit)
		return !isLit
	})
}

// checkFound does so for one of them, in a function of that many results, the
// last of which is an error, or 0.
func (c *checker) checkFound(stmt *ast.IfStmt, results int) {
	found := c.comparedToNil(stmt.Cond)
	if found == nil || len(stmt.Body.List) == 0 {
		return
	}
	obj := c.pass.TypesInfo.ObjectOf(found)
	uses := c.variableUses()[obj]
	i := slices.IndexFunc(uses, func(u use) bool { return u.id == found })
	if i < 1 || c.shared[obj] || uses[i-1].kind != assigns || uses[i-1].value == nil {
		return
	}
	for _, u := range uses {
		if u.kind != assigns && within(u.id.Pos(), stmt.Body) {
			return
		}
	}
	switch last := stmt.Body.List[len(stmt.Body.List)-1].(type) {
	case *ast.ReturnStmt:
		if results == 0 || len(last.Results) != results || !c.isNil(last.Results[results-1]) {
			return
		}
	case *ast.BranchStmt:
		// What is declared there and read nowhere else is lost wherever this leads
		// to, unless it is noted in another way.
		isRead := func(u use) bool { return u.kind == reads && u.id != found }
		notes := func(stmt ast.Stmt) bool { _, isCall := stmt.(*ast.ExprStmt); return !isCall }
		body := stmt.Body.List
		if i != 1 || slices.ContainsFunc(uses, isRead) || slices.ContainsFunc(body[:len(body)-1], notes) {
			return
		}
	default:
		return
	}
	if value := uses[i-1].value; c.txMethod(value) == "Scan" {
		c.report(found.Pos(), "the error of Scan is dropped, and a scan that broke off looks like one that is done: return it")
	} else if name := c.failing(value); name != "" {
		c.report(found.Pos(), "the error of %s is dropped, and the migration goes on after it failed: return it, unless errors.Is says it is the one you expect", name)
	}
}

// comparedToNil returns the variable of e if e is "variable != nil".
func (c *checker) comparedToNil(e ast.Expr) *ast.Ident {
	cond, ok := ast.Unparen(e).(*ast.BinaryExpr)
	if !ok || cond.Op != token.NEQ || !c.isNil(cond.Y) {
		return nil
	}
	id, _ := ast.Unparen(cond.X).(*ast.Ident)
	if id == nil || !types.Identical(c.pass.TypesInfo.TypeOf(id), errorType) {
		return nil
	}
	return id
}

func (c *checker) isNil(e ast.Expr) bool { return c.pass.TypesInfo.Types[e].IsNil() }

// lastIsError reports whether the last result of a function is an error.
func (c *checker) lastIsError(fn *ast.FuncType) bool {
	if fn.Results == nil {
		return false
	}
	last := fn.Results.List[len(fn.Results.List)-1].Type
	return types.Identical(c.pass.TypesInfo.TypeOf(last), errorType)
}
