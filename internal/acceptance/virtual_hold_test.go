//go:build go1.25

package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Whatever the holder does, nobody else has the lock before the minimum hold is over, and then
// somebody can.
func TestVirtualMinimumHoldKeepsTheKeys(t *testing.T) {
	const least = 100 * time.Second
	for name, c := range map[string]struct {
		released time.Duration // after the acquisition; 0: at once
		free     time.Duration
		err      error
	}{
		"released at once":                    {0, least, nil},
		"released a while later":              {40 * time.Second, least, nil},
		"released after the end of the lease": {99500 * time.Millisecond, least, redlock.ErrLost},
		"released after the end of the minimum": {101 * time.Second, 101 * time.Second,
			redlock.ErrLost},
		"never released": {time.Hour, least, nil},
	} {
		virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
			ctx := context.Background()
			l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
			h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Second),
				redlock.WithMinHold(least))
			require.NoError(t, err)
			began := time.Now()
			if c.released < time.Hour {
				<-time.After(c.released)
				require.ErrorIs(t, h.Release(ctx), c.err, name)
				require.Error(t, h.Err(), name)
				require.ErrorIs(t, h.Release(ctx), c.err, name)
			}
			if left := c.free - time.Since(began) - 2*time.Millisecond; left > 0 {
				<-time.After(left)
				_, err = other.TryAcquire(ctx, "a")
				require.ErrorIs(t, err, redlock.ErrHeld, name)
				<-time.After(4 * time.Millisecond)
			}
			_, err = other.TryAcquire(ctx, "a")
			require.NoError(t, err, name)
		})
	}
}

// The longest outage counts from the beginning of the first attempt that found no quorum.
func TestVirtualWaitEndsWithTheLongestOutage(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(n *virtualNode)
		took  time.Duration
	}{
		"of nodes that fail": {func(n *virtualNode) { n.fail("ERR broken") }, 10 * time.Second},
		// an attempt that is under way then has its node timeout
		"of nodes that hang": {(*virtualNode).hang, 11 * time.Second},
	} {
		virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
			ctx := context.Background()
			l := open(t, clientsOf(nodes))
			h, err := l.TryAcquire(ctx, "warm-up")
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
			for _, n := range nodes {
				c.spoil(n)
			}
			began := time.Now()
			_, err = l.Acquire(ctx, "a", redlock.WithMaxOutage(10*time.Second),
				redlock.WithRetryInterval(time.Hour))
			require.ErrorIs(t, err, redlock.ErrNoQuorum, name)
			require.GreaterOrEqual(t, time.Since(began), 10*time.Second, name)
			require.LessOrEqual(t, time.Since(began), c.took+10*time.Millisecond, name)
			for _, n := range nodes {
				n.recover()
			}
		})
	}
}

func TestVirtualTryDoRunsNothingWhereTheResourceIsHeld(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
		h, err := other.TryAcquire(ctx, "a")
		require.NoError(t, err)
		ran := 0
		fn := func(context.Context) error { ran++; return nil }
		require.ErrorIs(t, l.TryDo(ctx, "a", fn), redlock.ErrHeld)
		require.NoError(t, h.Release(ctx))
		require.NoError(t, l.TryDo(ctx, "a", fn))
		require.Equal(t, 1, ran)
	})
}
