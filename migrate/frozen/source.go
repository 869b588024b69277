package frozen

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A source is a Go file, read.
type source struct {
	covers   []string          // the file and what it embeds; the file is first
	hashes   map[string]string // of covers
	packages []string          // imported, below the migrations folder; relative to it, in order
}

// hash returns the hash of a version and the files that it covers, relative to
// the folder, the migration first.
func (f *folder) hash(m migration) (hash string, files []string, err error) {
	hashes := map[string]string{}
	queue := []string{m.id() + ".go"}
	seen := map[string]bool{}
	for len(queue) > 0 {
		src, err := f.read(queue[0])
		if err != nil {
			return "", nil, err
		}
		queue = queue[1:]
		for _, file := range src.covers {
			hashes[file] += src.hashes[file] // both, of a Go file that another embeds
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
		for _, pkg := range src.packages {
			if seen[pkg] {
				continue
			}
			seen[pkg] = true
			more, err := f.goFiles(pkg)
			if err != nil {
				return "", nil, err
			}
			queue = append(queue, more...)
		}
	}
	h := sha256.New()
	slices.Sort(files[1:])
	for _, file := range files {
		fmt.Fprintf(h, "%s %q\n", hashes[file], file)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), files, nil
}

// goFiles returns the files of a package in order: of every build, so that the
// hash is the same on every system.
func (f *folder) goFiles(pkg string) ([]string, error) {
	entries, err := os.ReadDir(f.path(pkg))
	if err != nil {
		return nil, fmt.Errorf("reading an imported package: %w", err)
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !hidden(name) {
			files = append(files, path.Join(pkg, name))
		}
	}
	return files, nil
}

// hidden reports whether the go command passes over a name.
func hidden(name string) bool { return name[0] == '.' || name[0] == '_' }

// read reads a Go file, once.
func (f *folder) read(file string) (*source, error) {
	if src := f.sources[file]; src != nil {
		return src, nil
	}
	text, err := os.ReadFile(f.path(file))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, f.path(file), text, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("its hash needs source that parses: %w", err)
	}
	src := &source{covers: []string{file}, hashes: map[string]string{}}
	imports := importLines(tree)
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if pkg, ok := strings.CutPrefix(imported, f.importPath+"/"); ok && f.importPath != "" {
			src.packages = append(src.packages, pkg)
		}
	}
	slices.Sort(src.packages)
	end := tree.Name.End()
	for _, d := range tree.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			end = g.End()
		}
	}
	directives, tokens := scan(text, fset.File(end).Offset(end), slices.Contains(imports, `"C"`))

	h := sha256.New()
	for _, part := range [][]string{directives, {tree.Name.Name}, imports, tokens} {
		for _, s := range part {
			fmt.Fprintf(h, "%q\n", s)
		}
		fmt.Fprintln(h)
	}
	src.hashes[file] = fmt.Sprintf("go:%x", h.Sum(nil))
	for _, text := range append(directives, tokens...) {
		args, ok := strings.CutPrefix(text, "//go:embed")
		if !ok {
			continue
		}
		if err := f.embed(src, path.Dir(file), args); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.path(file), text, err)
		}
	}
	f.sources[file] = src
	return src, nil
}

// importLines returns the imports of a file in an order of their own.
func importLines(tree *ast.File) []string {
	var lines []string
	for _, spec := range tree.Imports {
		text := spec.Path.Value
		if spec.Name != nil {
			text = spec.Name.Name + " " + text
		}
		lines = append(lines, text)
	}
	slices.Sort(lines)
	return lines
}

// scan returns the tokens of a file after its imports, and the directives up to
// there. Tokens, because how the go command formats them changes with its
// version. The scanner takes carriage returns out of comments and raw strings,
// as the compiler does.
func scan(text []byte, imports int, cgo bool) (directives, tokens []string) {
	file := token.NewFileSet().AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, scanner.ScanComments)
	for {
		pos, tok, lit := s.Scan()
		switch {
		case tok == token.EOF:
			return directives, tokens
		case tok == token.COMMENT:
			lit = strings.TrimRight(lit, " \t")
			if !cgo && !strings.HasPrefix(lit, "//go:") {
				continue
			}
		case tok.IsOperator():
			lit = tok.String() // also of the semicolons at line ends
		}
		switch {
		case file.Offset(pos) >= imports:
			// What may be left out before a closing bracket tells of line breaks.
			if last := len(tokens) - 1; last >= 0 && (lit == ")" || lit == "}") && (tokens[last] == "," || tokens[last] == ";") {
				tokens = tokens[:last]
			}
			tokens = append(tokens, lit)
		case tok == token.COMMENT:
			directives = append(directives, lit)
		}
	}
}

// embed adds the files that a go:embed directive in pkg names.
func (f *folder) embed(src *source, pkg, args string) error {
	patterns, err := embedPatterns(args)
	if err != nil {
		return err
	}
	root := os.DirFS(f.path(pkg))
	for _, pattern := range patterns {
		pattern, all := strings.CutPrefix(pattern, "all:")
		matches, err := fs.Glob(root, pattern)
		if err != nil {
			return fmt.Errorf("%q: %w", pattern, err)
		}
		if len(matches) == 0 {
			return fmt.Errorf("%q matches no file: %w", pattern, fs.ErrNotExist)
		}
		for _, match := range matches {
			err := fs.WalkDir(root, match, func(name string, e fs.DirEntry, err error) error {
				switch {
				case err != nil:
					return err
				case !all && name != match && hidden(e.Name()):
					if e.IsDir() {
						return fs.SkipDir
					}
					return nil
				case e.IsDir():
					return nil
				}
				data, err := fs.ReadFile(root, name)
				if err != nil {
					return err
				}
				file := path.Join(pkg, name)
				if !slices.Contains(src.covers, file) {
					src.covers = append(src.covers, file)
				}
				src.hashes[file] += fmt.Sprintf("embed:%x", sha256.Sum256(data))
				return nil
			})
			if err != nil {
				return fmt.Errorf("reading an embedded file: %w", err)
			}
		}
	}
	return nil
}

// embedPatterns takes the arguments of a go:embed directive apart: words, of
// which each may be quoted as Go strings are.
func embedPatterns(args string) ([]string, error) {
	var patterns []string
	for args = strings.TrimSpace(args); args != ""; args = strings.TrimSpace(args) {
		if args[0] != '"' && args[0] != '`' {
			word := strings.Fields(args)[0]
			patterns, args = append(patterns, word), args[len(word):]
			continue
		}
		quoted, err := strconv.QuotedPrefix(args)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		patterns, args = append(patterns, word), args[len(quoted):]
	}
	return patterns, nil
}
