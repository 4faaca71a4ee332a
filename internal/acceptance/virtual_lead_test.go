//go:build go1.25

package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// A function that returns at once has a term about every eight retry intervals, and does not spin.
func TestVirtualLeaderThatReturnsAtOnceIsPaced(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		l := open(t, clientsOf(nodes), redlock.WithRetryInterval(100*time.Millisecond))
		ctx, cancel := context.WithTimeoutCause(context.Background(), 80*time.Second, errStop)
		defer cancel()
		terms, first := 0, time.Time{}
		began := time.Now()
		require.Equal(t, errStop, l.Lead(ctx, "leader", func(context.Context) error {
			if terms++; terms == 2 {
				first = time.Now()
			}
			return nil
		}))
		require.Less(t, terms, 80000/400+4)
		require.Greater(t, terms, 80000/1200)
		require.Less(t, first.Sub(began), 151*time.Millisecond)

		// One that leads for a while may lead again after one interval.
		terms = 0
		ctx, cancel = context.WithTimeoutCause(context.Background(), 100*time.Second, errStop)
		defer cancel()
		require.Equal(t, errStop, l.Lead(ctx, "leader", func(context.Context) error {
			terms++
			time.Sleep(time.Second)
			return nil
		}))
		require.Greater(t, terms, 86)
	})
}
