package migratevet

import (
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

const goroutineText = "a Tx belongs to one goroutine, and what outlives the call finds it closed: do this in line; Each works on several batches at a time by itself"

// checkGo reports a go statement. That it is waited for does not help: the Tx
// would be in two hands meanwhile.
func (c *checker) checkGo(stmt *ast.GoStmt) { c.report(stmt.Pos(), goroutineText) }

// checkGoCall reports a method call that starts a goroutine.
func (c *checker) checkGoCall(call *ast.CallExpr) {
	starters := []string{"(*sync.WaitGroup).Go", "(*golang.org/x/sync/errgroup.Group).Go", "(*golang.org/x/sync/errgroup.Group).TryGo"}
	fn, ok := typeutil.Callee(c.pass.TypesInfo, call).(*types.Func)
	if ok && slices.Contains(starters, fn.FullName()) {
		c.report(call.Pos(), goroutineText)
	}
}
