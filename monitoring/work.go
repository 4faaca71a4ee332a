package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

const (
	workers = 8
	orders  = 4 // that the workers share
)

// work is the service: it runs until ctx ends.
func work(ctx context.Context, observer redlock.Observer, trouble time.Duration) error {
	nodes, stop, err := startNodes(3)
	if err != nil {
		return err
	}
	defer stop()
	clients := make([]*redis.Client, len(nodes))
	for i, n := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: n.Addr()})
		defer clients[i].Close()
	}
	locker, err := redlock.New(clients, redlock.WithObserver(observer),
		redlock.WithTTL(3*time.Second),
		redlock.WithMaxWait(2*time.Second), redlock.WithMaxOutage(time.Second))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { ship(ctx, locker, i) })
	}
	wg.Go(func() { report(ctx, locker) })
	wg.Go(func() { lead(ctx, locker) })
	if trouble > 0 {
		wg.Go(func() { makeTrouble(ctx, nodes, trouble) })
	}
	wg.Wait()
	return locker.Close()
}

// startNodes starts Redis servers inside this process.
func startNodes(n int) (nodes []*miniredis.Miniredis, stop func(), err error) {
	stop = func() {
		for _, node := range nodes {
			node.Close()
		}
	}
	for range n {
		node := miniredis.NewMiniRedis()
		node.ClockTTL(true)
		if err := node.Start(); err != nil {
			stop()
			return nil, nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, stop, nil
}

// ship locks an order for some time, again and again.
func ship(ctx context.Context, locker *redlock.Locker, worker int) {
	random := rand.New(rand.NewPCG(uint64(worker), 1))
	for ctx.Err() == nil {
		h, err := locker.Acquire(ctx, fmt.Sprintf("order:%d", random.IntN(orders)))
		if err == nil {
			pause(h.Context(ctx), time.Duration(random.ExpFloat64()*float64(50*time.Millisecond)))
			_ = h.Release(ctx) // of a lock that may have been lost
		}
		pause(ctx, time.Duration(random.IntN(int(150*time.Millisecond))))
	}
}

// report holds a lock for longer than its TTL.
func report(ctx context.Context, locker *redlock.Locker) {
	for ctx.Err() == nil {
		_ = locker.Do(ctx, "report:daily", func(ctx context.Context) error {
			pause(ctx, 10*time.Second)
			return context.Cause(ctx)
		})
		pause(ctx, time.Second)
	}
}

// lead leads, as the only candidate.
func lead(ctx context.Context, locker *redlock.Locker) {
	_ = locker.Lead(ctx, "scheduler:main", func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

var errTrouble = errors.New("LOADING somebody makes trouble")

// makeTrouble deletes a lock, has one node fail for some time, and then two.
func makeTrouble(ctx context.Context, nodes []*miniredis.Miniredis, every time.Duration) {
	for i := 0; pause(ctx, every); i++ {
		failing := nodes[:i%3]
		if len(failing) == 0 {
			for _, n := range nodes {
				n.Del("lock:report:daily")
			}
			continue
		}
		for _, n := range failing {
			n.SetError(errTrouble.Error())
		}
		pause(ctx, every/3)
		for _, n := range failing {
			n.SetError("")
		}
	}
}

// pause waits for d, or returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
