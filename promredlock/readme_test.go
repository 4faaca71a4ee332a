package promredlock_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/pages"
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

func TestSnippetsOfTheReadmeCompile(t *testing.T) {
	pages.Snippets(t, "README.md", scene)
}

// scene has what the snippets use and do not show.
const scene = `package scene

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/promredlock"
)

var (
	_ = promhttp.HandlerFor
	_ = redlock.New[*redis.Client]
	_ = promredlock.New
	_ prometheus.Labels

	clients  []*redis.Client
	registry *prometheus.Registry
	mux      *http.ServeMux
)
`
