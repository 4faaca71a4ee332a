//go:build go1.25

package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// mortal is a client of a virtual node for which the node can be down.
type mortal struct {
	*redis.Client

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func (n *virtualNode) mortal(t *testing.T) *mortal {
	m := &mortal{}
	m.Client = anotherClient(t, func() (net.Conn, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.down {
			return nil, errors.New("connection refused")
		}
		conn, err := n.dial()
		m.conns = append(m.conns, conn)
		return conn, err
	})
	return m
}

// die breaks all connections, and there will be no others.
func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = true
	for _, conn := range m.conns {
		_ = conn.Close()
	}
}

// A handler that waits 2 s for a holder answers at once when Redis is down.
func TestVirtualMaxOutageEndsAWaitSoon(t *testing.T) {
	const timeout = 200 * time.Millisecond
	for _, fault := range []string{"down", "hung"} {
		for _, outage := range []time.Duration{time.Nanosecond, 600 * time.Millisecond} {
			for _, count := range []int{1, 3} {
				name := fmt.Sprintf("%d nodes are %s, maximum %v", count, fault, outage)
				t.Run(name, func(t *testing.T) {
					virtually(t, count, func(t *testing.T, nodes []*virtualNode) {
						ctx := context.Background()
						clients := make([]*mortal, len(nodes))
						for i, n := range nodes {
							clients[i] = n.mortal(t)
						}
						l := open(t, clients, redlock.WithMaxOutage(outage),
							redlock.WithNodeTimeout(timeout))
						h, err := l.TryAcquire(ctx, "connected")
						require.NoError(t, err)
						require.NoError(t, h.Release(ctx))
						for i, n := range nodes {
							if fault == "hung" {
								n.hang()
								defer n.recover()
							} else {
								clients[i].die()
							}
						}
						began := time.Now()
						_, err = l.Acquire(ctx, "a", redlock.WithMaxWait(20*time.Second))
						took := time.Since(began)
						requireOnly(t, err, redlock.ErrNoQuorum)
						require.GreaterOrEqual(t, took, outage)
						require.LessOrEqual(t, took, outage+timeout, "one attempt more at most")
					})
				})
			}
		}
	}
}

// Each outage counts by itself: a node that answers in between makes a new beginning.
func TestVirtualMaxOutageBeginsAnewAfterAnAnswer(t *testing.T) {
	const outage = 400 * time.Millisecond
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		require.NoError(t, nodes[0].client.Set(ctx, lockKey("a"), stranger, 0).Err())
		client, began := anotherClient(t, nodes[0].dial), time.Now()
		// It answers for a tenth of a second of three: never silent for as long as that.
		failing(client, func() bool {
			since := time.Since(began)
			return since < 3*time.Second && since%(300*time.Millisecond) > 100*time.Millisecond
		})
		l := open(t, []wrapped{{client}}, redlock.WithMaxOutage(outage),
			redlock.WithRetryInterval(time.Millisecond))
		got := inBackground(func() error { return onlyError(l.Acquire(ctx, "a")) })
		time.Sleep(2 * time.Second)
		require.Empty(t, got, "given up")
		require.NoError(t, nodes[0].client.Del(ctx, lockKey("a")).Err())
		require.NoError(t, outcome(t, got, "the lock"))
	})
}
