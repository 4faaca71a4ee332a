//go:build go1.25

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

// In virtual time a call takes as long as its way, and nothing else: what is slow here is slow by
// the protocol.
func TestVirtualOneOfThoseWhoTryAtTheSameMomentGetsTheLock(t *testing.T) {
	for _, test := range []struct {
		nodes, hung, lockers int
		away                 time.Duration
		opts                 []redlock.Option
		// where a node hangs that nobody knows of: the node timeout
		most time.Duration
	}{
		{2, 0, 2, 3 * time.Millisecond, nil, 60 * time.Millisecond},
		{2, 0, 10, 3 * time.Millisecond, nil, 100 * time.Millisecond},
		{3, 0, 10, 3 * time.Millisecond, nil, 100 * time.Millisecond},
		{4, 0, 10, 3 * time.Millisecond, nil, 100 * time.Millisecond},
		{5, 0, 10, 3 * time.Millisecond, nil, 100 * time.Millisecond},
		{3, 1, 10, 3 * time.Millisecond, nil, time.Second},
		{5, 1, 10, 3 * time.Millisecond, nil, time.Second},
		{5, 2, 10, 3 * time.Millisecond, nil, time.Second},
		{3, 0, 10, 80 * time.Millisecond,
			[]redlock.Option{redlock.WithNodeTimeout(3 * time.Second)}, 2 * time.Second},
		{5, 0, 10, 80 * time.Millisecond,
			[]redlock.Option{redlock.WithNodeTimeout(3 * time.Second)}, 2 * time.Second},
		{3, 0, 4, 10 * time.Millisecond, []redlock.Option{redlock.WithTTL(2 * time.Second)},
			time.Second},
	} {
		t.Run(fmt.Sprintf("%d nodes, %d hung, %d lockers %v away", test.nodes, test.hung,
			test.lockers, test.away), func(t *testing.T) {
			virtually(t, test.nodes, func(t *testing.T, nodes []*virtualNode) {
				lockers := competitors(t, test.lockers, test.away, func() []*redis.Client {
					clients := make([]*redis.Client, len(nodes))
					for i, n := range nodes {
						clients[i] = anotherClient(t, n.dial)
						require.NoError(t, clients[i].Ping(context.Background()).Err())
					}
					return clients
				}, test.opts...)
				for _, n := range nodes[:test.hung] {
					n.hang()
				}
				sum := competeFor(t, lockers, *ticks)
				for _, n := range nodes[:test.hung] {
					n.recover()
				}
				t.Logf("the slowest call took %v", sum.slowest)
				require.Zero(t, sum.lost, "nobody got a free lock")
				require.Zero(t, sum.doubled, "several got one lock")
				require.LessOrEqual(t, sum.slowest, test.most)
			})
		})
	}
}
