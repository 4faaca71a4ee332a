//go:build go1.25

package acceptance_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// lookedAt is a context that calls a function the first time that somebody looks whether it has
// ended.
type lookedAt struct {
	context.Context
	then func()
}

func (c *lookedAt) Err() error {
	if then := c.then; then != nil {
		c.then = nil
		then()
	}
	return c.Context.Err()
}

func TestVirtualExtendThatMeetsAReleaseKeepsNothingBeyondTheMinHold(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(10*time.Second),
			redlock.WithMinHold(2*time.Second))
		require.NoError(t, err)
		meets := &lookedAt{ctx, func() { require.NoError(t, h.Release(ctx)) }}
		require.ErrorIs(t, h.Extend(meets, time.Hour), redlock.ErrReleased)
		time.Sleep(3 * time.Second)
		for i, n := range nodes {
			require.Empty(t, n.owner("lock:a"), "node %d", i)
		}
	})
}

// The nodes run an extension between the end of the lease and that of the keys.
func TestVirtualExtensionOfALockThatIsLostMeanwhileIsTakenBack(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes), redlock.WithDriftFactor(0.5))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Second),
			redlock.WithAutoRenewal(false))
		require.NoError(t, err)
		time.Sleep(490 * time.Millisecond)
		for _, n := range nodes {
			n.delayBy(20 * time.Millisecond)
		}
		require.ErrorIs(t, h.Extend(ctx, time.Hour), redlock.ErrLost)
		time.Sleep(time.Second)
		for i, n := range nodes {
			require.Empty(t, n.owner("lock:a"), "node %d", i)
		}
	})
}

// A holder of whose nodes one does not answer may have a quorum: whoever tries does not go on
// asking for all of its time.
func TestVirtualTryAcquireDoesNotContendWithAHolderForLong(t *testing.T) {
	virtually(t, 5, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "warm-up")
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
		holder := strings.Repeat("z", 21) + "w:holder" // no random token yields to it
		for _, n := range nodes[:3] {
			require.NoError(t, n.client.Set(ctx, "lock:a", holder, time.Hour).Err())
		}
		nodes[2].fail("LOADING Redis is loading the dataset in memory")
		began := time.Now()
		_, err = l.TryAcquire(ctx, "a")
		require.ErrorIs(t, err, redlock.ErrHeld)
		require.LessOrEqual(t, time.Since(began), 500*time.Millisecond,
			"of a node timeout of a second")
		require.Less(t, len(nodes[4].sent("")), 30, "acquires to a node that has granted the lock")
		nodes[2].recover()
	})
}
