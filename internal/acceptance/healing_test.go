package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 11: every node restarts empty, one after the other, and the renewal puts the key back each
// time.
func TestRenewalHealsNodesThatRestartEmpty(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	for number, resources := range oneAndSeveral {
		runAlongside(t, number, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond),
				redlock.WithAutoRenewal(true))
			h := heldEverywhere(t, l, servers, resources...)

			for _, s := range servers {
				s.Restart(t)
				takenEverywhere(t, h, s)
				require.NoError(t, h.Err())
			}
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 11: a node is down when the lock is taken, or for longer than a renewal, and gets the key
// when it is back.
func TestRenewalHealsANodeThatWasDownForLong(t *testing.T) {
	ctx := context.Background()
	for _, when := range []string{"before the acquisition", "after the acquisition"} {
		t.Run(when, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond),
				redlock.WithAutoRenewal(true))
			warmUp(t, clients) // or the first failure is that the node does not know the script
			if when == "before the acquisition" {
				require.NoError(t, servers[2].Kill())
			}
			gaveUp := failuresOf(clients[2], 1)
			h := heldEverywhere(t, l, servers[:2], "a")
			require.NoError(t, servers[2].Kill())
			await(t, gaveUp, "a request to the node to fail")

			servers[2].Restart(t)
			takenEverywhere(t, h, servers[2])
			servers[1].Restart(t) // the healed node is one of a quorum now
			takenEverywhere(t, h, servers[1])
			require.NoError(t, h.Err())
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 11: the same by hand.
func TestExtendHealsANodeThatRestartedEmpty(t *testing.T) {
	ctx := context.Background()
	for name, ttl := range map[string]time.Duration{
		"longer": time.Minute, "shorter": 10 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h := heldEverywhere(t, l, servers, "a", "b")

			servers[1].Restart(t)
			require.NoError(t, h.Extend(ctx, ttl))
			takenEverywhere(t, h, servers[1])
			for _, r := range h.Resources() {
				left := keyTTL(t, servers[1], lockKey(r))
				require.InDelta(t, ttl, left, float64(5*time.Second))
			}

			// The healed node counts: another one may restart now.
			servers[0].Restart(t)
			require.NoError(t, h.Extend(ctx, ttl))
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 11: a node was down while the lease was shortened, and comes back empty: it gets its key
// again.
func TestNodeThatMissedAShorteningIsHealed(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h := heldEverywhere(t, l, servers, "a")

	// the look whether the lock is there, without which it is not told to cut its time
	gaveUp := failuresOf(clients[2], 1)
	require.NoError(t, servers[2].Kill())
	require.NoError(t, h.Extend(ctx, 20*time.Second))
	await(t, gaveUp, "the shortening to fail on the node that is down")

	servers[2].Restart(t)
	eventually(t, func() bool {
		require.NoError(t, h.Extend(ctx, 20*time.Second))
		return ownerOn(t, servers[2], "a") == h.Token()
	}, "the node does not get its key again")
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// Row 11: no node gets a key back that nobody holds any more.
func TestNothingIsHealedAfterTheEndOfTheLock(t *testing.T) {
	ctx := context.Background()
	for _, end := range []struct {
		name string
		end  func(t *testing.T, servers []*redistest.Server, h *redlock.Handle)
	}{
		{"released", func(t *testing.T, servers []*redistest.Server, h *redlock.Handle) {
			servers[2].Restart(t)
			require.NoError(t, h.Release(ctx))
			servers[1].Restart(t)
			require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrReleased)
		}},
		{"lost", func(t *testing.T, servers []*redistest.Server, h *redlock.Handle) {
			// Both are down before one is back, so that none can be healed in between.
			require.NoError(t, servers[1].Kill())
			require.NoError(t, servers[2].Kill())
			servers[1].Restart(t)
			servers[2].Restart(t)
			await(t, h.Done(), "the loss of the lock")
			require.ErrorIs(t, h.Err(), redlock.ErrLost)
			require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond),
				redlock.WithAutoRenewal(true))
			h := heldEverywhere(t, l, servers, "a")
			end.end(t, servers, h)
			noKeys(t, servers)
			never(t, time.Second, func() bool {
				return len(servers[0].Keys(t))+len(servers[1].Keys(t))+len(servers[2].Keys(t)) > 0
			}, "a key came back")
		})
	}
}
