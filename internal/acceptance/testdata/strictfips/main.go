// Command strictfips uses a lock on the server whose address is its argument.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("released")
}

func run(addr string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	locker, err := redlock.New([]*redis.Client{client}, redlock.WithNodeTimeout(10*time.Second))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.Close()) }()

	h, err := locker.Acquire(ctx, "r")
	if err != nil {
		return err
	}
	if _, err := locker.TryAcquire(ctx, "r"); !errors.Is(err, redlock.ErrHeld) {
		return fmt.Errorf("held, but another attempt ends with %w", err)
	}
	_, inspectErr := locker.Inspect(ctx, "r")
	return errors.Join(inspectErr, h.Extend(ctx, time.Minute), h.Release(ctx))
}
