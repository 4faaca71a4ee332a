package main

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/locktest"
)

func TestMain(m *testing.M) { locktest.Main(m) }

var (
	masters = locktest.Masters
	open    = locktest.Open[*redis.Client]
)
