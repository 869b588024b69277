package migratevet

import (
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

// checkMapRange reports a range over a map that writes through a transaction.
func (c *checker) checkMapRange(loop *ast.RangeStmt) {
	if c.inMapOrder(loop.X) && c.writes(loop.Body, map[types.Object]bool{}) {
		c.report(loop.Pos(), "the order of a map differs between runs, and this writes in it: range over slices.Sorted(maps.Keys(m))")
	}
}

// inMapOrder reports whether a range over x comes in the order of a map.
func (c *checker) inMapOrder(x ast.Expr) bool {
	x = ast.Unparen(x)
	if _, ok := c.pass.TypesInfo.TypeOf(x).Underlying().(*types.Map); ok {
		return true
	}
	call, ok := x.(*ast.CallExpr)
	return ok && c.isMapOrderCall(call)
}

// isMapOrderCall reports whether a call returns the keys or values of a map in
// its order.
func (c *checker) isMapOrderCall(call *ast.CallExpr) bool {
	fn := typeutil.StaticCallee(c.pass.TypesInfo, call)
	return fn != nil && fn.Pkg() != nil && slices.Contains([]string{"maps", "golang.org/x/exp/maps"}, fn.Pkg().Path()) &&
		slices.Contains([]string{"All", "Keys", "Values"}, fn.Name())
}

// writes reports whether node writes through a transaction, itself or in a
// function that it calls. Those in seen were looked at before.
func (c *checker) writes(node ast.Node, seen map[types.Object]bool) bool {
	found := false
	ast.Inspect(node, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && !found {
			found = c.callWrites(call, seen)
		}
		return !found
	})
	return found
}

// callWrites does so for one call. A function whose body is not in the package
// is taken to write if it is passed something to write with.
func (c *checker) callWrites(call *ast.CallExpr, seen map[types.Object]bool) bool {
	if method := c.txMethod(call); method != "" {
		return slices.Contains(writers, method)
	}
	callee := typeutil.Callee(c.pass.TypesInfo, call)
	if fn, ok := callee.(*types.Func); ok {
		callee = fn.Origin() // of a generic function
	}
	bodies := c.functions()[callee]
	if bodies == nil {
		return c.takesTxn(call)
	}
	if seen[callee] {
		return false
	}
	seen[callee] = true
	return slices.ContainsFunc(bodies, func(body *ast.BlockStmt) bool { return c.writes(body, seen) })
}

// functions returns the bodies of the package's functions, and those that its
// variables are given; and notes the methods of a transaction that they are given.
func (c *checker) functions() map[types.Object][]*ast.BlockStmt {
	if c.bodies != nil {
		return c.bodies
	}
	c.bodies = map[types.Object][]*ast.BlockStmt{}
	c.methods = map[types.Object]string{}
	add := func(name *ast.Ident, body *ast.BlockStmt) {
		if obj := c.pass.TypesInfo.ObjectOf(name); obj != nil && body != nil {
			c.bodies[obj] = append(c.bodies[obj], body)
		}
	}
	addValue := func(name, value ast.Expr) {
		id, ok := name.(*ast.Ident)
		if !ok {
			return
		}
		switch value := ast.Unparen(value).(type) {
		case *ast.FuncLit:
			add(id, value.Body)
		case *ast.SelectorExpr:
			selected := c.pass.TypesInfo.Selections[value]
			if obj := c.pass.TypesInfo.ObjectOf(id); obj != nil && selected != nil && selected.Kind() == types.MethodVal {
				if method := methodOfTx(selected.Obj().(*types.Func)); method != "" {
					c.methods[obj] = method
				}
			}
		}
	}
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				add(n.Name, n.Body)
			case *ast.AssignStmt:
				for i := 0; i < len(n.Rhs) && len(n.Rhs) == len(n.Lhs); i++ {
					addValue(n.Lhs[i], n.Rhs[i])
				}
			case *ast.ValueSpec:
				for i, value := range n.Values {
					addValue(n.Names[i], value)
				}
			}
			return true
		})
	}
	return c.bodies
}
