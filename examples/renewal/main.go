// Renewal shows long work under a short lock. Do keeps the lock alive while the work goes on, ends
// the work's context when the lock is lost, and releases in any case:
//
//  1. a night report of four seconds runs under a TTL of one second; a second process meanwhile
//     gets ErrHeld
//  2. the same work hangs: WithMaxHold ends its lock, the work notices through its context, and the
//     second process has its turn
//
// How to run it:
//
//	go run ./examples/renewal
//	go run ./examples/renewal -redis host1:6379,host2:6379,host3:6379
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
	resource = "night-report"
	ttl      = time.Second // how soon others can have the lock when this process dies
	maxHold  = 1500 * time.Millisecond
)

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("renewal: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	prefix := "renewal-" + rand.Text()[:8]
	first, err := newLocker(nodes, prefix, "first")
	if err != nil {
		return err
	}
	second, err := newLocker(nodes, prefix, "second")
	if err != nil {
		return errors.Join(err, first.Close())
	}
	defer func() { err = errors.Join(err, first.Close(), second.Close()) }()

	o := &office{first: first, second: second, say: narrator()}
	if err := o.longWork(ctx); err != nil {
		return fmt.Errorf("long work: %w", err)
	}
	if err := o.hungWork(ctx); err != nil {
		return fmt.Errorf("hung work: %w", err)
	}
	return nil
}

func newLocker(nodes []*redis.Client, prefix, owner string) (*redlock.Locker, error) {
	return redlock.New(nodes, redlock.WithKeyPrefix(prefix), redlock.WithOwner(owner),
		redlock.WithTTL(ttl),
		// By default a node may take a quarter of the TTL to answer, and this TTL is short.
		redlock.WithNodeTimeout(ttl*9/10))
}

// office has two processes that want to write the same report.
type office struct {
	first, second *redlock.Locker
	say           func(who, format string, args ...any)
}

// longWork takes four times as long as the TTL of its lock.
func (o *office) longWork(ctx context.Context) error {
	return o.first.Do(ctx, resource, func(ctx context.Context) error {
		o.say("first", "writes the report, for 4 s, under a TTL of %v", ttl)
		for page := 1; page <= 4; page++ {
			if err := pretend(ctx, time.Second); err != nil {
				return err
			}
			o.say("first", "has written page %d", page)
			if err := o.secondIsRefused(ctx); err != nil {
				return err
			}
		}
		o.say("first", "is done")
		return nil
	})
}

func (o *office) secondIsRefused(ctx context.Context) error {
	h, err := o.second.TryAcquire(ctx, resource)
	switch {
	case errors.Is(err, redlock.ErrHeld):
		o.say("second", "tries: ErrHeld")
		return nil
	case err == nil:
		return errors.Join(errors.New("two processes have the report"), h.Release(ctx))
	default:
		return err
	}
}

// hungWork would go on for much longer, and renewal alone would keep its lock alive for as long.
// WithMaxHold sets a bound: after that the work counts as hung.
func (o *office) hungWork(ctx context.Context) error {
	var start time.Time
	err := o.first.Do(ctx, resource, func(ctx context.Context) error {
		start = time.Now()
		o.say("first", "hangs, but may have the report for %v at most", maxHold)
		err := pretend(ctx, 10*time.Second)
		o.say("first", "is stopped by its context: %v", err)
		return err
	}, redlock.WithMaxHold(maxHold))
	if !errors.Is(err, redlock.ErrLost) {
		return fmt.Errorf("the hung work should have ended with ErrLost, got %v", err)
	}
	if held := time.Since(start); held < ttl {
		return fmt.Errorf("stopped after %v: not the end of WithMaxHold", held)
	}

	// The first lock is gone, or its last key expires now.
	h, err := o.second.Acquire(ctx, resource, redlock.WithMaxWait(10*time.Second))
	if err != nil {
		return err
	}
	o.say("second", "has the report")
	return h.Release(ctx)
}
