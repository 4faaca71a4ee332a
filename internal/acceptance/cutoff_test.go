package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Somebody waits who cannot reach one of the nodes, and is first in line at the others. They have a
// quorum for everybody else.
func TestWaiterThatReachesNoQuorumHoldsUpNobodyWhoDoes(t *testing.T) {
	noLeak(t)
	for name, down := range map[string]int{"one of two is cut off": 0, "of three one is down": 1} {
		runAlongside(t, name, func(t *testing.T) {
			ctx, timeout := context.Background(), redlock.WithNodeTimeout(2*time.Second)
			servers, clients := masters(t, 2+down)
			proxy := servers[0].Proxy(t)
			holder, healthy := open(t, clients, timeout), open(t, clients, timeout)
			cutOff := open(t, append([]*redis.Client{proxy.Client(t)}, clients[1:]...), timeout)
			h, err := holder.TryAcquire(ctx, "r")
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)

			bored, leave := context.WithCancel(ctx)
			first := inBackground(func() error { return onlyError(cutOff.Acquire(bored, "r")) })
			inLine(t, holder, "r", 1)
			second := inBackground(func() error { return onlyError(healthy.Acquire(ctx, "r")) })
			inLine(t, holder, "r", 2)
			for _, s := range servers[2:] {
				require.NoError(t, s.Kill())
			}
			require.NoError(t, proxy.Close())
			require.NoError(t, h.Release(ctx))
			require.NoError(t, outcome(t, second, "whoever reaches a quorum"))
			leave()
			require.ErrorIs(t, outcome(t, first, "whoever is cut off"), context.Canceled)
		})
	}
}
