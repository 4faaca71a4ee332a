//go:build go1.26

// The go.mod with the newest go-redis needs this Go.

package docs_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/pages"
)

// With the newest go-redis: a snippet may show an option of the client's that the oldest does not
// have.
func TestSnippetsCompile(t *testing.T) {
	scene, err := os.ReadFile("testdata/scene.go")
	require.NoError(t, err)
	for _, page := range compiledHere {
		t.Run(page, func(t *testing.T) {
			pages.Snippets(t, page, string(scene), "-modfile=../.ci/newest.mod")
		})
	}
}
