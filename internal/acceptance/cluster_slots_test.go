package acceptance_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
	"github.com/rediskit/redlock/internal/slot"
)

// The node timeout bounds one answer, and not the sum of the answers of two hundred slots.
func TestLockOverTwoHundredSlotsOfADistantClusterIsNoOutage(t *testing.T) {
	const slots = 200
	ctx := context.Background()
	noLeak(t)
	c := redistest.StartCluster(t, 3)
	client := c.Client(t)
	var resources []string
	seen := make(map[uint16]bool)
	for i := 0; len(resources) < slots; i++ {
		r := fmt.Sprint("r", i)
		if s := slot.Of(lockKey(r)); !seen[s] {
			seen[s] = true
			resources = append(resources, r)
		}
	}
	const timeout = 2 * time.Second
	l := open(t, []*redis.ClusterClient{client}, redlock.WithNodeTimeout(timeout))
	for _, r := range resources[:20] {
		h, err := l.TryAcquire(ctx, r)
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
	}
	client.AddHook(hook(func(send func() error, _ ...redis.Cmder) error {
		<-time.After(12 * time.Millisecond) // the way there and back
		return send()
	}))
	began := time.Now()
	h, err := l.TryAcquireMulti(ctx, resources)
	require.NoError(t, err)
	require.Greater(t, time.Since(began), timeout, "the test is no test")
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Release(ctx))
	noKeys(t, c.Nodes)
}

// moving is a slot on its way from one master to another, with the two keys of a lock.
type moving struct {
	from, to *redistest.Server
	slot     uint16
}

// beginMove begins to move the slot of a key.
func beginMove(t *testing.T, c *redistest.Cluster, key string) moving {
	t.Helper()
	m := moving{from: c.MasterOf(t, c.Nodes[0], key), slot: slot.Of(key)}
	m.to = c.Nodes[(slices.Index(c.Nodes, m.from)+1)%len(c.Nodes)]
	m.to.Do(t, "cluster", "setslot", m.slot, "importing", m.from.Do(t, "cluster", "myid"))
	m.from.Do(t, "cluster", "setslot", m.slot, "migrating", m.to.Do(t, "cluster", "myid"))
	return m
}

// move moves one key.
func (m moving) move(t *testing.T, key string) {
	t.Helper()
	host, port, err := net.SplitHostPort(m.to.Addr())
	require.NoError(t, err)
	require.Equal(t, "OK", m.from.Do(t, "migrate", host, port, key, 0, 5000, "auth2", "redistest",
		"redistest"))
}

// end finishes the move.
func (m moving) end(t *testing.T, c *redistest.Cluster) {
	t.Helper()
	id := m.to.Do(t, "cluster", "myid")
	for _, s := range append([]*redistest.Server{m.to, m.from}, c.Nodes...) {
		s.Do(t, "cluster", "setslot", m.slot, "node", id)
	}
}

// While a slot is being moved, a script that has several keys there gets TRYAGAIN, for as long as
// the move takes.
func TestMultiLockInASlotThatIsBeingMoved(t *testing.T) {
	resources := []string{"{x}a", "{x}b", "{x}c"}
	for name, tt := range map[string]struct {
		before bool     // the lock is taken before the move begins
		moved  []string // keys
	}{
		"nothing is there":              {false, nil},
		"taken before":                  {true, nil},
		"taken before, the first moved": {true, []string{"lock:{x}a"}},
		"taken before, the last moved":  {true, []string{"lock:{x}c"}},
		"taken before, all moved":       {true, []string{"lock:{x}a", "lock:{x}b", "lock:{x}c"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			noLeak(t)
			c := redistest.StartCluster(t, 3)
			l := open(t, []*redis.ClusterClient{c.Client(t)},
				redlock.WithNodeTimeout(5*time.Second))
			other := open(t, []*redis.ClusterClient{c.Client(t)},
				redlock.WithNodeTimeout(5*time.Second))
			warm, err := l.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			require.NoError(t, warm.Release(ctx))
			var h *redlock.Handle
			if tt.before {
				h, err = l.TryAcquireMulti(ctx, resources)
				require.NoError(t, err)
			}
			m := beginMove(t, c, lockKey(resources[0]))
			for _, key := range tt.moved {
				m.move(t, key)
			}
			if !tt.before {
				h, err = l.TryAcquireMulti(ctx, resources)
				require.NoError(t, err)
			}
			_, err = other.TryAcquireMulti(ctx, resources[1:])
			requireOnly(t, err, redlock.ErrHeld)
			require.NoError(t, h.Extend(ctx, time.Minute))
			require.NoError(t, h.Extend(ctx, 20*time.Second))
			require.NoError(t, h.Release(ctx))
			noKeys(t, c.Nodes)
			next, err := other.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			m.end(t, c)
			_ = next.Release(ctx) // the keys that were left where the slot was are gone with it
		})
	}
}

// What waits while a slot is being moved goes on when the lock is released, and when the move is
// over.
func TestWaitingInASlotThatIsBeingMoved(t *testing.T) {
	for name, resources := range map[string][]string{"one": {"{x}a"}, "two": {"{x}a", "{x}b"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			noLeak(t)
			c := redistest.StartCluster(t, 3)
			l := open(t, []*redis.ClusterClient{c.Client(t)},
				redlock.WithNodeTimeout(5*time.Second))
			other := open(t, []*redis.ClusterClient{c.Client(t)},
				redlock.WithNodeTimeout(5*time.Second))
			h, err := l.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			m := beginMove(t, c, lockKey(resources[0]))
			before := shardCalls(t, c)
			watching := inBackground(func() error { return other.WaitForUnlock(ctx, resources[0]) })
			waiting := inBackground(func() error { return haveOnce(ctx, other, resources...) })
			eventually(t, func() bool { return shardCalls(t, c) > before+12 }, "nobody tries")
			require.NoError(t, h.Release(ctx))
			require.NoError(t, outcome(t, watching, "the watcher"))
			require.NoError(t, outcome(t, waiting, "the waiter"))
			m.end(t, c)
			h, err = l.AcquireMulti(ctx, resources)
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
		})
	}
}
