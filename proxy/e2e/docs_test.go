package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryExportedNameIsDocumented looks at the packages of the product and at
// those that its tests share.
func TestEveryExportedNameIsDocumented(t *testing.T) {
	names := 0
	for path, p := range listed(t, module+"/...") {
		documented := false
		for _, name := range p.GoFiles {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || file.Doc.Text() != ""
			names += inspect(file, func(at ast.Node, name string) {
				t.Errorf("%s: %s has no comment", files.Position(at.Pos()), name)
			})
		}
		if !documented && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no comment", path)
		}
	}
	if names < 100 {
		t.Errorf("looked at %d names only", names)
	}
}

// inspect calls bare with each exported name of a file that has no comment, and
// returns how many exported names there are.
func inspect(file *ast.File, bare func(ast.Node, string)) (names int) {
	look := func(at ast.Node, name string, docs ...*ast.CommentGroup) {
		if !ast.IsExported(name) {
			return
		}
		names++
		for _, doc := range docs {
			if strings.TrimSpace(doc.Text()) != "" {
				return
			}
		}
		bare(at, name)
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if exportedReceiver(d) {
				look(d, d.Name.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					look(spec, spec.Name.Name, spec.Doc, lone(d))
					members(spec, look)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						look(name, name.Name, spec.Doc, spec.Comment, d.Doc)
					}
				}
			}
		}
	}
	return names
}

// lone returns the comment of a declaration that declares one thing.
func lone(d *ast.GenDecl) *ast.CommentGroup {
	if len(d.Specs) == 1 {
		return d.Doc
	}
	return nil
}

// members looks at the methods of an exported interface. Fields are left to the
// eye: a group of them often has one comment.
func members(spec *ast.TypeSpec, look func(ast.Node, string, ...*ast.CommentGroup)) {
	i, ok := spec.Type.(*ast.InterfaceType)
	if !ok || !spec.Name.IsExported() || spec.Name.Name == "TB" { // TB repeats methods of package testing
		return
	}
	for _, m := range i.Methods.List {
		for _, name := range m.Names {
			look(name, name.Name, m.Doc, m.Comment)
		}
	}
}

// exportedReceiver reports whether d is a function, or a method of an exported
// type: those of others are seen through an interface that explains them.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return !ok || name.IsExported()
}

func TestInspectFindsBareNames(t *testing.T) {
	const source = `package p
// A is documented.
type A struct{}
type B struct{}
// Group.
var (
	C = 1
	D = 2
)
func E() {}
// F is documented.
func F() {}
func (A) G() {}
func (b) H() {}
// I is documented by its own comment only.
type (
	J int
)
type K interface{ L() }
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var bare []string
	names := inspect(file, func(_ ast.Node, name string) { bare = append(bare, name) })
	if got := strings.Join(bare, " "); got != "B E G K L" || names != 10 {
		t.Errorf("found %q among %d names", got, names)
	}
}
