package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// withCompletion tells the shells what follows the commands and flags of a's tree.
func (a *app) withCompletion(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for _, name := range []string{"dir", "backup", "into", "golden"} {
			if cmd.Flags().Lookup(name) != nil {
				must(cmd.MarkFlagDirname(name))
			}
		}
		for _, name := range []string{"from", "to"} {
			switch f := cmd.Flags().Lookup(name); {
			case f == nil:
			case f.Value.Type() == "string":
				must(cmd.MarkFlagDirname(name)) // a store, not a version
			default:
				must(cmd.RegisterFlagCompletionFunc(name, a.completeVersion))
			}
		}
	}
	must(root.MarkPersistentFlagDirname("store"))
	must(root.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
}

// must panics if a flag is not there that was made a few lines above.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// completeVersion completes the versions that the program knows.
func (a *app) completeVersion(*cobra.Command, []string, string) (versions []string, _ cobra.ShellCompDirective) {
	for _, m := range a.Options.Registry.Migrations() {
		versions = append(versions, cobra.CompletionWithDesc(fmt.Sprint(m.Version), m.Name))
	}
	return versions, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeDirectory completes a directory, such as that of a store.
func completeDirectory(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeBackup completes the file of a backup.
func completeBackup(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"kvbackup"}, cobra.ShellCompDirectiveFilterFileExt
}

// first completes the first n arguments of a command by complete.
func first(n int, complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}

// withExamples adds cobra's own commands, completion and help, to a root, with
// examples as the others have, and arguments checked as theirs are.
func withExamples(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = fmt.Sprintf("  %s help up", root.Name())
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err != nil {
					return usage(err)
				}
				return noCommand(found, rest)
			}
		case "completion":
			cmd.Example = fmt.Sprintf("  %s completion bash > %[1]s.bash", root.Name())
			cmd.Args, cmd.RunE = noCommand, root.RunE
			for _, shell := range cmd.Commands() {
				shell.Args = noArgs
				shell.Example = fmt.Sprintf("  %s completion %s > %[1]s.%[2]s", root.Name(), shell.Name())
			}
		}
	}
}
