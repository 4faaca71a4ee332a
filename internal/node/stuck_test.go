package node_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
)

// forgetful returns a line to a server through a firewall, with two connections, and what makes the
// firewall forget them: they hang from then on, and new ones work. go-redis waits for as long as
// they hang, which cut ends.
func forgetful(t *testing.T) (l *line, forget, cut func()) {
	t.Helper()
	server := redistest.Start(t)
	server.Do(t, "script", "load", pushSource)
	proxy := server.Proxy(t)
	where := &moving{addr: proxy.Addr()}
	l = &line{server: server, open: make(chan struct{})}
	l.resume()
	l.client = redis.NewClient(&redis.Options{Dialer: where.dial, ReadTimeout: time.Hour})
	t.Cleanup(func() { _ = l.client.Close() })
	l.client.AddHook(l)
	return l, func() {
		proxy.SwallowRequests(true)
		where.set(server.Addr())
	}, proxy.Cut
}

// patientCall returns a call whose caller waits that long.
func patientCall(to node.Receiver, key, value string, patience time.Duration) *node.Call {
	c := pushCall(to, key, value)
	c.Patience = patience
	return c
}

func TestCallsGetOtherConnectionsWhenTheirsHang(t *testing.T) {
	const wait = 1500 * time.Millisecond // not a call's default, and less than go-redis would wait
	l, forget, cut := forgetful(t)
	n, lost, in := l.newNode(t), newInbox(), newInbox()
	// not by calls: if they took long, the node would pass for a distant one and get more workers
	conns := []*redis.Conn{l.client.Conn(), l.client.Conn()}
	for _, conn := range conns {
		require.NoError(t, conn.Ping(t.Context()).Err())
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	forget()
	began := time.Now()
	for i := range 2 {
		require.True(t, n.Send(patientCall(lost, "lost", "x", wait)))
		eventually(t, func() bool { return len(l.begun()) == i+1 })
	}

	require.True(t, n.Send(patientCall(in, "list", "waits until it is clear that they hang", wait)))
	require.NoError(t, in.next(t).Err)
	require.GreaterOrEqual(t, time.Since(began), wait)
	require.Less(t, time.Since(began), wait+time.Second)
	began = time.Now()
	for range 10 {
		require.True(t, n.Send(patientCall(in, "list", "knows that they do", wait)))
		require.NoError(t, in.next(t).Err)
	}
	require.Less(t, time.Since(began), wait, "one of them has waited again")
	require.Empty(t, lost)
	cut()
	for range 2 { // go-redis repeats them on other connections
		require.NoError(t, lost.next(t).Err)
	}
}

func TestOnlySoManyWorkersMayBeStuck(t *testing.T) {
	for _, test := range []struct {
		pool, base, stuck int
		alone             bool
	}{{1, 2, 1, false}, {4, 2, 2, false}, {10, 2, 5, false}, {100, 2, 8, false}, {4, 3, 1, true},
		{10, 4, 3, true}, {100, 4, 8, true}} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			l := newLine(t)
			l.client = redis.NewClient(&redis.Options{Addr: l.server.Addr(), PoolSize: test.pool})
			t.Cleanup(func() { _ = l.client.Close() })
			l.client.AddHook(l)
			n, in := l.newNode(t), newInbox()
			if test.alone {
				n.Alone()
			}
			l.halt()
			sent := 0
			send := func() {
				require.True(t, n.Send(patientCall(in, "list", "x", 5*time.Millisecond)))
				sent++
			}
			for range test.base + test.stuck {
				send()
				eventually(t, func() bool { return len(l.begun()) == sent })
			}
			send()
			never(t, func() bool { return len(l.begun()) > test.base+test.stuck })
			l.resume()
			for _, c := range in.collect(t, sent) {
				require.NoError(t, c.Err)
			}
		})
	}
}

// A master collects few calls while it may hang. Only an answer to what was sent later than the
// call that hangs proves that it does not.
func TestMasterThatMayHangCollectsFewCalls(t *testing.T) {
	// stuckAfter: until the call that hangs counts as stuck, when the others must be queued
	const many, few, stuckAfter = 100, 16, time.Second
	for name, hangs := range map[string]bool{
		"nothing was answered": true, "a later call was": false,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			// no more workers than the base, however busy the machine makes the node look distant
			l.client.Options().PoolSize = 2
			n, in := l.newNode(t), newInbox()
			send := func(patience time.Duration) {
				require.True(t, n.Send(patientCall(in, "list", "x", patience)))
			}
			l.halt()
			send(time.Hour)
			eventually(t, func() bool { return len(l.begun()) == 1 })
			earlier := l.passOthers()
			l.halt()
			send(stuckAfter) // hangs
			eventually(t, func() bool { return len(l.begun()) == 2 })
			hung := l.passOthers()
			close(earlier)
			require.NoError(t, in.next(t).Err)
			if !hangs {
				send(time.Hour)
				require.NoError(t, in.next(t).Err)
			}

			l.haltAnew()
			send(time.Hour) // goes out at once
			eventually(t, func() bool { return len(l.begun()) == 1 })
			for range many { // go out when it is clear that a worker is stuck
				send(time.Hour)
			}
			eventually(t, func() bool { return len(l.begun()) >= 2 })
			largest := slices.Max(l.sizes())
			close(hung)
			l.resume()
			in.collect(t, 2+many)
			if hangs {
				require.LessOrEqual(t, largest, few)
			} else {
				require.Greater(t, largest, few)
			}
		})
	}
}

// The patience of a round trip is that of the most patient of its calls.
func TestWorkerIsNotStuckWhileOneOfItsCallsHasPatience(t *testing.T) {
	l := newLine(t)
	// no more workers than the base, however busy the machine makes the node look distant
	l.client.Options().PoolSize = 2
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, in)
	for _, patience := range []time.Duration{time.Millisecond, time.Hour, time.Millisecond} {
		require.True(t, n.Send(patientCall(in, "list", "x", patience)))
	}
	held := l.passOthers()
	l.halt()
	close(held)
	in.collect(t, 2)
	eventually(t, func() bool { return len(l.begun()) == 3 })
	require.True(t, n.Send(patientCall(in, "list", "second worker", time.Hour)))
	eventually(t, func() bool { return len(l.begun()) == 4 })
	require.True(t, n.Send(patientCall(in, "list", "waits", time.Hour)))
	never(t, func() bool { return len(l.begun()) > 4 })
	l.resume()
	in.collect(t, 5)
}

func never(t *testing.T, condition func() bool) {
	t.Helper()
	require.Never(t, condition, 50*time.Millisecond, 5*time.Millisecond)
}
