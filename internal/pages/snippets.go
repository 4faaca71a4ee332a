// Package pages checks the pages of the repository (README.md, docs/*.md) against the code: that
// their Go snippets compile, that their links and the tests and targets that they name exist. It is
// for tests only.
package pages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Snippets compiles every block of a page that is marked as Go. A block is a file, or declarations,
// or statements. What it uses without declaring it, the scene has: the source of a file with
// imports and declarations. Blocks may say what a reader takes as said: a variable may be declared
// twice, or not be used. What can be imported is what go list finds in the working directory, with
// the given flags.
func Snippets(t *testing.T, page, scene string, flags ...string) {
	t.Helper()
	blocks := goBlocksOf(t, page)
	c := newCompiler(t, scene, flags)
	for _, b := range blocks {
		for _, err := range c.compile(b.text) {
			t.Errorf("%s, the snippet at line %d: %v", page, b.line, err)
		}
	}
}

// First checks that a page's first block of Go is part of a function in a Go file, which is tested.
func First(t *testing.T, page, file string) {
	t.Helper()
	indented := "\t" + strings.ReplaceAll(strings.TrimSpace(goBlocksOf(t, page)[0].text), "\n",
		"\n\t") + "\n"
	if !strings.Contains(read(t, file), strings.ReplaceAll(indented, "\n\t\n", "\n\n")) {
		t.Errorf("%s does not contain the first snippet of %s", file, page)
	}
}

// block is a piece of a page.
type block struct {
	line int // where it begins
	text string
}

var fence = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// goBlocksOf returns a page's blocks of Go, of which there must be one.
func goBlocksOf(t *testing.T, page string) (blocks []block) {
	t.Helper()
	text := read(t, page)
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		blocks = append(blocks, block{1 + strings.Count(text[:at[2]], "\n"), text[at[2]:at[3]]})
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no Go in it", page)
	}
	return blocks
}

// compiler checks types against what the scene imports.
type compiler struct {
	scene   string
	imports string // the scene's, as source
	lookup  importer.Lookup
}

func newCompiler(t *testing.T, scene string, flags []string) *compiler {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "scene.go", scene, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	c := &compiler{scene: scene}
	var paths []string
	for _, spec := range f.Imports {
		name := ""
		if spec.Name != nil {
			name = spec.Name.Name
		}
		c.imports += fmt.Sprintf("import %s %s\n", name, spec.Path.Value)
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	c.lookup = exports(t, append(flags, paths...))
	return c
}

// exports finds the compiled packages that go list tells of, and those that they need.
func exports(t *testing.T, args []string) importer.Lookup {
	t.Helper()
	cmd := exec.Command("go",
		append([]string{"list", "-export", "-deps", "-json=ImportPath,Export"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	files := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		files[p.ImportPath] = p.Export
	}
	return func(path string) (io.ReadCloser, error) {
		file, ok := files[path]
		if !ok {
			return nil, fmt.Errorf("the scene does not import %s", path)
		}
		return os.Open(file)
	}
}

// compile returns what is wrong with a snippet.
func (c *compiler) compile(snippet string) []error {
	fset := token.NewFileSet()
	files, err := c.parse(fset, snippet)
	if err != nil {
		return []error{err}
	}
	var errs []error
	conf := types.Config{
		Importer: importer.ForCompiler(fset, "gc", c.lookup),
		Error: func(err error) {
			// Soft errors leave no doubt about the types: a variable or an import that is not used,
			// := without a new variable.
			var e types.Error
			if !errors.As(err, &e) || !e.Soft {
				errs = append(errs, err)
			}
		},
	}
	// The error is the first of those that Error has seen.
	_, _ = conf.Check("snippet", fset, files, nil)
	return errs
}

// parse makes files of a snippet: of a program itself, and else of the snippet and the scene.
func (c *compiler) parse(fset *token.FileSet, snippet string) ([]*ast.File, error) {
	if strings.HasPrefix(snippet, "package ") {
		f, err := parser.ParseFile(fset, "snippet.go", snippet, 0)
		return []*ast.File{f}, err
	}
	f, err := parser.ParseFile(fset, "snippet.go", "package scene\n"+c.imports+snippet, 0)
	if err != nil {
		body := "package scene\n" + c.imports + "func _() error {\n" + snippet + "\npanic(0)\n}\n"
		f, err = parser.ParseFile(fset, "snippet.go", body, 0)
	}
	if err != nil {
		return nil, err
	}
	scene, err := parser.ParseFile(fset, "scene.go", c.scene, 0)
	return []*ast.File{scene, f}, err
}
