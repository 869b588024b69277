package frozen_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/migrate/frozen"
)

// TestMerge: two branches that take one number meet in the file, although their
// migrations have different names.
func TestMerge(t *testing.T) {
	dir := write(t, history)
	commit := func(message string) {
		t.Helper()
		if err := frozen.Update(dir); err != nil {
			t.Fatal(err)
		}
		git(t, dir, "add", "-A", ".")
		git(t, dir, "commit", "-q", "-m", message)
	}
	git(t, dir, "init", "-q", "-b", "trunk")
	commit("three versions")
	for branch, name := range map[string]string{"tags": "add_tags", "links": "add_links"} {
		git(t, dir, "checkout", "-q", "-b", branch, "trunk")
		put(t, filepath.Join(dir, "v0004_"+name+".go"), "package migrations\n\nvar "+branch+" int\n")
		commit(name)
	}
	git(t, dir, "checkout", "-q", "tags")
	if out, err := gitCommand(t, dir, "merge", "links").CombinedOutput(); err == nil {
		t.Fatalf("git merged two v4:\n%s", out)
	}
	if diff := cmp.Diff(frozen.SumFile+"\n", git(t, dir, "diff", "--name-only", "--relative", "--diff-filter=U")); diff != "" {
		t.Errorf("files in conflict (-want +got):\n%s", diff)
	}

	// Whoever takes both lines is told as well.
	path := filepath.Join(dir, frozen.SumFile)
	var both strings.Builder
	for line := range strings.Lines(read(t, path)) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "v") {
			both.WriteString(line)
		}
	}
	put(t, path, both.String())
	checkFaults(t, dir, []fault{
		{4, "add_tags", "v0004_add_tags.go", frozen.ErrDuplicate, "renumber"},
		{4, "add_links", frozen.SumFile, frozen.ErrDuplicate, "delete the line"},
	}, frozen.Check(dir))
}

// git runs git in dir, whatever its user has configured, and returns what it
// prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := gitCommand(t, dir, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func gitCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"}
	return cmd
}
