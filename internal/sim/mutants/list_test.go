package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever changes a text that a mutant replaces, or what the other text names, learns of it here,
// and not when the mutants are run the next time.
func TestMutantsReplaceTextsThatAreThereAndCompile(t *testing.T) {
	root, err := moduleRoot()
	require.NoError(t, err)
	c := newChecker(t, root)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			texts, err := m.texts(root)
			require.NoError(t, err)
			for file := range texts {
				require.Contains(t, c.files[path.Dir(file)], file)
				require.NoError(t, c.check(path.Dir(file), texts))
			}
		})
	}
}

// checker finds what does not compile, without a compiler.
type checker struct {
	fset    *token.FileSet
	files   map[string]map[string]*ast.File // of packages, by directory and file
	imports types.Importer
}

func newChecker(t *testing.T, root string) *checker {
	t.Helper()
	c := &checker{fset: token.NewFileSet(), files: make(map[string]map[string]*ast.File)}
	exports := make(map[string]string)
	for _, p := range listed(t, root) {
		exports[p.ImportPath] = p.Export
		dir, err := filepath.Rel(root, p.Dir)
		require.NoError(t, err)
		if !filepath.IsLocal(dir) {
			continue
		}
		dir = filepath.ToSlash(dir)
		c.files[dir] = make(map[string]*ast.File)
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, 0)
			require.NoError(t, err)
			c.files[dir][path.Join(dir, name)] = file
		}
	}
	c.imports = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	return c
}

// pkg is a package as go list describes it.
type pkg struct {
	ImportPath, Dir string
	Export          string // the file with what others need of it
	GoFiles         []string
}

// listed returns the simulation and all that it is made of.
func listed(t *testing.T, root string) (packages []pkg) {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles",
		"./internal/sim")
	list.Dir, list.Stderr = root, os.Stderr
	out, err := list.Output()
	require.NoError(t, err)
	for texts := json.NewDecoder(bytes.NewReader(out)); texts.More(); {
		var p pkg
		require.NoError(t, texts.Decode(&p))
		packages = append(packages, p)
	}
	return packages
}

// check says why a package does not compile if some files have other texts.
func (c *checker) check(dir string, texts map[string]string) error {
	var files []*ast.File
	for name, file := range c.files[dir] {
		if text, changed := texts[name]; changed {
			var err error
			if file, err = parser.ParseFile(c.fset, name, text, 0); err != nil {
				return err
			}
		}
		files = append(files, file)
	}
	_, err := (&types.Config{Importer: c.imports}).Check(dir, c.fset, files, nil)
	return err
}

func TestUnitTestsAreOfMutants(t *testing.T) {
	for name, unit := range tests {
		require.True(t, slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == name }),
			"%s: %s", unit.test, name)
	}
}
