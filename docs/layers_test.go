package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	gotypes "go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFilesFormLayers: in the packages that are read most, no file uses what is declared in
// a file above it. If one did, a reader who goes down from file to file would come to where
// he was.
func TestFilesFormLayers(t *testing.T) {
	for _, folder := range []string{"daemon", "daemon/server", "daemon/audit", "backends/pkcs11"} {
		uses := fileUses(t, filepath.Join("..", filepath.FromSlash(folder)))
		if len(uses) == 0 {
			t.Errorf("%s: no file uses another: is the test blind?", folder)
		}
		for file := range uses {
			if circle := circleFrom(uses, []string{file}); circle != nil {
				t.Errorf("%s: files use each other in a circle: %s", folder, strings.Join(circle, " -> "))
				break
			}
		}
	}
}

// fileUses returns, for each file of the package in folder, the files that declare what it
// uses. Imports are left unresolved: they lead to other packages.
func fileUses(t *testing.T, folder string) map[string][]string {
	t.Helper()
	p, err := build.ImportDir(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		f, err := parser.ParseFile(set, filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}

	info := &gotypes.Info{Uses: map[*ast.Ident]gotypes.Object{}}
	config := gotypes.Config{Importer: noImports{}, FakeImportC: true, Error: func(error) {}}
	pkg, _ := config.Check(folder, set, files, info) // what is imported is unknown, as intended

	uses := map[string][]string{}
	nameOf := func(at token.Pos) string { return filepath.Base(set.Position(at).Filename) }
	for id, object := range info.Uses {
		if object.Pkg() != pkg || !object.Pos().IsValid() {
			continue
		}
		from, to := nameOf(id.Pos()), nameOf(object.Pos())
		if from != to && !slices.Contains(uses[from], to) {
			uses[from] = append(uses[from], to)
		}
	}
	return uses
}

// circleFrom returns a way that begins with the given files and comes back to the first of
// them, or nil.
func circleFrom(uses map[string][]string, way []string) []string {
	for _, next := range uses[way[len(way)-1]] {
		if next == way[0] {
			return append(way, next)
		}
		if slices.Contains(way, next) {
			continue
		}
		if circle := circleFrom(uses, append(slices.Clone(way), next)); circle != nil {
			return circle
		}
	}
	return nil
}

// noImports resolves no import.
type noImports struct{}

func (noImports) Import(path string) (*gotypes.Package, error) {
	return nil, fmt.Errorf("%s: %w", path, errors.ErrUnsupported)
}
