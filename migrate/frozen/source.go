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

// A source is Go source, read: a file, or a declaration of a helper file.
type source struct {
	pkg      string            // of its package clause
	covers   []string          // the file and what it embeds; the file is first
	hashes   map[string]string // of covers
	packages []string          // imported, below the migrations folder; relative to it, in order
	mentions map[string]bool   // the names in it
}

// hash returns the hash of a version and the files that it covers, relative to
// the folder, the migration first.
func (f *folder) hash(m migration) (hash string, files []string, err error) {
	src, err := f.read(m.id() + ".go")
	if err != nil {
		return "", nil, err
	}
	hashes := map[string]string{}
	seen := map[string]bool{}
	for queue := append([]*source{src}, f.usedBy(src)...); len(queue) > 0; queue = queue[1:] {
		src := queue[0]
		for _, file := range src.covers {
			hashes[file] += src.hashes[file] // several: of declarations, or of a Go file that another embeds
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
		for _, pkg := range src.packages {
			if seen[pkg] {
				continue
			}
			seen[pkg] = true
			names, err := f.goFiles(pkg)
			if err != nil {
				return "", nil, fmt.Errorf("reading an imported package: %w", err)
			}
			for _, name := range names {
				src, err := f.read(name)
				if err != nil {
					return "", nil, err
				}
				queue = append(queue, src)
			}
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
		return nil, err
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
	p, err := f.parseGo(file)
	if err != nil {
		return nil, err
	}
	directives, tokens := scan(p.text, p.body, p.cgo)
	src, err := f.source(p, directives, p.tree.Imports, tokens)
	if err != nil {
		return nil, err
	}
	src.mentions = mentions(p.tree)
	f.sources[file] = src
	return src, nil
}

// A parsed file is one of Go.
type parsed struct {
	name string // relative to the folder
	text []byte
	tree *ast.File
	pos  *token.File
	body int // where the declarations after the imports begin, an offset in text
	cgo  bool
}

func (f *folder) parseGo(name string) (*parsed, error) {
	text, err := os.ReadFile(f.path(name))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, f.path(name), text, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("its hash needs source that parses: %w", err)
	}
	p := &parsed{name: name, text: text, tree: tree, pos: fset.File(tree.FileStart)}
	end := tree.Name.End()
	for _, d := range tree.Decls {
		if isImport(d) {
			end = d.End()
		}
	}
	p.body = p.pos.Offset(end)
	p.cgo = slices.ContainsFunc(tree.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == `"C"` })
	return p, nil
}

func isImport(d ast.Decl) bool {
	g, ok := d.(*ast.GenDecl)
	return ok && g.Tok == token.IMPORT
}

// source makes a source of parts of a file.
func (f *folder) source(p *parsed, directives []string, imports []*ast.ImportSpec, tokens []string) (*source, error) {
	src := &source{pkg: p.tree.Name.Name, covers: []string{p.name}, hashes: map[string]string{}}
	for _, spec := range imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if pkg, ok := strings.CutPrefix(imported, f.importPath+"/"); ok && f.importPath != "" {
			src.packages = append(src.packages, pkg)
		}
	}
	slices.Sort(src.packages)

	h := sha256.New()
	for _, part := range [][]string{directives, {src.pkg}, importLines(imports), tokens} {
		for _, s := range part {
			fmt.Fprintf(h, "%q\n", s)
		}
		fmt.Fprintln(h)
	}
	src.hashes[p.name] = fmt.Sprintf("go:%x", h.Sum(nil))
	for _, text := range slices.Concat(directives, tokens) {
		args, ok := strings.CutPrefix(text, "//go:embed")
		if !ok {
			continue
		}
		if err := f.embed(src, path.Dir(p.name), args); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.path(p.name), text, err)
		}
	}
	return src, nil
}

// importLines returns imports in an order of their own.
func importLines(imports []*ast.ImportSpec) []string {
	var lines []string
	for _, spec := range imports {
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
