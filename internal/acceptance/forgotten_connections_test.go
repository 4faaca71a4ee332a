package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// forgotten are the nodes whose connections a firewall has forgotten: a majority of one, or of
// three.
var forgotten = map[int]int{1: 1, 3: 2}

// A firewall that has forgotten the connection of an idle client costs one call. Where the client
// has more of them, each may cost one: which one a command gets is for go-redis to say.
func TestConnectionThatAFirewallHasForgottenCostsOneNodeTimeout(t *testing.T) {
	for nodes, affected := range forgotten {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			ctx := context.Background()
			servers, proxies, clients := proxied(t, nodes)
			for i, p := range proxies { // whatever overlaps on the way, one connection is left
				clients[i] = redis.NewClient(&redis.Options{Addr: p.Addr(), MaxIdleConns: 1})
				t.Cleanup(func() { require.NoError(t, clients[i].Close()) })
			}
			l := open(t, clients, redlock.WithNodeTimeout(time.Second))
			warmUp(t, clients)
			for _, p := range proxies[:affected] {
				p.Forget()
			}
			began := time.Now()
			h, err := l.TryAcquire(ctx, "a")
			if err == nil {
				require.NoError(t, h.Release(ctx))
			}
			require.Less(t, time.Since(began), 2*time.Second)
			for i := range 3 {
				began = time.Now()
				h, err := l.TryAcquire(ctx, fmt.Sprint("next ", i))
				require.NoError(t, err, "attempt %d", i)
				require.Less(t, time.Since(began), 900*time.Millisecond)
				require.NoError(t, h.Release(ctx))
			}
			noKeys(t, servers)
		})
	}
}

func TestRenewedLockSurvivesAFirewallThatForgetsItsConnections(t *testing.T) {
	for nodes, affected := range forgotten {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			ctx := context.Background()
			_, proxies, clients := proxied(t, nodes)
			l := open(t, clients, redlock.WithTTL(4*time.Second))
			h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
			require.NoError(t, err)
			for range 2 {
				for _, p := range proxies[:affected] {
					p.Forget()
				}
				never(t, 4500*time.Millisecond, func() bool { return h.Err() != nil }, "lost")
			}
			require.NoError(t, h.Release(ctx))
		})
	}
}
