// Package docs_test checks that what the pages say is still true of the code.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/pages"
)

const root = ".."

// everyPage is README.md and the like, the pages here and those of directories.
func everyPage(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		"../*.md", "*.md", "../*/README.md", "../examples/*/README.md",
	} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		all = append(all, found...)
	}
	require.Contains(t, all, "../README.md")
	slices.Sort(all)
	return slices.Compact(all)
}

// compiledHere are the pages of TestSnippetsCompile.
var compiledHere = []string{"../README.md", "../deploy/README.md", "fencing.md", "patterns.md",
	"restarts.md", "troubleshooting.md"}

// compiledElsewhere are the pages whose Go needs other libraries, each with the test in the module
// that has these.
var compiledElsewhere = map[string]string{
	"../gocronredlock/README.md": "../gocronredlock/readme_test.go",
	"../otelredlock/README.md":   "../otelredlock/readme_test.go",
	"../promredlock/README.md":   "../promredlock/readme_test.go",
	"integrations.md":            "../integrations/page_test.go",
	"migrating.md":               "../benchmarks/peers/pages_test.go",
}

func TestEveryPageWithGoIsCompiledSomewhere(t *testing.T) {
	for _, page := range everyPage(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		elsewhere, compiled := compiledElsewhere[page]
		if compiled {
			test, err := os.ReadFile(elsewhere)
			require.NoError(t, err)
			require.Contains(t, string(test), filepath.Base(page)+`"`, "%s does not read the page",
				elsewhere)
		}
		compiled = compiled || slices.Contains(compiledHere, page)
		require.Equal(t, compiled, strings.Contains(string(text), "\n```go\n"), page)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range everyPage(t) {
		pages.Links(t, page)
	}
}

func TestCommandsOnThePagesExist(t *testing.T) {
	for _, page := range everyPage(t) {
		pages.Names(t, page, root)
	}
}

func TestIndexHasEveryPage(t *testing.T) {
	index, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, page := range everyPage(t) {
		if filepath.Dir(page) == "." && page != "README.md" {
			require.Equal(t, 1, strings.Count(string(index), "("+page+")"),
				"docs/README.md has one line for %s", page)
		}
	}
}

func TestTroubleshootingHasEveryTextOfTheLibrary(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	require.NoError(t, err)
	text := strings.Join(strings.Fields(string(page)), " ")
	found := 0
	for _, dir := range libraryDirs(t) {
		for at, literal := range sentencesIn(t, dir) {
			found++
			if !asOnAPage(literal).MatchString(text) {
				t.Errorf("docs/troubleshooting.md does not have the text at %s: %q", at, literal)
			}
		}
	}
	require.Greater(t, found, 60, "texts of the library")
}

func TestTroubleshootingHasEverySentinelError(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	require.NoError(t, err)
	files, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	found := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, s := range regexp.MustCompile(
			`(?m)^(?:\t|var )(Err\w+)(?: error)? += (?:errors\.New|outage)\(`).
			FindAllStringSubmatch(string(source), -1) {
			found++
			require.Contains(t, string(page), "| `"+s[1]+"` |")
		}
	}
	require.GreaterOrEqual(t, found, 7)
}

func TestAcceptanceTestsSayWhichFileIsForWhat(t *testing.T) {
	const dir = "../internal/acceptance"
	doc, err := os.ReadFile(filepath.Join(dir, "doc.go"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	require.ElementsMatch(t, files, regexp.MustCompile(`\w+_test\.go`).FindAllString(string(doc),
		-1))
}

// libraryDirs are the directories of the packages that a program with the library has in it.
func libraryDirs(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f",
		"{{if not .Standard}}{{.ImportPath}} {{.Dir}}{{end}}", ".")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	var dirs []string
	for _, line := range strings.Split(string(out), "\n") {
		path, dir, _ := strings.Cut(line, " ")
		if path == "github.com/rediskit/redlock" ||
			strings.HasPrefix(path, "github.com/rediskit/redlock/") {
			dirs = append(dirs, dir)
		}
	}
	require.Greater(t, len(dirs), 3)
	return dirs
}

var (
	verb = regexp.MustCompile(`%[-+#0-9.]*[a-zT]`)
	word = regexp.MustCompile(`[A-Za-z]{2,}`)
	code = regexp.MustCompile(`^[A-Z]{3,} ?$`) // the beginning of a server's reply
)

// sentencesIn returns the string literals in the code of a package that have two words or more, or
// are the code of a server's error, by where they are.
func sentencesIn(t *testing.T, dir string) map[token.Position]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	all := map[token.Position]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, err := strconv.Unquote(l.Value)
				require.NoError(t, err)
				text = strings.TrimPrefix(text, "redlock: ")
				if strings.HasPrefix(text, "-- ") {
					return true // of a script: a comment
				}
				words := word.FindAllString(verb.ReplaceAllString(text, ""), -1)
				if len(words) > 1 && strings.Contains(text, " ") || code.MatchString(text) {
					all[fset.Position(l.Pos())] = text
				}
			}
			return true
		})
	}
	return all
}

// asOnAPage matches a text as a reader sees it, with something in place of each verb.
func asOnAPage(text string) *regexp.Regexp {
	parts := verb.Split(strings.TrimSpace(text), -1)
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile(strings.Join(parts, `.{1,60}?`))
}
