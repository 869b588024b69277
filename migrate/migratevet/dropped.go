package migratevet

import (
	"go/ast"
	"slices"
)

// checkDropped reports a call whose error nothing can see.
func (c *checker) checkDropped(e ast.Expr) {
	if method := c.txMethod(e); slices.Contains(failers, method) {
		c.report(e.Pos(), "the error of %s is dropped, and the migration goes on after it failed: check it and return it", method)
	}
}

// checkBlank reports calls whose error, their last result, is assigned to _.
func (c *checker) checkBlank(names, values []ast.Expr) {
	for i, value := range values {
		last := i
		if len(values) == 1 {
			last = len(names) - 1
		}
		if isBlank(names[last]) {
			c.checkDropped(value)
		}
	}
}

// checkScanRange reports a range over a scan that does not look at its errors.
func (c *checker) checkScanRange(loop *ast.RangeStmt) {
	if c.txMethod(loop.X) == "Scan" && (loop.Value == nil || isBlank(loop.Value)) {
		c.report(loop.Pos(), "the error of Scan is dropped, and a scan that broke off looks like one that is done: check the second variable and return it")
	}
}

// isBlank reports whether e is the blank identifier.
func isBlank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}
