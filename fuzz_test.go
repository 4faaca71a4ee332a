//go:build go1.25

package redlock_test

import "github.com/rediskit/redlock/internal/locktest"

// Short names for what the fuzz targets share with internal/acceptance.
const (
	stranger = locktest.Stranger
	tenYears = locktest.TenYears
)

var lockKey = locktest.LockKey
