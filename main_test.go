package redlock_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/locktest"
)

func TestMain(m *testing.M) { locktest.Main(m) }

// Short names for what most tests use.
var (
	noLeak  = locktest.NoLeak
	masters = locktest.Masters
	open    = locktest.Open[*redis.Client]
	noKeys  = locktest.NoKeys
)
