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

func TestVirtualFailedAttemptReturnsWhenWhatItWasGrantedIsGone(t *testing.T) {
	virtually(t, 2, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		require.NoError(t, nodes[1].client.Set(ctx, "lock:a", "somebody", time.Hour).Err())
		nodes[0].delayBy(100 * time.Millisecond)
		_, err := open(t, clientsOf(nodes)).TryAcquire(ctx, "a")
		require.ErrorIs(t, err, redlock.ErrHeld)
		require.Len(t, nodes[0].sent(""), 1, "it was granted")
		require.Empty(t, nodes[0].owner("lock:a"))
	})
}

// Whoever ends a context of a handle's must not end the watch over its lease.
func TestVirtualLockIsWatchedAndRenewedAfterTheEndOfAContext(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		for name, renewed := range map[string]bool{"watched": false, "renewed": true} {
			h, err := l.TryAcquire(ctx, name, redlock.WithAutoRenewal(renewed))
			require.NoError(t, err)
			var done <-chan struct{}
			if !renewed {
				done = h.Done()
			}
			parent, cancel := context.WithCancel(ctx)
			require.Same(t, h.Context(parent), h.Context(parent), "one for each parent")
			until := h.ValidUntil()
			cancel()
			synctest.Wait()
			if !renewed {
				<-done
				require.Equal(t, until, time.Now())
				continue
			}
			<-time.After(time.Minute)
			require.NoError(t, h.Err())
			require.NoError(t, h.Release(ctx))
		}
	})
}
