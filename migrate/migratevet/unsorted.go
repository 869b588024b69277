package migratevet

import (
	"go/ast"
	"go/token"
	"go/types"
	"iter"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

const unsortedText = "this writes in the order of a map, which differs between runs: sort the slice first, or range over slices.Sorted(maps.Keys(m))"

// orderKeepers are functions whose result has the order of their arguments.
var orderKeepers = []string{
	"bytes.Join", "strings.Join",
	"slices.All", "slices.AppendSeq", "slices.Clone", "slices.Collect", "slices.Concat", "slices.Values",
	"encoding/json.Marshal", "github.com/fxamacker/cbor/v2.Marshal", storePath + "/value.Marshal",
}

// lookers are functions that read a slice and leave it as it is.
var lookers = []string{"slices.Contains", "slices.ContainsFunc", "slices.Index", "slices.IndexFunc"}

// An order follows, through one function, the variables that are in the order of
// a map. It reads the source from top to bottom and forgets a variable that is
// passed to a function, which may sort it; so it finds less than there is.
type order struct {
	*checker
	unordered map[types.Object]bool
	captured  map[types.Object]bool // by function literals, which run at any time
}

// checkOrder reports writes in the order of variables that are in the order of a
// map.
func (c *checker) checkOrder(body *ast.BlockStmt) {
	o := &order{c, map[types.Object]bool{}, map[types.Object]bool{}}
	ast.Inspect(body, func(n ast.Node) bool {
		lit, ok := n.(*ast.FuncLit)
		if ok {
			o.capture(lit)
		}
		return !ok
	})
	ast.Inspect(body, o.visit)
}

// capture notes the variables that a function literal shares with its function.
func (o *order) capture(lit *ast.FuncLit) {
	for obj := range o.outer(lit) {
		o.captured[obj] = true
	}
}

// outer returns what a function literal uses that is declared outside it.
func (c *checker) outer(lit *ast.FuncLit) iter.Seq[types.Object] {
	return func(yield func(types.Object) bool) {
		for n := range ast.Preorder(lit) {
			id, ok := n.(*ast.Ident)
			if !ok {
				continue
			}
			if obj := c.pass.TypesInfo.Uses[id]; obj != nil && !within(obj.Pos(), lit) && !yield(obj) {
				return
			}
		}
	}
}

func within(pos token.Pos, n ast.Node) bool { return n.Pos() <= pos && pos < n.End() }

// visit looks at one node, and at those below in the order in which they run.
func (o *order) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncLit:
		return false
	case *ast.RangeStmt:
		o.rangeOver(n)
	case *ast.ForStmt:
		o.countTo(n, n.Cond, n.Body)
	case *ast.AssignStmt:
		for _, right := range n.Rhs {
			ast.Inspect(right, o.visit)
		}
		if n.Tok == token.ASSIGN || n.Tok == token.DEFINE {
			o.assign(n.Lhs, n.Rhs)
		}
		return false
	case *ast.ValueSpec:
		for _, value := range n.Values {
			ast.Inspect(value, o.visit)
		}
		names := make([]ast.Expr, len(n.Names))
		for i, name := range n.Names {
			names[i] = name
		}
		o.assign(names, n.Values)
		return false
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			delete(o.unordered, o.variable(n.X))
		}
	case *ast.CallExpr:
		o.call(n)
		return false
	}
	return true
}

// rangeOver reports a loop over what is in the order of a map, and notes the
// variables that the loop fills.
func (o *order) rangeOver(loop *ast.RangeStmt) {
	o.countTo(loop, loop.X, loop.Body)
	inOrderOfMap := o.inMapOrder(loop.X)
	if o.isList(loop.X) {
		o.release(loop.X)
		if !inOrderOfMap {
			return
		}
	}
	if !inOrderOfMap && !o.isUnordered(loop.X) {
		return
	}
	// The index of a slice is in order; its elements are not.
	_, isIterator := o.pass.TypesInfo.TypeOf(loop.X).Underlying().(*types.Signature)
	if looks := named(loop.Value) || named(loop.Key) && (isIterator || inOrderOfMap); !looks && !o.mentions(loop.Body, loop.X) {
		return
	}
	if !inOrderOfMap && o.writes(loop.Body, map[types.Object]bool{}) {
		o.report(loop.Pos(), unsortedText)
	}
	ast.Inspect(loop.Body, func(n ast.Node) bool {
		if stmt, ok := n.(*ast.AssignStmt); ok && len(stmt.Lhs) == 1 && o.extends(stmt) {
			if obj := o.variable(stmt.Lhs[0]); obj != nil && !within(obj.Pos(), loop) {
				o.unordered[obj] = true
			}
		}
		return true
	})
}

// named reports whether a loop has a variable there.
func named(e ast.Expr) bool { return e != nil && !isBlank(e) }

// countTo reports a loop that counts to the length of a slice in the order of a
// map, and looks into it.
func (o *order) countTo(loop ast.Node, limit ast.Expr, body *ast.BlockStmt) {
	if limit == nil {
		return
	}
	ast.Inspect(limit, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !o.isBuiltin(call, "len") || !o.isUnordered(call.Args[0]) {
			return true
		}
		if o.mentions(body, call.Args[0]) && o.writes(body, map[types.Object]bool{}) {
			o.report(loop.Pos(), unsortedText)
		}
		return false
	})
}

// extends reports whether a statement adds to the end of its variable.
func (o *order) extends(stmt *ast.AssignStmt) bool {
	if stmt.Tok == token.ADD_ASSIGN {
		basic, ok := o.pass.TypesInfo.TypeOf(stmt.Lhs[0]).Underlying().(*types.Basic)
		return ok && basic.Info()&types.IsString != 0
	}
	call, ok := ast.Unparen(stmt.Rhs[0]).(*ast.CallExpr)
	if !ok || !o.isBuiltin(call, "append") {
		return false
	}
	obj := o.variable(stmt.Lhs[0])
	return obj != nil && obj == o.variable(call.Args[0])
}

// assign moves the order of values to what they are assigned to: what sorts one of
// them may sort both.
func (o *order) assign(names, values []ast.Expr) {
	unordered := make([]bool, len(names))
	for i, value := range values {
		unordered[i] = o.isUnordered(value) && !o.isList(value)
	}
	for i, value := range values {
		if named(names[i]) {
			o.release(value)
		}
	}
	for i, name := range names {
		if obj := o.variable(name); obj != nil {
			o.unordered[obj] = unordered[i]
		}
	}
}

// call reports a write of what is in the order of a map, and forgets what is
// passed to other functions.
func (o *order) call(call *ast.CallExpr) {
	for _, arg := range call.Args {
		ast.Inspect(arg, o.visit)
	}
	ast.Inspect(call.Fun, o.visit)
	switch {
	case slices.Contains(writers, o.txMethod(call)):
		if slices.ContainsFunc(call.Args, o.isUnordered) {
			o.report(call.Pos(), unsortedText)
		}
	case o.keepsOrder(call) || o.isBuiltin(call, "len") || o.isBuiltin(call, "cap") || o.calls(call, lookers):
	default:
		o.forget(call)
	}
}

// forget takes the variables in n for sorted, but not those of which it has only
// an element.
func (o *order) forget(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IndexExpr:
			o.forget(n.Index)
			return false
		case *ast.Ident:
			delete(o.unordered, o.pass.TypesInfo.Uses[n])
		}
		return true
	})
}

// release forgets the variables whose elements e shares.
func (o *order) release(e ast.Expr) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			return !o.calls(n, orderKeepers) && !o.calls(n, lookers) && !o.isBuiltin(n, "len")
		case *ast.IndexExpr:
			return false
		case *ast.Ident:
			delete(o.unordered, o.pass.TypesInfo.Uses[n])
		}
		return true
	})
}

// isList reports whether e lists its elements, which then are in its order,
// whatever theirs is.
func (o *order) isList(e ast.Expr) bool {
	lit, ok := ast.Unparen(e).(*ast.CompositeLit)
	if !ok {
		return false
	}
	_, isStruct := o.pass.TypesInfo.TypeOf(lit).Underlying().(*types.Struct)
	return !isStruct
}

// isUnordered reports whether e is in the order of a map.
func (o *order) isUnordered(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		obj := o.variable(e)
		return obj != nil && o.unordered[obj]
	case *ast.SliceExpr:
		return o.isUnordered(e.X)
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (o.isUnordered(e.X) || o.isUnordered(e.Y))
	case *ast.KeyValueExpr:
		return o.isUnordered(e.Value)
	case *ast.CompositeLit:
		return slices.ContainsFunc(e.Elts, o.isUnordered)
	case *ast.UnaryExpr:
		return e.Op == token.AND && o.isUnordered(e.X)
	case *ast.CallExpr:
		args := e.Args
		if o.isBuiltin(e, "append") && !e.Ellipsis.IsValid() {
			args = args[:1]
		}
		return o.isMapOrderCall(e) || o.keepsOrder(e) && slices.ContainsFunc(args, o.isUnordered)
	}
	return false
}

// keepsOrder reports whether a call returns its arguments in their order.
func (o *order) keepsOrder(call *ast.CallExpr) bool {
	return o.pass.TypesInfo.Types[call.Fun].IsType() || o.isBuiltin(call, "append") || o.calls(call, orderKeepers)
}

// calls reports whether a call is of one of functions.
func (o *order) calls(call *ast.CallExpr, functions []string) bool {
	fn := typeutil.StaticCallee(o.pass.TypesInfo, call)
	return fn != nil && slices.Contains(functions, fn.FullName())
}

func (o *order) isBuiltin(call *ast.CallExpr, name string) bool {
	fn, ok := typeutil.Callee(o.pass.TypesInfo, call).(*types.Builtin)
	return ok && fn.Name() == name
}

// mentions reports whether the variable e is in body.
func (o *order) mentions(body *ast.BlockStmt, e ast.Expr) bool {
	obj := o.variable(e)
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && obj != nil && o.pass.TypesInfo.Uses[id] == obj {
			found = true
		}
		return !found
	})
	return found
}

// variable returns the variable that e is, nil if e is none of the function's
// own.
func (o *order) variable(e ast.Expr) types.Object {
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok {
		return nil
	}
	v, ok := o.pass.TypesInfo.ObjectOf(id).(*types.Var)
	if !ok || v.Parent() == o.pass.Pkg.Scope() || o.captured[v] {
		return nil
	}
	return v
}
