package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/rediskit/redlock"
)

// after is how long a wait lasts before it is looked at. In your program it may be 5 or 10 s.
const after = 300 * time.Millisecond

// work is what one process does. Its arguments are the prefix of all keys and the two locks, in its
// order.
func work(ctx context.Context, addrs, name string, args []string) (err error) {
	if len(args) != 3 {
		return errors.New("a process needs a prefix and two locks")
	}
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()
	locker, err := redlock.New(nodes, redlock.WithKeyPrefix(args[0]), redlock.WithOwner(name),
		redlock.WithDeadlockDetection(after), redlock.WithLogger(logger()))
	if err != nil {
		return err
	}
	defer func() { err = unlessInterrupted(ctx, err, locker.Close()) }()

	err = oneByOne(ctx, locker, args[1], args[2])
	if errors.Is(err, redlock.ErrDeadlock) {
		// What this process held is released: the other one can go on. Whoever waits for several at
		// once holds nothing meanwhile.
		fmt.Println("is told:", err)
		return atOnce(ctx, locker, args[1:])
	}
	return err
}

// oneByOne takes the second lock while it holds the first.
func oneByOne(ctx context.Context, locker *redlock.Locker, first, second string) error {
	return locker.Do(ctx, first, func(ctx context.Context) error {
		fmt.Println("has", first)
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			// until the other one has its first lock
			return err
		}
		fmt.Println("waits for", second)
		// This context says what the task holds: without it nobody could know of the deadlock.
		return locker.Do(ctx, second, func(ctx context.Context) error {
			fmt.Println("has", second, "too, and is done")
			return pretend(ctx, 50*time.Millisecond)
		})
	})
}

// atOnce takes both locks, or none.
func atOnce(ctx context.Context, locker *redlock.Locker, both []string) error {
	fmt.Println("starts over, and waits for both at once")
	h, err := locker.AcquireMulti(ctx, both)
	if err != nil {
		return err
	}
	fmt.Println("has both, and is done")
	return errors.Join(pretend(ctx, 50*time.Millisecond), h.Release(ctx))
}

// logger prints what the library logs among what the process says, without the time.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}
