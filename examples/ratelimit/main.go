// Ratelimit allows each client 5 requests per 400 ms, over three processes that share one counter
// in Redis. It does so twice, and checks both times that the limit was never exceeded:
//
//   - lock: read the counter, decide, count, under a distributed lock
//   - script: the same in one Lua script, without a lock
//
// The script is faster and simpler, and where the counter lives in one Redis it is the right
// answer: a node runs one script at a time, no lock can add to that. A lock is right when checking
// and counting cannot be one command, since the quota is kept elsewhere (a database, a partner's
// API) or deciding takes other calls. The lock's nodes then need not be where the counter is.
//
//	go run ./examples/ratelimit
//	go run ./examples/ratelimit -redis host1:6379,host2:6379,host3:6379
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

const (
	limit     = 5
	window    = 400 * time.Millisecond
	processes = 3
	duration  = 1200 * time.Millisecond // of each of the two
)

var clients = []string{"acme", "bolt"}

// limiter says whether client may make one more request now. The answer is its number within the
// window, from 1 to limit, or 0 for a refusal.
type limiter interface {
	allow(ctx context.Context, client string) (number int64, err error)
}

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("ratelimit: %v", err)
	}
}

func run(ctx context.Context, addrs string) error {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	name := "ratelimit-" + rand.Text()[:8]
	say := narrator()
	if err := withLocks(ctx, nodes, name, say); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	script := &scriptLimiter{data: nodes[0], name: name + ":script"}
	if err := measure(ctx, "script", []limiter{script, script, script}, say); err != nil {
		return fmt.Errorf("script: %w", err)
	}
	return nil
}

// withLocks gives each process a Locker of its own.
func withLocks(ctx context.Context, nodes []*redis.Client, name string,
	say func(who, format string, args ...any)) (err error) {
	var limiters []limiter
	for i := range processes {
		locker, err := redlock.New(nodes, redlock.WithKeyPrefix(name),
			redlock.WithOwner(fmt.Sprintf("process-%d", i+1)), redlock.WithTTL(5*time.Second),
			// nobody holds it for long
			redlock.WithMaxWait(10*time.Second), redlock.WithRetryInterval(5*time.Millisecond))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, locker.Close()) }()
		limiters = append(limiters, &lockLimiter{locker: locker, data: nodes[0], name: name})
	}
	return measure(ctx, "lock", limiters, say)
}

// measure lets every process make requests for the whole duration, and checks what was allowed.
func measure(ctx context.Context, kind string, limiters []limiter,
	say func(who, format string, args ...any)) error {
	say(kind, "%d processes ask as often as they can; each client may make %d requests per %v",
		len(limiters), limit, window)
	start := time.Now()
	records := make([]record, len(limiters))
	var work []func(context.Context) error
	for i, l := range limiters {
		work = append(work,
			func(ctx context.Context) error { return records[i].ask(ctx, l, start.Add(duration)) })
	}
	if err := parallel(ctx, work...); err != nil {
		return err
	}
	var all record
	for _, r := range records {
		all.add(r)
	}
	return all.check(kind, time.Since(start), say)
}
