//go:build go1.25

package acceptance_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// distantConn is a connection over a long way: what is written comes in order, each after its time
// on the way, and so does what is read. Only the way there is delayed, by the whole round trip.
type distantConn struct {
	net.Conn
	trip time.Duration
	out  chan distantBytes
}

type distantBytes struct {
	data []byte
	due  time.Time
}

func (c *distantConn) Write(p []byte) (int, error) {
	c.out <- distantBytes{append([]byte(nil), p...), time.Now().Add(c.trip)}
	return len(p), nil
}

func (c *distantConn) Close() error {
	close(c.out)
	return c.Conn.Close()
}

func (c *distantConn) deliver() {
	for b := range c.out {
		time.Sleep(time.Until(b.due))
		_, _ = c.Conn.Write(b.data)
	}
}

// distantClients returns clients of the nodes that have no connection yet, and a round trip to make
// for everything.
func distantClients(t *testing.T, nodes []*virtualNode, trip time.Duration) []*redis.Client {
	clients := make([]*redis.Client, len(nodes))
	for i, n := range nodes {
		dial := n.client.Options().Dialer
		clients[i] = redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", PoolSize: 100,
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				time.Sleep(trip)
				conn, err := dial(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				c := &distantConn{conn, trip, make(chan distantBytes, 100)}
				go c.deliver()
				return c, nil
			},
		})
		t.Cleanup(func() { require.NoError(t, clients[i].Close()) })
	}
	return clients
}

func TestVirtualColdCallsToDistantNodesWork(t *testing.T) {
	for _, test := range []struct {
		trip, ttl time.Duration
	}{
		{10 * time.Millisecond, time.Second},
		{160 * time.Millisecond, 3 * time.Second},
		{160 * time.Millisecond, 30 * time.Second},
		{50 * time.Millisecond, time.Second},
	} {
		t.Run(fmt.Sprintf("%v away, TTL %v", test.trip, test.ttl), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				var log lines
				l := open(t, distantClients(t, nodes, test.trip), redlock.WithTTL(test.ttl),
					log.option())
				for range 3 {
					h, err := l.TryAcquire(context.Background(), "r")
					require.NoError(t, err)
					require.NoError(t, h.Extend(context.Background(), test.ttl))
					require.NoError(t, h.Release(context.Background()))
				}
				require.Empty(t, log.all())
			})
		})
	}
}

func TestVirtualNodeTimeoutThatWasSetIsKeptAlsoByColdCalls(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		const timeout = 200 * time.Millisecond
		l := open(t, distantClients(t, nodes, 80*time.Millisecond),
			redlock.WithNodeTimeout(timeout))
		start := time.Now()
		_, err := l.TryAcquire(context.Background(), "r")
		require.Equal(t, timeout, time.Since(start))
		requireOnly(t, err, redlock.ErrNoQuorum)
		require.ErrorContains(t, err, "WithNodeTimeout")
		require.ErrorContains(t, err, "no answer within 200ms")
	})
}

// A lock goes round in one Locker faster than a far node answers. What is to be released there must
// not gather: the node would have no vote on the lock until all of it is gone.
func TestVirtualFarNodeDoesNotCollectReleasesOfALockThatGoesRound(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := t.Context()
		clients := append(distantClients(t, nodes[:2], time.Millisecond),
			distantClients(t, nodes[2:], 20*time.Millisecond)...)
		for _, c := range clients {
			// two first handshakes at once: go-redis v9.23 blocks one by a mutex, and virtual time
			// with it
			require.NoError(t, c.Ping(ctx).Err())
		}
		l := open(t, clients)
		end := time.Now().Add(3 * time.Second)
		turns := func() error {
			for time.Now().Before(end) {
				h, err := l.Acquire(ctx, "r")
				if err == nil {
					err = h.Release(ctx)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
		require.NoError(t, together(turns, turns, turns, turns))
		nodes[0].fail("LOADING")
		began := time.Now()
		h, err := l.Acquire(ctx, "r")
		require.NoError(t, err)
		require.Less(t, time.Since(began), time.Second)
		require.NoError(t, h.Release(ctx))
	})
}
