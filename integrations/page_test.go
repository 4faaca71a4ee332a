package integrations_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const page = "../docs/integrations.md"

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// unindented is text without the tabs at the start of its lines: a piece of a function stands
// further left on the page.
func unindented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, "\t")
	}
	return strings.Join(lines, "\n")
}

func TestPageShowsWhatIsTested(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		all.WriteString(unindented(string(source)) + "\n")
		if adapter := !strings.HasSuffix(file, "_test.go") && file != "doc.go"; adapter {
			require.Contains(t, string(text), "```go\n"+behindImports(t, file, source)+"```",
				"%s is not on %s as it is", file, page)
		}
	}
	blocks := goBlock.FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		require.Contains(t, all.String(), unindented(block[1]), "%s shows what no file has", page)
	}
}

// behindImports is what a file declares.
func behindImports(t *testing.T, name string, source []byte) string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ImportsOnly)
	require.NoError(t, err)
	last := file.Decls[len(file.Decls)-1].End()
	return strings.TrimLeft(string(source[files.Position(last).Offset:]), "\n")
}
