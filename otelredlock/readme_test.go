package otelredlock_test

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
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
)

var (
	_ = log.Fatal
	_ = redlock.New[*redis.Client]
	_ = otelredlock.New

	clients []*redis.Client
)
`
