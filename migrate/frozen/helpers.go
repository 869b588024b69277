package frozen

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// A helper is a package-level declaration in a file of the folder that is no
// version. A version covers the helpers that it uses and not the files that they
// are in, because these grow with every version.
type helper struct {
	*source
	names    []string // what mentions one of them uses the helper
	variable bool
}

// usedBy returns the helpers that src uses, directly or not, in an order of
// their own.
func (f *folder) usedBy(src *source) []*source {
	used := []*source{src}
	for i := 0; i < len(used); i++ {
		for _, h := range f.helpers {
			if h.pkg == src.pkg && h.isIn(used[i].mentions) && !slices.Contains(used, h.source) {
				used = append(used, h.source)
			}
		}
	}
	used = used[1:]
	slices.SortFunc(used, func(a, b *source) int {
		file := a.covers[0]
		return cmp.Or(cmp.Compare(file, b.covers[0]), cmp.Compare(a.hashes[file], b.hashes[file]))
	})
	return used
}

func (h *helper) isIn(mentions map[string]bool) bool {
	return slices.ContainsFunc(h.names, func(name string) bool { return mentions[name] })
}

// readHelpers reads the files that are no version.
func (f *folder) readHelpers() error {
	names, err := f.goFiles("")
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := parseID(strings.TrimSuffix(name, ".go")); ok {
			continue
		}
		p, err := f.parseGo(name)
		if err == nil {
			err = f.addHelpers(p)
		}
		if err != nil {
			return fmt.Errorf("reading a helper file of the migrations: %w", err)
		}
	}

	// What has no name, such as an init function, may change the variables that
	// it mentions.
	for _, h := range f.helpers {
		if len(h.names) > 0 {
			continue
		}
		for _, v := range f.helpers {
			if v.variable && v.isIn(h.mentions) {
				h.names = append(h.names, v.names...)
			}
		}
	}
	return nil
}

// addHelpers adds the declarations of a file.
func (f *folder) addHelpers(p *parsed) error {
	from := p.body
	add := func(node ast.Node, keyword string) error {
		end := p.pos.Offset(node.End())
		h, err := f.helper(p, node, keyword, p.text[from:end])
		f.helpers, from = append(f.helpers, h), end
		return err
	}
	for _, d := range p.tree.Decls {
		g, ok := d.(*ast.GenDecl)
		switch {
		case isImport(d):
		case !ok || !g.Lparen.IsValid() || counts(g):
			if err := add(d, ""); err != nil {
				return err
			}
		default:
			from = p.pos.Offset(g.Lparen) + 1
			for _, spec := range g.Specs {
				if err := add(spec, g.Tok.String()); err != nil {
					return err
				}
			}
			from = p.pos.Offset(g.End())
		}
	}
	return nil
}

// counts reports whether the constants of a group depend on each other's place.
func counts(g *ast.GenDecl) bool {
	return g.Tok == token.CONST && (mentions(g)["iota"] || slices.ContainsFunc(g.Specs, func(spec ast.Spec) bool {
		return len(spec.(*ast.ValueSpec).Values) == 0
	}))
}

// helper makes one of a declaration, whose text begins where the one before it
// ends. keyword is what it shares with others of its group.
func (f *folder) helper(p *parsed, node ast.Node, keyword string, text []byte) (*helper, error) {
	directives, _ := scan(p.text[:p.body], p.body, p.cgo)
	_, tokens := scan(bytes.TrimLeft(text, "; \t"), 0, p.cgo)
	if keyword != "" {
		tokens = append([]string{keyword}, tokens...)
	}
	mentions := mentions(node)
	src, err := f.source(p, effective(directives), p.importsOf(mentions), effective(tokens))
	if err != nil {
		return nil, err
	}
	src.mentions = mentions
	h := &helper{source: src, variable: keyword == "var"}
	h.declares(node)
	h.names = slices.DeleteFunc(h.names, func(name string) bool { return name == "_" })
	return h, nil
}

// effective returns tokens without the directives that are no part of a build.
func effective(tokens []string) []string {
	return slices.DeleteFunc(tokens, func(s string) bool { return strings.HasPrefix(s, "//go:generate") })
}

// declares notes the names that a declaration gives.
func (h *helper) declares(node ast.Node) {
	switch n := node.(type) {
	case *ast.GenDecl:
		h.variable = n.Tok == token.VAR
		for _, spec := range n.Specs {
			h.declares(spec)
		}
	case *ast.ValueSpec:
		for _, name := range n.Names {
			h.names = append(h.names, name.Name)
		}
	case *ast.TypeSpec:
		h.names = append(h.names, n.Name.Name)
	case *ast.FuncDecl:
		switch {
		case n.Recv != nil:
			// All methods of a type count: which are called, an interface may hide.
			h.names = append(h.names, receiver(n))
		case n.Name.Name != "init":
			h.names = append(h.names, n.Name.Name)
		}
	}
}

// receiver returns the name of the type that has a method.
func receiver(method *ast.FuncDecl) (name string) {
	ast.Inspect(method.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return true
	})
	return name
}

// mentions returns the identifiers in node, apart from those behind a dot. There
// is no telling what each means without the packages that are imported; to take
// one too many for a use does less harm than to miss one.
func mentions(node ast.Node) map[string]bool {
	names := map[string]bool{}
	var visit func(ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			ast.Inspect(n.X, visit)
			return false
		case *ast.ImportSpec:
			return false
		case *ast.Ident:
			names[n.Name] = true
		}
		return true
	}
	ast.Inspect(node, visit)
	delete(names, "_")
	return names
}

// importsOf returns the imports that a declaration with these names in it may
// use. A package is called what its import says, or else a word of its path. An
// import of which nothing in the file makes use that way counts for all.
func (p *parsed) importsOf(names map[string]bool) []*ast.ImportSpec {
	all := mentions(p.tree)
	var used []*ast.ImportSpec
	for _, spec := range p.tree.Imports {
		words := packageNames(spec)
		isIn := func(names map[string]bool) bool {
			return slices.ContainsFunc(words, func(word string) bool { return names[word] })
		}
		if isIn(names) || !isIn(all) && !slices.Contains(words, "_") {
			used = append(used, spec)
		}
	}
	return used
}

// packageNames returns what the package of an import may be called.
func packageNames(spec *ast.ImportSpec) []string {
	if spec.Name != nil {
		return []string{spec.Name.Name}
	}
	path, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return nil
	}
	return strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/.-", r) })
}
