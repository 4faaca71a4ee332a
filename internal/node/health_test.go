package node_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestAddrTellsWhereTheNodeIs(t *testing.T) {
	single := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"},
	})
	for want, client := range map[string]node.Client{
		"127.0.0.1:1":             single,
		"127.0.0.1:1,127.0.0.1:2": cluster,
		"":                        hidden{single},
	} {
		require.Equal(t, want, node.New(client, client == cluster).Addr())
	}
	require.NoError(t, single.Close())
	require.NoError(t, cluster.Close())
}

// hidden shows nothing of a client but what a node needs.
type hidden struct{ node.Client }

// Recent versions of go-redis need most of a second to say that nobody listens.
func TestLastErrorSaysThatNobodyListensBeforeTheClientDoes(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	require.NoError(t, n.LastError())
	require.NoError(t, l.server.Kill())
	c := patientCall(in, "list", "x", 100*time.Millisecond)
	c.RepeatUntil = time.Now().Add(time.Hour)
	l.halt() // the client has not even begun to dial
	began := time.Now()
	require.True(t, n.Send(c))
	eventually(t, func() bool { return n.LastError() != nil })
	require.Less(t, time.Since(began), 700*time.Millisecond)
	require.ErrorContains(t, n.LastError(), "refused")

	l.server.Restart(t)
	l.resume()
	require.NoError(t, in.next(t).Err)
	require.NoError(t, n.LastError())
}

func TestLastErrorIsTheClients(t *testing.T) {
	server := redistest.Start(t)
	for name, tt := range map[string]struct {
		options redis.Options
		prepare func(c *redis.Client)
		want    string
	}{
		"it cannot dial": {
			options: redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("no road")
			}},
			want: "no road",
		},
		"it is not let in": {
			options: redis.Options{Username: "nobody", Password: "x"},
			want:    "WRONGPASS",
		},
		"it is closed": {prepare: func(c *redis.Client) { _ = c.Close() },
			want: "client is closed"},
		"its connections are all in use": {
			options: redis.Options{PoolSize: 1, PoolTimeout: time.Millisecond},
			prepare: func(c *redis.Client) {
				conn := c.Conn()
				t.Cleanup(func() { _ = conn.Close() })
				require.NoError(t, conn.Ping(t.Context()).Err())
			},
			want: "connection pool timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.options.Addr, tt.options.MaxRetries = server.Addr(), -1
			client := redis.NewClient(&tt.options)
			defer client.Close()
			if tt.prepare != nil {
				tt.prepare(client)
			}
			n, in := node.New(client, false), newInbox()
			require.True(t, n.Send(pushCall(in, "list", "x")))
			require.ErrorContains(t, in.next(t).Err, tt.want)
			require.ErrorContains(t, n.LastError(), tt.want)
			require.NoError(t, n.Close(t.Context(), 0))
		})
	}
}

func TestScriptsErrorIsNotTheNodes(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	require.True(t, n.Send(pushCall(in, "string", "x")))
	require.ErrorContains(t, in.next(t).Err, "WRONGTYPE")
	require.NoError(t, n.LastError())

	l.server.Do(t, "config", "set", "maxmemory", "1")
	require.True(t, n.Send(pushCall(in, "list", "x")))
	require.ErrorContains(t, in.next(t).Err, "OOM")
	eventually(t, func() bool { return n.LastError() != nil })
	require.ErrorContains(t, n.LastError(), "OOM")
	l.server.Do(t, "config", "set", "maxmemory", "0")
	require.True(t, n.Send(pushCall(in, "list", "x")))
	require.NoError(t, in.next(t).Err)
	require.NoError(t, n.LastError())
}

// A node far away is asked for the first time: it takes six round trips until it has answered.
func TestColdStartTellsHowLongTheFirstCallMayTake(t *testing.T) {
	const dial = 50 * time.Millisecond
	server := redistest.Start(t)
	proxy := server.Proxy(t)
	var dials atomic.Int32
	client := redis.NewClient(&redis.Options{
		Addr: proxy.Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			select {
			case <-time.After(dial):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	defer client.Close()
	proxy.HoldReplies(true)
	n, in := node.New(client, false), newInbox()
	require.Zero(t, n.ColdStart())
	began := time.Now()
	require.True(t, n.Send(patientCall(in, "list", "x", 40*time.Millisecond)))
	eventually(t, func() bool { return n.ColdStart() > 0 })
	require.GreaterOrEqual(t, n.ColdStart(), 8*dial)
	require.Less(t, n.ColdStart(), 8*time.Since(began), "the dial is over")
	require.NoError(t, n.LastError(), "it can be dialled")

	proxy.HoldReplies(false)
	require.NoError(t, in.next(t).Err)
	require.Zero(t, n.ColdStart())
	require.NoError(t, n.Close(t.Context(), 0))
	require.EqualValues(t, 2, dials.Load())
}

// gate is a dialer that can be closed: then dials take until it is opened, whatever their context
// says.
type gate struct {
	closed atomic.Pointer[chan struct{}]
	dials  atomic.Int32 // while it was closed
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if open := g.closed.Load(); open != nil {
		g.dials.Add(1)
		<-*open
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func TestCloseWaitsForAProbe(t *testing.T) {
	server := redistest.Start(t)
	g, open := &gate{}, make(chan struct{})
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Dialer: g.dial})
	defer client.Close()
	n, in := node.New(client, false), newInbox()
	send := func() { require.True(t, n.Send(patientCall(in, "list", "x", 40*time.Millisecond))) }
	send()
	require.NoError(t, in.next(t).Err)

	g.closed.Store(&open)
	require.NoError(t, server.Pause())
	send() // on the connection that there is
	eventually(t, func() bool { return g.dials.Load() == 1 })
	require.NoError(t, server.Resume())
	require.NoError(t, in.next(t).Err)
	_, err := shut(n, 10*time.Millisecond, 10*time.Millisecond)
	require.EqualError(t, err, "the Redis client has not given up a connection that it was making")
	close(open)
	require.NoError(t, n.Close(t.Context(), 0))
}

// Many calls that wait in vain are one reason to dial, and not many.
func TestNodeIsProbedOnceASecondAtMost(t *testing.T) {
	l := newLine(t)
	var dials atomic.Int32
	l.client = redis.NewClient(&redis.Options{
		Addr: l.server.Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	t.Cleanup(func() { _ = l.client.Close() })
	l.client.AddHook(l)
	n, in := l.newNode(t), newInbox()
	l.halt() // before the client needs a connection
	began := time.Now()
	for i := range 6 {
		require.True(t, n.Send(patientCall(in, "list", "x", 20*time.Millisecond)))
		eventually(t, func() bool { return len(l.begun()) == i+1 })
	}
	eventually(t, func() bool { return dials.Load() > 1 })
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	l.resume()
	in.collect(t, 6)
}
