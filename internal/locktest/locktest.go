// Package locktest has what tests of locks begin and end with: masters with clients, Lockers over
// them, and checks that neither keys nor goroutines are left. The tests themselves are in
// internal/acceptance and in the root.
package locktest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Stranger is an owner whom no Locker knows.
const Stranger = "a stranger"

// TenYears is the longest TTL.
const TenYears = 10 * 365 * 24 * time.Hour

// LockKey is where a resource is locked on a node.
func LockKey(resource string) string { return "lock:" + resource }

// Masters starts n servers, with a stock client for each. The test ends without a leaked goroutine.
func Masters(t *testing.T, n int, opts ...redistest.Option) ([]*redistest.Server, []*redis.Client) {
	t.Helper()
	NoLeak(t)
	servers := redistest.StartN(t, n, opts...)
	return servers, redistest.Clients(t, servers)
}

// Open returns a Locker that is closed at the end of the test.
func Open[N redlock.Node](t *testing.T, nodes []N, opts ...redlock.Option) *redlock.Locker {
	t.Helper()
	l, err := redlock.New(nodes, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// OnePerSlot is a single server that passes for a Redis Cluster: resources in different slots are
// asked for one by one.
type OnePerSlot struct{ *redis.Client }

// MasterForKey returns the client, which serves all slots.
func (c OnePerSlot) MasterForKey(context.Context, string) (*redis.Client, error) {
	return c.Client, nil
}

// NoKeys checks that nothing is left on any of the servers. What is deleted in the background gets
// a moment.
func NoKeys(t *testing.T, servers []*redistest.Server) {
	t.Helper()
	NoKeysWithin(t, 5*time.Second, servers)
}

// NoKeysWithin is NoKeys where something may be left for some time.
func NoKeysWithin(t *testing.T, limit time.Duration, servers []*redistest.Server) {
	t.Helper()
	for i, s := range servers {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			assert.Empty(c, s.Keys(t), "keys left on node %d", i)
		}, limit, 2*time.Millisecond)
	}
}
