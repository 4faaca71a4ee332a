//go:build go1.25

package acceptance_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// From one process's Release to the lock in another takes two round trips: the release, whose
// answer for the other one is the call, and the other one's acquire. That is so with any number of
// nodes.
func TestVirtualHandOverTakesTwoRoundTrips(t *testing.T) {
	const trip, hold, turns = 4 * time.Millisecond, 20 * time.Millisecond, 20
	for _, count := range []int{1, 3, 5} {
		virtually(t, count, func(t *testing.T, nodes []*virtualNode) {
			ctx := context.Background()
			var released time.Time
			var took []time.Duration // guarded by the lock
			var dones []<-chan error
			for range 2 {
				l := open(t, distantClients(t, nodes, trip), redlock.WithRetryInterval(time.Hour))
				dones = append(dones, inBackground(func() error {
					for range turns {
						h, err := l.Acquire(ctx, "r")
						if err != nil {
							return err
						}
						if !released.IsZero() {
							took = append(took, time.Since(released))
						}
						time.Sleep(hold)
						released = time.Now()
						if err := h.Release(ctx); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			require.NoError(t, errors.Join(<-dones[0], <-dones[1]))
			require.Len(t, took, 2*turns-1)
			for _, d := range took[4 : 2*turns-2] {
				// at the beginning they connect, at the end one is alone
				require.Equal(t, 2*trip, d, "with %d nodes: %v", count, took)
			}
		})
	}
}
