//go:build go1.25

package redlock_test

import (
	"context"

	"github.com/redis/go-redis/v9"
	"github.com/rediskit/redlock/internal/locktest"
)

// Short names for what the fuzz targets share with internal/acceptance.
const (
	stranger = locktest.Stranger
	tenYears = locktest.TenYears
)

var lockKey = locktest.LockKey

// wrapped is a client whose calls never go out on the goroutine of the test.
type wrapped struct{ *redis.Client }

// onePerSlot is a single server that is treated as a cluster: resources in different slots are asked for one by one.
type onePerSlot struct{ *redis.Client }

func (onePerSlot) MasterForKey(context.Context, string) (*redis.Client, error) { return nil, nil }
