package migratevet

import (
	"bytes"
	"go/ast"
	"strings"
)

const ignoreDirective = "//migratevet:ignore"

// readIgnores notes the lines of file that nothing is to be reported about, and
// reports comments that give no reason: they ignore nothing.
func (c *checker) readIgnores(file *ast.File) error {
	c.ignored = map[int]bool{}
	tf := c.pass.Fset.File(file.FileStart)
	src, err := c.pass.ReadFile(tf.Name())
	if err != nil {
		return err
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			reason, ok := strings.CutPrefix(comment.Text, ignoreDirective)
			if !ok || reason != "" && reason[0] != ' ' && reason[0] != '\t' {
				continue
			}
			if strings.TrimSpace(reason) == "" {
				c.pass.Reportf(comment.Pos(), "migratevet:ignore without a reason: say behind it why this is right here")
				continue
			}
			line := tf.PositionFor(comment.Pos(), false).Line
			before := src[tf.Offset(tf.LineStart(line)):tf.Offset(comment.Pos())]
			if len(bytes.TrimSpace(before)) == 0 {
				line++ // it stands alone and speaks of the line below
			}
			c.ignored[line] = true
		}
	}
	return nil
}
