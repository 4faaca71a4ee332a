package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// lockLimiter reads the counter, decides and counts under a lock on the client.
type lockLimiter struct {
	locker *redlock.Locker
	data   *redis.Client
	name   string
}

func (l *lockLimiter) allow(ctx context.Context, client string) (number int64, err error) {
	// Acquire and not TryAcquire: a client whose lock is taken has not used up its limit.
	h, err := l.locker.Acquire(ctx, "client:"+client)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Release(ctx)) }()
	ctx = h.Context(ctx)

	key := l.name + ":counter:" + client
	used, err := l.data.Get(ctx, key).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, err
	}
	if used >= limit {
		return 0, nil
	}
	return l.count(ctx, key)
}

// count starts a window if none is open, and counts the request, in one transaction. With two
// separate commands, a crash between counting and setting the expiry would leave a counter that
// never ends, and a client that is locked out for good.
func (l *lockLimiter) count(ctx context.Context, key string) (int64, error) {
	var number *redis.IntCmd
	_, err := l.data.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.SetNX(ctx, key, 0, window)
		number = p.Incr(ctx, key) // keeps the expiry
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return number.Val(), nil
}

// scriptLimiter does the same where the counter is: a node runs one script at a time.
type scriptLimiter struct {
	data *redis.Client
	name string
}

// KEYS: the counter. ARGV: the limit, the window in milliseconds. The reply is the request's
// number, 0 for a refusal.
var countScript = redis.NewScript(`
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], 0, 'PX', ARGV[2], 'NX')
return redis.call('INCR', KEYS[1])
`)

func (l *scriptLimiter) allow(ctx context.Context, client string) (int64, error) {
	key := l.name + ":counter:" + client
	return countScript.Run(ctx, l.data, []string{key}, limit, window.Milliseconds()).Int64()
}
