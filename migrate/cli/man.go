package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) man(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: `Write a manual page for each command into a directory, which is made if it is
not there. SOURCE_DATE_EPOCH in the environment, in Unix seconds, is the date
that the pages have; otherwise it is today.`,
		Example:           fmt.Sprintf("  %s man man1", a.Name),
		Args:              args(1, "one directory"),
		ValidArgsFunction: first(1, completeDirectory),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: a.Name, Manual: root.Short}, args[0])
		},
	}
}
