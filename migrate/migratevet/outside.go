package migratevet

import (
	"go/ast"
	"slices"
)

// clocks are the functions and variables of package time that depend on when, or
// in which zone, the migration runs.
var clocks = []string{
	"After", "AfterFunc", "LoadLocation", "Local", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until",
}

// outside are packages of which a migration needs nothing, and what they depend
// on.
var outside = map[string]string{
	"crypto/rand":  "chance",
	"hash/maphash": "chance",
	"math/rand":    "chance",
	"math/rand/v2": "chance",
	"net":          "the machine",
	"net/http":     "the machine",
	"os":           "the machine",
	"os/exec":      "the machine",
	"os/signal":    "the machine",
	"os/user":      "the machine",
	"syscall":      "the machine",
}

// checkUse reports a name of what lies outside the transaction, whether it is
// called or only passed on.
func (c *checker) checkUse(id *ast.Ident) {
	obj := c.pass.TypesInfo.Uses[id]
	if obj == nil || obj.Pkg() == nil || obj.Parent() != obj.Pkg().Scope() {
		return // methods, such as Time.After, are pure
	}
	path, name := obj.Pkg().Path(), obj.Pkg().Name()+"."+obj.Name()
	if path == "time" && slices.Contains(clocks, obj.Name()) {
		c.report(id.Pos(), "%s differs between runs, and a migration may run twice: take the time from tx.Now, and wait for nothing", name)
	}
	if source, ok := outside[path]; ok {
		c.report(id.Pos(), "%s depends on %s, and a migration may run twice: derive what it writes from tx alone, the time from tx.Now", name, source)
	}
}
