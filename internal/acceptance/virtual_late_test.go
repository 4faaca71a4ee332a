//go:build go1.25

package acceptance_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Each confirmation comes after the node timeout, and in time for the lease: it proves what it
// proves.
func TestVirtualRenewalLivesOnConfirmationsThatComeAfterTheNodeTimeout(t *testing.T) {
	const ttl, trip = 6 * time.Second, 360 * time.Millisecond
	for _, nodes := range []int{1, 3} {
		virtually(t, nodes, func(t *testing.T, nodes []*virtualNode) {
			ctx := context.Background()
			l := open(t, clientsOf(nodes), redlock.WithTTL(ttl),
				redlock.WithNodeTimeout(300*time.Millisecond))
			h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
			require.NoError(t, err)
			synctest.Wait()
			for _, n := range nodes {
				n.delayBy(trip)
			}
			for range 3600 {
				time.Sleep(time.Second)
				require.NoError(t, h.Err())
				require.Greater(t, time.Until(h.ValidUntil()), time.Second)
				require.LessOrEqual(t, time.Until(h.ValidUntil()), ttl)
			}
			for _, n := range nodes {
				require.Less(t, len(n.sent("keep")), 3*1800,
					"it renews much more often than it must")
				n.recover()
			}
			require.NoError(t, h.Release(ctx))
		})
	}
}

// What a renewal proves counts from its start, however late the answer comes.
func TestVirtualLateConfirmationCountsFromItsStart(t *testing.T) {
	const ttl, trip = 6 * time.Second, 360 * time.Millisecond
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes), redlock.WithTTL(ttl),
			redlock.WithNodeTimeout(300*time.Millisecond))
		warmUp(t, clientsOf(nodes))
		start := time.Now()
		h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		nodes[0].delayBy(trip)
		time.Sleep(ttl/3 + trip + time.Millisecond)
		synctest.Wait()
		require.Equal(t, ttl/3+ttl-ttl/100-2*time.Millisecond, h.ValidUntil().Sub(start))
		nodes[0].recover()
		require.NoError(t, h.Release(ctx))
	})
}

func TestVirtualStragglerOfAnAcquireThatWasWonJoinsTheLock(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes), redlock.WithTTL(6*time.Second),
			redlock.WithNodeTimeout(300*time.Millisecond))
		warmUp(t, clientsOf(nodes))
		nodes[2].delayBy(2 * time.Second)
		start := time.Now()
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		require.Zero(t, time.Since(start), "nobody waits for it")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for i, n := range nodes {
			require.Equal(t, h.Token(), n.owner("lock:a"), "node %d", i)
		}
		nodes[2].recover()
		require.NoError(t, h.Release(ctx))
		synctest.Wait()
		require.Empty(t, nodes[2].owner("lock:a"))
	})
}
