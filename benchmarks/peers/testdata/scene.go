// Package scene has what the snippets of docs/migrating.md use and do not show.
package scene

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/rediskit/redlock"
)

// What the snippets import.
var (
	_ = errors.Is
	_ = time.Second
	_ = goredis.NewPool
	_ rueidis.Client
	_ rueidislock.Locker
	_ redislock.Lock
)

var (
	ctx     context.Context
	client  *redis.Client
	clients []*redis.Client
	rs      *redsync.Redsync
	locker  *redlock.Locker
	errBusy error
)

func process(ctx context.Context) error { panic(0) }
