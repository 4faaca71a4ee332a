package promredlock_test

import (
	"testing"

	"github.com/rediskit/redlock/internal/pages"
)

func TestReadmeShowsTheExample(t *testing.T) {
	pages.First(t, "README.md", "example_test.go")
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
