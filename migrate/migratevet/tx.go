package migratevet

import (
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

const (
	migratePath = "github.com/kvmigrate/kvmigrate/migrate"
	storePath   = "github.com/kvmigrate/kvmigrate/store"
)

var errorType = types.Universe.Lookup("error").Type()

var (
	// writers are the methods of a transaction after which the order matters.
	writers = []string{"Set", "Delete", "Update", "Continue"}
	// failers are those that return an error.
	failers = []string{"Get", "Set", "Delete", "Update"}
)

// txMethod returns the name of the method of a migrate.Tx, store.Txn or
// store.Reader that e calls, also by way of a variable, "" if e is nothing of the kind.
func (c *checker) txMethod(e ast.Expr) string {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		return ""
	}
	switch callee := typeutil.Callee(c.pass.TypesInfo, call).(type) {
	case *types.Func:
		return methodOfTx(callee)
	case *types.Var:
		c.functions()
		return c.methods[callee]
	}
	return ""
}

// methodOfTx does so for a function.
func methodOfTx(fn *types.Func) string {
	if fn.Pkg() == nil || fn.Signature().Recv() == nil {
		return ""
	}
	recv := fn.Signature().Recv().Type()
	switch fn.Pkg().Path() {
	case migratePath:
		if isNamed(recv, migratePath, "Tx") {
			return fn.Name()
		}
	case storePath:
		// Export data forgets which interface declares a method. That of Store
		// which shares a name is Update, and neither Txn nor Reader has one.
		if types.IsInterface(recv) && slices.Contains([]string{"Get", "Scan", "Set", "Delete"}, fn.Name()) {
			return fn.Name()
		}
	}
	return ""
}

// signature returns the type of the function that is called, nil if there is none:
// of a conversion and of a builtin.
func (c *checker) signature(call *ast.CallExpr) *types.Signature {
	fun := c.pass.TypesInfo.Types[call.Fun]
	if !fun.IsValue() {
		return nil
	}
	sig, _ := fun.Type.Underlying().(*types.Signature)
	return sig
}

// takesTxn reports whether the function that is called can write through an
// argument. One that only reads takes a store.Reader.
func (c *checker) takesTxn(call *ast.CallExpr) bool {
	sig := c.signature(call)
	if sig == nil {
		return false
	}
	for param := range sig.Params().Variables() {
		if isNamed(param.Type(), migratePath, "Tx") || isNamed(param.Type(), storePath, "Txn") {
			return true
		}
	}
	return false
}

// passesTxn reports whether a call passes a transaction, or a reader, on to a
// function that knows it for one: what takes anything may print it.
func (c *checker) passesTxn(call *ast.CallExpr) bool {
	sig := c.signature(call)
	if sig == nil || sig.Params().Len() == 0 {
		return false
	}
	last := sig.Params().Len() - 1
	for i, arg := range call.Args {
		t := c.pass.TypesInfo.TypeOf(arg)
		if !isNamed(t, migratePath, "Tx") && !isNamed(t, storePath, "Txn") && !isNamed(t, storePath, "Reader") {
			continue
		}
		param := sig.Params().At(min(i, last)).Type()
		if list, ok := param.(*types.Slice); ok && sig.Variadic() && i >= last {
			param = list.Elem()
		}
		if in, ok := param.Underlying().(*types.Interface); !ok || in.NumMethods() > 0 {
			return true
		}
	}
	return false
}

// returnsError reports whether the last result of a call is an error.
func (c *checker) returnsError(call *ast.CallExpr) bool {
	sig := c.signature(call)
	if sig == nil || sig.Results().Len() == 0 {
		return false
	}
	last := sig.Results().At(sig.Results().Len() - 1).Type()
	return types.Identical(last, errorType)
}

// isNamed reports whether t is the type of that name, or a pointer to it.
func isNamed(t types.Type, path, name string) bool {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok {
		return false
	}
	obj := named.Obj()
	return obj.Name() == name && obj.Pkg() != nil && obj.Pkg().Path() == path
}
