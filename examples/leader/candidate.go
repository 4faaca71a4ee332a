package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// campaign is one candidate: it campaigns and leads until ctx ends.
func campaign(ctx context.Context, nodes []*redis.Client, prefix, name string) (err error) {
	locker, err := redlock.New(nodes, redlock.WithKeyPrefix(prefix), redlock.WithOwner(name),
		redlock.WithTTL(ttl),
		redlock.WithRetryInterval(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.Close()) }()

	say(name, "campaigns")
	err = locker.Lead(ctx, "leader", func(ctx context.Context) error {
		say(name, "leads")
		err := work(ctx, name)
		say(name, "steps down: %v", err)
		return err
	})
	if ctx.Err() != nil {
		say(name, "has left") // what a leader had is released by now
		return nil
	}
	return err
}

// work is what only a leader may do. It looks at ctx before each step: after the end of the
// leadership there is none.
func work(ctx context.Context, name string) error {
	for {
		if err := pretend(ctx, ttl/10); err != nil {
			return err
		}
		if ctx.Err() != nil { // a process that was stopped may have woken up to the timer first
			return context.Cause(ctx)
		}
		say(name, "works")
	}
}

// clock is how lines begin.
const clock = "15:04:05.000000"

// say prints a line with the time of the clock: those of several terminals can be compared.
func say(who, format string, args ...any) {
	fmt.Printf("%s  %-5s %s\n", time.Now().Format(clock), who, fmt.Sprintf(format, args...))
}
