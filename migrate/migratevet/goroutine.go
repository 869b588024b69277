package migratevet

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

const goroutineText = "a Tx belongs to one goroutine, and what outlives the call finds it closed: do this in line, or keep the Tx out of it and wait for it here; Each works on several batches at a time by itself"

// starters are the methods that start a goroutine, waiters those that wait for
// it, and for one that says that it is done.
var (
	starters = []string{"(*sync.WaitGroup).Go", "(*golang.org/x/sync/errgroup.Group).Go", "(*golang.org/x/sync/errgroup.Group).TryGo"}
	waiters  = []string{"(*sync.WaitGroup).Wait", "(*golang.org/x/sync/errgroup.Group).Wait"}
	doners   = []string{"(*sync.WaitGroup).Done"}
)

// checkGoroutines reports the goroutines that a function, but not a literal in
// it, starts, unless it waits for them and they have no transaction.
func (c *checker) checkGoroutines(body *ast.BlockStmt) {
	inspectFunction(body, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.GoStmt:
			if c.reachesTxn(n.Call) || !c.waitsFor(body, n.End(), c.done(n.Call)) {
				c.report(n.Pos(), goroutineText)
			}
		case *ast.CallExpr:
			if c.callsMethod(n, starters) && (c.reachesTxn(n.Args[0]) || !c.waitsFor(body, n.End(), c.receiver(n, starters))) {
				c.report(n.Pos(), goroutineText)
			}
		}
	})
}

// done returns the variable that the function literal which is called tells,
// deferred, that it is done, nil if there is none.
func (c *checker) done(call *ast.CallExpr) types.Object {
	lit, ok := ast.Unparen(call.Fun).(*ast.FuncLit)
	if !ok {
		return nil
	}
	for _, stmt := range lit.Body.List {
		if stmt, ok := stmt.(*ast.DeferStmt); ok {
			if group := c.receiver(stmt.Call, doners); group != nil {
				return group
			}
		}
	}
	return nil
}

// waitsFor reports whether a function that has come to pos waits for group before
// it returns.
func (c *checker) waitsFor(body *ast.BlockStmt, pos token.Pos, group types.Object) bool {
	waits := false
	var returned token.Pos // the end of the first return behind pos
	inTime := func(n ast.Node) bool { return returned == token.NoPos || n.Pos() < returned }
	inspectFunction(body, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.DeferStmt:
			for n := range ast.Preorder(n.Call) {
				call, ok := n.(*ast.CallExpr)
				waits = waits || ok && inTime(call) && c.receiver(call, waiters) == group
			}
		case *ast.ReturnStmt:
			if n.Pos() > pos && returned == token.NoPos {
				returned = n.End()
			}
		case *ast.CallExpr:
			waits = waits || n.Pos() > pos && inTime(n) && c.receiver(n, waiters) == group
		}
	})
	return waits && group != nil
}

// inspectFunction calls visit with the nodes below n, but not with those in
// function literals.
func inspectFunction(n ast.Node, visit func(ast.Node)) {
	ast.Inspect(n, func(n ast.Node) bool {
		if _, isLit := n.(*ast.FuncLit); isLit || n == nil {
			return false
		}
		visit(n)
		return true
	})
}

// callsMethod reports whether a call is of one of methods.
func (c *checker) callsMethod(call *ast.CallExpr, methods []string) bool {
	fn, ok := typeutil.Callee(c.pass.TypesInfo, call).(*types.Func)
	return ok && slices.Contains(methods, fn.FullName())
}

// receiver returns the variable one of whose methods is called, nil if it is none
// of methods.
func (c *checker) receiver(call *ast.CallExpr, methods []string) types.Object {
	fun, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok || !c.callsMethod(call, methods) {
		return nil
	}
	id, ok := ast.Unparen(fun.X).(*ast.Ident)
	if !ok {
		return nil
	}
	return c.pass.TypesInfo.ObjectOf(id)
}

// reachesTxn reports whether e may use a transaction of its function: it has one,
// or a variable that may hold one.
func (c *checker) reachesTxn(e ast.Expr) bool {
	for n := range ast.Preorder(e) {
		id, ok := n.(*ast.Ident)
		if !ok {
			continue
		}
		v, ok := c.pass.TypesInfo.Uses[id].(*types.Var)
		if !ok || v.IsField() || v.Parent() == v.Pkg().Scope() || within(v.Pos(), e) {
			continue
		}
		if mayHoldTxn(v.Type(), map[types.Type]bool{}) {
			return true
		}
	}
	return false
}

// mayHoldTxn reports whether a value of type t may hold a transaction. Those in
// seen were looked at before.
func mayHoldTxn(t types.Type, seen map[types.Type]bool) bool {
	if seen[t] || types.Identical(t, errorType) || isNamed(t, "context", "Context") || isNamed(t, "golang.org/x/sync/errgroup", "Group") {
		return false
	}
	seen[t] = true
	switch u := t.Underlying().(type) {
	case *types.Interface, *types.Signature:
		return true
	case *types.Struct:
		for field := range u.Fields() {
			if mayHoldTxn(field.Type(), seen) {
				return true
			}
		}
	case *types.Map:
		return mayHoldTxn(u.Key(), seen) || mayHoldTxn(u.Elem(), seen)
	case interface{ Elem() types.Type }: // a pointer, slice, array or channel
		return mayHoldTxn(u.Elem(), seen)
	}
	return false
}
