package gocronredlock_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadmeShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	first := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, first)
	indented := "\t" + strings.ReplaceAll(strings.TrimSpace(string(first[1])), "\n", "\n\t") + "\n"
	require.Contains(t, string(example), indented)
}
