package gocronredlock_test

import (
	"testing"

	"github.com/rediskit/redlock/internal/pages"
)

func TestReadmeShowsTheExample(t *testing.T) {
	pages.First(t, "README.md", "example_test.go")
}
