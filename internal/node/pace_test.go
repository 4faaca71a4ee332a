package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// crowd has callers send one call after the other, some rounds each. It returns how many round
// trips were under way at once at most.
func crowd(t *testing.T, n *Node, w *watcher, callers, rounds int) int {
	t.Helper()
	var mu sync.Mutex
	now, most := 0, 0
	w.set(func() {
		mu.Lock()
		defer mu.Unlock()
		now++
		most = max(most, now)
	}, func() {
		mu.Lock()
		defer mu.Unlock()
		now--
	})
	var all sync.WaitGroup
	var failed atomic.Int32
	for range callers {
		all.Add(1)
		go func() {
			defer all.Done()
			for range rounds {
				c, d := newCall()
				if !n.Send(c) || (<-d).Err != nil {
					failed.Add(1)
				}
			}
		}()
	}
	all.Wait()
	settle(t, n)
	require.Zero(t, failed.Load())
	mu.Lock()
	defer mu.Unlock()
	return most
}

func TestDistantNodeGetsMoreWorkersWithinThePool(t *testing.T) {
	tests := []struct{ pool, most int }{
		{4, 3},
		{8, 6},
		{100, 16},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("of %d", test.pool), func(t *testing.T) {
			proxy := redistest.Start(t).Proxy(t)
			c, w := watched(t, &redis.Options{Addr: proxy.Addr(), PoolSize: test.pool})
			n := opened(t, c)
			proxy.Delay(10 * time.Millisecond)
			crowd(t, n, w, 8, 20) // the node learns how far away it is
			most := crowd(t, n, w, 64, 20)
			require.LessOrEqual(t, most, test.most)
			require.Greater(t, most, baseWorkers)
		})
	}
}

func TestNearNodeGetsNoMoreThanTwoWorkers(t *testing.T) {
	c, w := watched(t, &redis.Options{Addr: redistest.Start(t).Addr(), PoolSize: 100})
	n := opened(t, c)
	// A machine that is busy with other things can make the node look distant for a while: such a
	// try shows nothing.
	near := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.streams[0].pace.trip < nearby/2
	}
	require.Eventually(t, func() bool {
		crowd(t, n, w, 4, 20)
		wasNear := near()
		most := crowd(t, n, w, 64, 100)
		return wasNear && near() && most == baseWorkers
	}, 20*time.Second, time.Millisecond)
}

func TestNodeThatHangsGetsNoMoreWorkers(t *testing.T) {
	proxy := redistest.Start(t).Proxy(t)
	c, w := watched(t, &redis.Options{Addr: proxy.Addr(), PoolSize: 100})
	n := opened(t, c)
	proxy.Delay(10 * time.Millisecond)
	require.Greater(t, crowd(t, n, w, 64, 20), baseWorkers)
	w.set(nil, nil)

	proxy.HoldRequests(true)
	var answers []delivered
	add := func() {
		c, d := newCall()
		c.Patience = time.Hour // else others take the place of those that hang
		require.True(t, n.Send(c))
		answers = append(answers, d)
	}
	state := func() (workers int, silent bool) {
		n.mu.Lock()
		defer n.mu.Unlock()
		s := n.streams[0]
		_, planned := s.pace.dueLocked(time.Now(), s.workers)
		return s.workers, !planned
	}
	add()
	add()
	require.Eventually(t, func() bool {
		_, silent := state()
		return silent
	}, 10*time.Second, time.Millisecond)
	before, _ := state()
	require.Positive(t, before)
	for range 64 {
		add()
	}
	after, silent := state()
	require.True(t, silent, "another worker is planned")
	require.Equal(t, max(before, baseWorkers), after)

	proxy.HoldRequests(false)
	for _, d := range answers {
		require.NoError(t, receive(t, d).Err)
	}
}
