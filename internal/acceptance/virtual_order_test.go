//go:build go1.25

package acceptance_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// However often it asks, an attempt takes the node timeout at most.
func TestVirtualContestTakesTheNodeTimeoutAtMost(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "warm-up")
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
		for i, n := range nodes[:2] { // two competitors that no random token yields to
			rival := fmt.Sprintf("%s%d:rival", strings.Repeat("z", 21), i)
			require.NoError(t, n.client.Set(ctx, "lock:a", rival, time.Hour).Err())
		}
		time.AfterFunc(500*time.Millisecond, func() {
			for _, n := range nodes {
				n.hang()
			}
		})
		began := time.Now()
		_, err = l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
		require.Error(t, err)
		took := time.Since(began)
		require.Greater(t, took, 500*time.Millisecond, "it goes on asking")
		// The clean-up of what the third node has granted takes as long once more.
		require.LessOrEqual(t, took, 2*time.Second+10*time.Millisecond)
		for _, n := range nodes {
			n.recover()
		}
	})
}

func TestVirtualLossBetweenTheStepsOfAShorteningIsALoss(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		for _, n := range nodes[:2] {
			n.client.AddHook(hook(func(send func() error, sent ...redis.Cmder) error {
				if isCut(fmt.Sprint(sent)) {
					n.client.Del(ctx, "lock:a")
				}
				return send()
			}))
		}
		h, err := open(t, clientsOf(nodes)).TryAcquire(ctx, "a")
		require.NoError(t, err)
		require.ErrorIs(t, h.Extend(ctx, time.Second), redlock.ErrLost)
		require.Equal(t, redlock.ErrLost, h.Err())
	})
}
