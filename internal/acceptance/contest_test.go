package acceptance_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// ticks is how often all try at the same moment in virtual time.
var ticks = flag.Int("ticks", 20, "how often competitors try at the same moment, in virtual time")

// farAway delays all that a client sends and gets back, each way by a random time of up to most.
func farAway(client *redis.Client, most time.Duration) *redis.Client {
	client.AddHook(hook(func(send func() error, _ ...redis.Cmder) error {
		time.Sleep(rand.N(most))
		defer time.Sleep(rand.N(most))
		return send()
	}))
	return client
}

// competitors opens Lockers that have clients of their own, up to most away from the nodes.
func competitors(t *testing.T, n int, most time.Duration, clients func() []*redis.Client,
	opts ...redlock.Option) []*redlock.Locker {
	t.Helper()
	lockers := make([]*redlock.Locker, n)
	for i := range lockers {
		mine := clients()
		for _, c := range mine {
			farAway(c, most)
		}
		l, err := redlock.New(mine, opts...)
		require.NoError(t, err)
		lockers[i] = l
	}
	t.Cleanup(func() {
		closes := make([]func() error, n)
		for i, l := range lockers {
			closes[i] = l.Close
		}
		require.NoError(t, together(closes...)) // where a node is down, each takes a while
	})
	return lockers
}

// tally is what came of some ticks.
type tally struct {
	lost, doubled int
	slowest       time.Duration
}

// competeFor has all Lockers try a free resource at the same moment, again and again.
func competeFor(t *testing.T, lockers []*redlock.Locker, ticks int) (sum tally) {
	t.Helper()
	for tick := range ticks {
		resource := fmt.Sprintf("tick:%d", tick)
		handles, took := make([]*redlock.Handle, len(lockers)), make([]time.Duration, len(lockers))
		start := make(chan struct{})
		var tried sync.WaitGroup
		for i, l := range lockers {
			tried.Add(1)
			go func() {
				defer tried.Done()
				<-start
				began := time.Now()
				h, err := l.TryAcquire(context.Background(), resource)
				took[i] = time.Since(began)
				if handles[i] = h; err != nil && !errors.Is(err, redlock.ErrHeld) {
					t.Error(err)
				}
			}()
		}
		close(start)
		tried.Wait()
		winners := 0
		for i, h := range handles {
			sum.slowest = max(sum.slowest, took[i])
			if h != nil {
				winners++
				require.NoError(t, h.Release(context.Background()))
			}
		}
		switch {
		case winners == 0:
			sum.lost++
		case winners > 1:
			sum.doubled++
		}
	}
	return sum
}

func TestOneOfThoseWhoTryAtTheSameMomentGetsTheLock(t *testing.T) {
	for _, test := range []struct{ nodes, down, hung int }{
		{2, 0, 0}, {3, 0, 0}, {4, 0, 0}, {5, 0, 0}, {3, 1, 0}, {3, 0, 1}, {5, 1, 0}, {5, 0, 2},
	} {
		name := fmt.Sprintf("%d nodes, %d down and %d hung", test.nodes, test.down, test.hung)
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			servers := redistest.StartN(t, test.nodes)
			lockers := competitors(t, 10, 3*time.Millisecond,
				func() []*redis.Client { return redistest.Clients(t, servers) }, patient)
			for _, l := range lockers { // makes the connections
				h, err := l.TryAcquire(context.Background(), "warm")
				require.NoError(t, err)
				require.NoError(t, h.Release(context.Background()))
			}
			for _, s := range servers[:test.down] {
				require.NoError(t, s.Kill())
			}
			freeze(t, servers[test.down:test.down+test.hung]...)
			sum := competeFor(t, lockers, 15)
			t.Logf("the slowest call took %v", sum.slowest)
			require.Zero(t, sum.lost, "nobody got a free lock")
			require.Zero(t, sum.doubled, "several got one lock")
		})
	}
}
