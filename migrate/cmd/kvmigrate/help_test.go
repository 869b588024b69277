package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// kvmigrate runs the command in dir and returns what it prints on standard output.
func kvmigrate(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return output(t, dir, exec.CommandContext(t.Context(), "kvmigrate", args...))
}

func output(t *testing.T, dir string, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// words returns what can follow the words of a command: the names of commands, as the
// shells offer them.
func words(t *testing.T, path []string) (names []string) {
	t.Helper()
	out := kvmigrate(t, "", append(append([]string{"__complete"}, path...), "")...)
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if !strings.HasPrefix(name, ":") {
			names = append(names, name)
		}
	}
	return names
}

// user is a row of system.users at v1, with its index.
const user = `
"system.users/u1" {"role": "dba", "user_id": "u1", "username": "ada", "auth_type": "password", "created_at": 0, "updated_at": 0, "storage_mode": "table", "password_hash": "hunter2"}
"system.users.username/\x02ada\x00" "u1"
`

// TestHelp: the help of every command fits 80 columns and has examples, and these run
// as they are printed, where there are
//
//	DIR           a store at v1 with a user u1
//	OTHER         another one
//	OLD           a store from before there were versions
//	backups/FILE  a backup of DIR
//	migrations    a folder
func TestHelp(t *testing.T) {
	prepared := t.TempDir()
	kvmigrate(t, prepared, "--store", "DIR", "up", "--to", "1")
	rows := filepath.Join(prepared, "rows")
	if err := os.WriteFile(rows, []byte(user), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, edit := range [][]string{{"load", "DIR", "rows"}, {"put", "OLD", "system.jobs/old", "a0"}} {
		output(t, prepared, exec.CommandContext(t.Context(), "kvmigrate-edit", edit...))
	}
	kvmigrate(t, prepared, "--store", "DIR", "backup", "--dir", "backups")
	file, err := filepath.Glob(filepath.Join(prepared, "backups", "*"))
	if err != nil || len(file) != 1 {
		t.Fatalf("backups: %v, %v", file, err)
	}
	for _, err := range []error{
		os.Rename(file[0], filepath.Join(prepared, "backups", "FILE")),
		os.CopyFS(filepath.Join(prepared, "OTHER"), os.DirFS(filepath.Join(prepared, "DIR"))),
		os.Mkdir(filepath.Join(prepared, "migrations"), 0o755),
		os.Remove(rows),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	all := words(t, nil)
	if len(all) < 18 {
		t.Errorf("commands: %v", all)
	}
	paths := [][]string{nil}
	for _, name := range all {
		paths = append(paths, []string{name})
	}
	for _, shell := range words(t, []string{"completion"}) {
		paths = append(paths, []string{"completion", shell})
	}
	for _, path := range paths {
		t.Run("kvmigrate "+strings.Join(path, " "), func(t *testing.T) {
			help := kvmigrate(t, "", append(path, "--help")...)
			for line := range strings.Lines(help) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 && (len(path) == 0 || path[0] != "completion") { // the words of which are cobra's
					t.Errorf("%d columns: %s", n, line)
				}
			}
			_, examples, _ := strings.Cut(help, "\nExamples:\n")
			examples, _, _ = strings.Cut(examples, "\n\n")
			if !strings.Contains(examples, "kvmigrate "+strings.Join(path, " ")) && (len(path) == 0 || !strings.Contains(examples, " "+path[0])) {
				t.Errorf("no example of it:\n%s", help)
			}
			for line := range strings.Lines(examples) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(prepared)); err != nil {
					t.Fatal(err)
				}
				output(t, dir, exec.CommandContext(t.Context(), "sh", "-c", line))
			}
		})
	}
}

// TestMan: every command has a page, with its examples, that groff can set if it is
// there. The pages have no date of their own.
func TestMan(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := t.TempDir()
	kvmigrate(t, dir, "man", "share/man1")
	for _, name := range append(words(t, nil), "") {
		if name == "help" {
			continue
		}
		page := filepath.Join(dir, "share", "man1", strings.TrimSuffix("kvmigrate-"+name, "-")+".1")
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range []string{`.TH "KVMIGRATE`, `"Nov 2023"`, "\n.SH NAME\n", "\n.SH SYNOPSIS\n", "\n.SH EXAMPLE\n", "\n  kvmigrate "} {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s lacks %q:\n%s", page, want, text)
			}
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			set := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-P-cbou", "-ww", page)
			var warnings bytes.Buffer
			set.Stderr = &warnings
			if out, err := set.Output(); err != nil || warnings.Len() > 0 || !bytes.Contains(out, []byte("EXAMPLE")) {
				t.Errorf("groff %s: %v\n%s\n%s", page, err, &warnings, out)
			}
		}
	}
}

// TestCompletion: the shells load what completion prints, those that are there.
func TestCompletion(t *testing.T) {
	for shell, load := range map[string]string{
		"bash": `. ./script && complete -p kvmigrate`,
		"zsh":  `autoload -U compinit && compinit -u -D && . ./script && whence -w _kvmigrate`,
		"fish": `source ./script && complete -c kvmigrate`,
	} {
		t.Run(shell, func(t *testing.T) {
			dir := t.TempDir()
			script := kvmigrate(t, dir, "completion", shell)
			if !strings.Contains(script, "__complete") {
				t.Errorf("the script asks for no completions:\n%s", script)
			}
			if err := os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			if path, err := exec.LookPath(shell); err == nil {
				if out := output(t, dir, exec.CommandContext(t.Context(), path, "-c", load)); !strings.Contains(out, "kvmigrate") {
					t.Errorf("%s: %q", load, out)
				}
			}
		})
	}
}

// TestCompletes: what can follow, and for files which.
func TestCompletes(t *testing.T) {
	const (
		files   = ":0" // what the shell does, as cobra's constants say
		nothing = ":4"
		ext     = ":8"
		dirs    = ":16"
		ordered = ":36"
	)
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"--store ", []string{dirs}},
		{"up --log-format ", []string{"text", "json", nothing}},
		{"up --backup ", []string{dirs}},
		{"up --key-file ", []string{files}},
		{"up --wa", []string{"--wait", nothing}},
		{"up ", []string{nothing}},
		{"plan --to ", []string{"1", "2", "3", "4", "5", "6", ordered}},
		{"baseline ", []string{"1", "2", "3", "4", "5", "6", ordered}},
		{"baseline 1 ", []string{nothing}},
		{"restore ", []string{"kvbackup", ext}},
		{"restore file ", []string{nothing}},
		{"restore file --into ", []string{dirs}},
		{"diff ", []string{dirs}},
		{"diff --from ", []string{"1", "2", "3", "4", "5", "6", ordered}},
		{"copy --from ", []string{dirs}},
		{"copy --to ", []string{dirs}},
		{"diff one other ", []string{nothing}},
		{"table ", []string{"audit_logs", "jobs", "live_queries", "metrics", "namespaces", "storages", "tables", "users", nothing}},
		{"get users ", []string{nothing}},
		{"sc", []string{"scan", nothing}},
	} {
		t.Run(tt.line, func(t *testing.T) {
			var got []string
			for line := range strings.Lines(kvmigrate(t, "", append([]string{"__complete"}, strings.Split(tt.line, " ")...)...)) {
				word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				got = append(got, word)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
