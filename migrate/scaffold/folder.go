package scaffold

import (
	"cmp"
	"fmt"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxNameLen bounds the names of migrations, as in package migrate.
const maxNameLen = 64

var (
	nameRule = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	fileRule = regexp.MustCompile(`^v([0-9]{4,})_(.+)\.go$`)
)

// checkName holds name to the rule of package migrate, and to the go command's
// for files that belong to every build.
func checkName(name string) error {
	switch {
	case name == "" || len(name) > maxNameLen:
		return fmt.Errorf("%w: it has %d characters, want 1 to %d", ErrName, len(name), maxNameLen)
	case !nameRule.MatchString(name):
		return fmt.Errorf("%w: %q; want lower-case words of letters and digits joined by single underscores, for example add_thing", ErrName, name)
	case !everywhere(name):
		last := name[strings.LastIndexByte(name, '_')+1:]
		return fmt.Errorf("%w: %q ends in %q, with which the go command leaves a file out of some builds; put another word last", ErrName, name, last)
	}
	return nil
}

// everywhere reports whether a migration of that name is built on every system.
// It asks the go command's own rule about a system that does not exist.
func everywhere(name string) bool {
	file := "v0001_" + name + ".go"
	nowhere := build.Context{
		GOOS: "none", GOARCH: "none", Compiler: "gc",
		OpenFile: func(string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("package p\n")), nil
		},
	}
	match, err := nowhere.MatchFile(".", file)
	return err == nil && match && !strings.HasSuffix(file, "_test.go")
}

// nextVersion returns the version after those in dir, if these are in order and
// none has the name.
func nextVersion(dir, name string) (uint32, error) {
	files, err := goFiles(dir)
	if err != nil {
		return 0, err
	}
	type migration struct {
		version uint64
		file    string
	}
	var known []migration
	for _, file := range files {
		m := fileRule.FindStringSubmatch(file)
		if m == nil || strings.HasSuffix(file, "_test.go") {
			continue
		}
		version, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%s: its version is beyond %d", filepath.Join(dir, file), uint32(math.MaxUint32))
		}
		if m[2] == name {
			return 0, fmt.Errorf("a migration named %s %w: %s; choose another name", name, ErrExists, filepath.Join(dir, file))
		}
		known = append(known, migration{version, file})
	}
	slices.SortStableFunc(known, func(a, b migration) int { return cmp.Compare(a.version, b.version) })

	const renumber = "renumber the ones that were never released"
	for i, m := range known {
		switch want := uint64(i) + 1; {
		case m.version == 0:
			return 0, fmt.Errorf("%s: versions start at 1; %s", filepath.Join(dir, m.file), renumber)
		case m.version < want:
			return 0, fmt.Errorf("%s and %s in %s have one version; %s", known[i-1].file, m.file, dir, renumber)
		case m.version > want:
			return 0, fmt.Errorf("%s in %s leaves a gap: there is no v%04d; %s", m.file, dir, want, renumber)
		}
	}
	return uint32(len(known)) + 1, nil
}

// packageName returns the package of the Go files in dir, or a name after the
// folder if there are none.
func packageName(dir string) (string, error) {
	files, err := goFiles(dir)
	if err != nil {
		return "", err
	}
	name, from := "", ""
	for _, file := range files {
		// Files that are in no build, such as generators, have a package of
		// their own.
		if match, err := build.Default.MatchFile(dir, file); err != nil {
			return "", err
		} else if !match {
			continue
		}
		path := filepath.Join(dir, file)
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly)
		if err != nil {
			return "", err
		}
		pkg := parsed.Name.Name
		if strings.HasSuffix(file, "_test.go") {
			pkg = strings.TrimSuffix(pkg, "_test")
		}
		if name != "" && pkg != name {
			return "", fmt.Errorf("%s is of package %s and %s of package %s: want one package in the migrations folder",
				filepath.Join(dir, from), name, path, pkg)
		}
		name, from = pkg, file
	}
	if name != "" {
		return name, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return packageNamed(filepath.Base(abs)), nil
}

// packageNamed makes the name of a package of the name of a folder.
func packageNamed(folder string) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, folder)
	name = strings.TrimLeftFunc(name, unicode.IsDigit)
	// Nothing can import a package main, and the go command passes over a
	// package documentation.
	if !token.IsIdentifier(name) || name == "main" || name == "documentation" {
		return "migrations"
	}
	return name
}

// goFiles returns the names of the Go files in dir, in order.
func goFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".go") {
			files = append(files, e.Name())
		}
	}
	return files, nil
}
