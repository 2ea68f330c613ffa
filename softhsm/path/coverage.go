package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// hookName is the file of the daemon that is ours.
const hookName = "path_hook.go"

// A block is a piece of code that runs as a whole: the file by its import path, and the
// line and column where the piece begins.
type block struct {
	file         string
	line, column int
}

// readProfile returns the blocks of a coverage profile that ran.
func readProfile(name string) (map[block]bool, error) {
	text, err := os.ReadFile(name) // #nosec G304 -- a file of ours
	if err != nil {
		return nil, err
	}

	ran := map[block]bool{}
	for line := range strings.Lines(string(text)) {
		file, rest, ok := strings.Cut(line, ":")
		var b block
		var endLine, endColumn, statements, count int
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &b.line, &b.column, &endLine, &endColumn, &statements, &count); !ok || err != nil {
			continue // the mode, in the first line
		}
		if b.file = file; count > 0 && path.Base(file) != hookName {
			ran[b] = true
		}
	}
	return ran, nil
}

// A file is a source file that a request ran through, with the functions of it that ran, in
// the order of the file.
type file struct {
	name      string // below the root of the module
	functions []string
}

// filesOf returns the files and functions that blocks are in, in the order of their names.
// The code of module is in tree.
func filesOf(blocks map[block]bool, tree, module string) ([]file, error) {
	byName := map[string][]block{}
	for b := range blocks {
		name := strings.TrimPrefix(b.file, module+"/")
		byName[name] = append(byName[name], b)
	}

	var files []file
	for name, list := range byName {
		functions, err := functionsOf(filepath.Join(tree, name), list)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, functions})
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(cmp.Compare(path.Dir(a.name), path.Dir(b.name)), cmp.Compare(a.name, b.name))
	})
	return files, nil
}

// functionsOf returns the declared functions of a file that blocks are in. A function
// literal belongs to the function or variable in whose declaration it is.
func functionsOf(name string, blocks []block) (functions []string, err error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}

	for _, d := range tree.Decls {
		begin, end := set.Position(d.Pos()).Line, set.Position(d.End()).Line
		if slices.ContainsFunc(blocks, func(b block) bool { return begin <= b.line && b.line <= end }) {
			functions = append(functions, declared(d))
		}
	}
	return functions, nil
}

// declared returns a name for a declaration.
func declared(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	switch {
	case !ok:
		return "(a variable's function)"
	case f.Recv == nil:
		return f.Name.Name
	}

	typ := f.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}
