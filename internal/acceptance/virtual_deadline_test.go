//go:build go1.25

package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestVirtualDeadlineOfAWaitShowsInItsError(t *testing.T) {
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
				for _, n := range nodes {
					require.NoError(t, n.client.Set(context.Background(), lockKey("r"), stranger,
						time.Hour).Err())
				}
				l := open(t, clientsOf(nodes))
				began := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				err := wait(ctx, l)
				require.Equal(t, 100*time.Millisecond, time.Since(began))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				requireOnly(t, err, redlock.ErrHeld)
			})
		})
	}
}
