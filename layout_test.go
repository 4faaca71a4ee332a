package redlock_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// A file can be read from top to bottom, a function at a glance, and a line without a scroll bar.
const (
	mostLines     = 350 // of a file of the root
	mostOfAFunc   = 35  // lines of a function of the library
	mostOfColumns = 100 // of code and comments; a tab has four
)

// library returns the directories of the package and of those that it imports from this module.
func library(t *testing.T) []string {
	t.Helper()
	const module = "github.com/rediskit/redlock/"
	dirs := []string{"."}
	for i := 0; i < len(dirs); i++ {
		pkg, err := build.ImportDir(dirs[i], 0)
		require.NoError(t, err)
		for _, imported := range pkg.Imports {
			dir, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

func TestFilesFunctionsAndLinesAreShort(t *testing.T) {
	library := library(t)
	require.Contains(t, library, "internal/quorum")
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		hidden := file != "." && d.Name()[0] == '.'
		switch {
		case err != nil:
			return err
		case d.IsDir() && (hidden || d.Name() == "testdata" || file == "bin"):
			return fs.SkipDir
		case path.Ext(file) == ".go", path.Ext(file) == ".lua":
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			requireShort(t, file, string(text), slices.Contains(library, path.Dir(file)))
		}
		return nil
	})
	require.NoError(t, err)
}

func requireShort(t *testing.T, file, text string, library bool) {
	t.Helper()
	lines := strings.Split(text, "\n")
	if path.Dir(file) == "." && len(lines)-1 > mostLines {
		t.Errorf("%s has %d lines, and may have %d", file, len(lines)-1, mostLines)
	}
	verbatim := make(map[int]bool)
	if path.Ext(file) == ".go" {
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, text, parser.ParseComments)
		require.NoError(t, err)
		verbatim = verbatimLines(set, parsed)
		if library && !strings.HasSuffix(file, "_test.go") {
			requireShortFunctions(t, set, parsed)
		}
	}
	for i, line := range lines {
		wide := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
		if wide > mostOfColumns && !verbatim[i+1] {
			t.Errorf("%s:%d has %d columns, and may have %d", file, i+1, wide, mostOfColumns)
		}
	}
}

func requireShortFunctions(t *testing.T, set *token.FileSet, parsed *ast.File) {
	t.Helper()
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			begin, end := set.Position(f.Pos()), set.Position(f.End())
			if n := end.Line - begin.Line + 1; n > mostOfAFunc {
				t.Errorf("%v: %s has %d lines, and may have %d", begin, f.Name, n, mostOfAFunc)
			}
		}
	}
}

// verbatimLines returns the lines with text that has to stand as it is: raw strings, and what an
// example prints.
func verbatimLines(set *token.FileSet, parsed *ast.File) map[int]bool {
	found := make(map[int]bool)
	keep := func(n ast.Node) {
		for l := set.Position(n.Pos()).Line; l <= set.Position(n.End()).Line; l++ {
			found[l] = true
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if s, ok := n.(*ast.BasicLit); ok && s.Value[0] == '`' {
			keep(s)
		}
		return true
	})
	for _, group := range parsed.Comments {
		if strings.HasPrefix(group.Text(), "Output:") {
			keep(group)
		}
	}
	return found
}
