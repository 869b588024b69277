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

var (
	// writers are the methods of a transaction after which the order matters.
	writers = []string{"Set", "Delete", "Update", "Continue"}
	// failers are those that return an error.
	failers = []string{"Get", "Set", "Delete", "Update"}
)

// txMethod returns the name of the method of a migrate.Tx, store.Txn or
// store.Reader that e calls, "" if e is nothing of the kind.
func (c *checker) txMethod(e ast.Expr) string {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		return ""
	}
	fn, ok := typeutil.Callee(c.pass.TypesInfo, call).(*types.Func)
	if !ok || fn.Pkg() == nil || fn.Signature().Recv() == nil {
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

// takesTxn reports whether a function of type t can write through an argument.
// One that only reads takes a store.Reader.
func takesTxn(t types.Type) bool {
	sig, ok := types.Unalias(t).Underlying().(*types.Signature)
	if !ok {
		return false
	}
	for param := range sig.Params().Variables() {
		if isNamed(param.Type(), migratePath, "Tx") || isNamed(param.Type(), storePath, "Txn") {
			return true
		}
	}
	return false
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
