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

// shut closes a node and tells how long that took; wait is for how long ctx lasts.
func shut(n *node.Node, wait, grace time.Duration) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	began := time.Now()
	err = n.Close(ctx, grace)
	return time.Since(began), err
}

// A server that stands still runs what it was sent when it goes on.
func TestCloseCleansUpOnAServerThatStandsStill(t *testing.T) {
	const still = 1200 * time.Millisecond
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.client.Ping(t.Context())
	require.NoError(t, l.server.Pause())
	acquire, release := pushCall(in, "lock", "x"), pushCall(in, "lock", "")
	acquire.Script = script("return redis.call('SET', KEYS[1], ARGV[1])")
	release.Script = script("return redis.call('DEL', KEYS[1])")
	release.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(acquire))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	require.True(t, n.SendAfter(release, acquire))
	queuedKeys := []string{"first", "second", "third"}
	for _, key := range queuedKeys { // the second finds a worker, the others are queued
		require.True(t, n.Send(pushCall(in, key, "x")))
	}

	began := time.Now()
	timer := time.AfterFunc(still, func() { _ = l.server.Resume() })
	defer timer.Stop()
	_, err := shut(n, 200*time.Millisecond, 6*time.Second)
	took := time.Since(began)
	require.NoError(t, err)
	require.GreaterOrEqual(t, took, still)
	require.Less(t, took, still+time.Second)
	require.Len(t, in, 5)
	require.NoError(t, acquire.Err)
	require.NoError(t, release.Err)
	require.EqualValues(t, 1, release.Reply, "there was something to delete")
	for _, key := range queuedKeys {
		require.Len(t, l.list(t, key), 1)
	}
	require.Zero(t, l.client.Exists(t.Context(), "lock").Val())
}

func TestCloseRepeatsWhatFailsWhileItsContextLasts(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "list", "a string")
	c := pushCall(in, "list", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) > 5 }) // the next try is a second away
	l.server.Do(t, "del", "list")
	took, err := shut(n, patience, 0)
	require.NoError(t, err)
	require.Less(t, took, 800*time.Millisecond)
	require.NoError(t, in.next(t).Err)
}

// Once its context has ended, Close repeats what fails as long as it has to wait for others.
func TestCloseRepeatsWhatFailsWhileItWaitsForOthers(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "list", "a string")
	slow := &node.Call{Script: script("return 1"), Keys: []string{"slow"}, Receiver: in}
	l.halt()
	require.True(t, n.Send(slow))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	held := l.passOthers()
	c := pushCall(in, "list", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))

	ended, end := context.WithCancel(context.Background())
	end()
	closed := make(chan error, 1)
	go func() { closed <- n.Close(ended, time.Minute) }()
	eventually(t, func() bool { return len(l.begun()) > 6 })
	l.server.Do(t, "del", "list")
	require.Same(t, c, in.next(t))
	require.NoError(t, c.Err)
	close(held)
	require.NoError(t, <-closed)
	require.Same(t, slow, in.next(t))
}

// But it does not wait for them.
func TestCloseGivesUpANodeThatFailsAtOnce(t *testing.T) {
	host := &refusing{}
	client := redis.NewClient(&redis.Options{Dialer: host.dial, MinRetryBackoff: -1})
	defer client.Close()
	n, in := node.New(client, false), newInbox()
	require.True(t, n.Send(pushCall(in, "list", "x")))
	eventually(t, func() bool { return errors.Is(n.LastError(), errRefused) })
	require.Error(t, in.next(t).Err)

	host.far.Store(true) // so that each dial would take longer than the time of grace
	c, behind := pushCall(in, "list", "x"), pushCall(in, "list", "y")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	require.True(t, n.SendAfter(behind, c))
	for range 600 { // three batches
		q := pushCall(in, "list", "z")
		q.RepeatUntil = time.Now().Add(time.Hour)
		require.True(t, n.Send(q))
	}
	eventually(t, func() bool { return host.dials.Load() > 0 })
	took, err := shut(n, 50*time.Millisecond, time.Minute)
	require.NoError(t, err)
	require.Less(t, took, time.Second)
	require.Len(t, in, 602)
	for range 602 {
		require.Error(t, in.next(t).Err)
	}
	require.ErrorIs(t, behind.Err, node.ErrClosed)
	require.NotErrorIs(t, c.Err, node.ErrClosed, "it was sent")
}

// Calls that fail in turns must not keep each other alive.
func TestCloseGivesUpCallsThatFailInTurns(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	slow := script("for i = 1, 20000 do end return redis.error_reply('ERR not now')")
	const calls = 4000 // so many batches that there is always one in flight
	for range calls {
		c := pushCall(in, "list", "x")
		c.Script, c.RepeatUntil, c.Patience = slow, time.Now().Add(time.Hour), time.Minute
		require.True(t, n.Send(c))
	}
	eventually(t, func() bool { return len(l.begun()) > 8 })
	took, err := shut(n, 0, time.Minute)
	require.NoError(t, err)
	require.Less(t, took, 10*time.Second)
	for range calls {
		require.ErrorContains(t, in.next(t).Err, "not now")
	}
}

// halting holds the line up as soon as a call has failed, and so before it is tried again.
type halting struct {
	inbox
	line *line
}

func (h halting) Receive(c *node.Call) bool {
	if c.Repeating {
		h.line.halt()
	}
	return h.inbox.Receive(c)
}

func TestCallWhoseLastTryIsCutShortSaysWhyItFailedBefore(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	c := pushCall(halting{in, l}, "list", "x")
	c.Script = script("return redis.error_reply('ERR not now')")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) == 3 }) // by digest, as text, and again
	_, err := shut(n, 0, 10*time.Millisecond)
	require.ErrorContains(t, err, "1 calls are still with the Redis client")
	l.resume()
	require.Same(t, c, in.next(t))
	require.ErrorContains(t, c.Err, "not now")
	require.True(t, c.Repeated, "the last try may still reach the node")
}

var errRefused = errors.New("refused")

// refusing is a host that says no. It may be so far away that this takes an hour.
type refusing struct {
	far   atomic.Bool
	dials atomic.Int32 // while it was far away
}

func (r *refusing) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if !r.far.Load() {
		return nil, errRefused
	}
	r.dials.Add(1)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestCloseIsBoundedWhenTheServerHangs(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.client.Ping(t.Context())
	require.NoError(t, l.server.Pause())
	defer func() { require.NoError(t, l.server.Resume()) }()
	flying := pushCall(in, "list", "1")
	parked, last := pushCall(in, "list", "2"), pushCall(in, "list", "3")
	require.True(t, n.Send(flying))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	require.True(t, n.SendAfter(parked, flying))
	require.True(t, n.SendAfter(last, parked))
	took, err := shut(n, 100*time.Millisecond, 200*time.Millisecond)
	require.EqualError(t, err,
		"1 calls are still with the Redis client, which has not given them up")
	require.GreaterOrEqual(t, took, 300*time.Millisecond)
	require.Less(t, took, time.Second)
	require.Len(t, in, 2, "those that are not sent have come back")
	require.ErrorIs(t, parked.Err, node.ErrClosed)
	require.ErrorIs(t, last.Err, node.ErrClosed)
	require.False(t, n.Send(pushCall(in, "list", "4")))
}

// What is sent while Close waits is not to be tried again and again either.
func TestCloseKeepsTheClientFromTryingLateCallsAgain(t *testing.T) {
	const timeout = 600 * time.Millisecond
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: timeout})
	defer client.Close()
	conns := []*redis.Conn{client.Conn(), client.Conn()} // one for each call
	for _, conn := range conns {
		require.NoError(t, conn.Ping(t.Context()).Err())
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.NoError(t, server.Pause())
	n, in := node.New(client, false), newInbox()
	first, second := pushCall(in, "list", "x"), pushCall(in, "list", "y")
	first.Patience, second.Patience = timeout/3, timeout/3
	began := time.Now()
	require.True(t, n.Send(first))
	require.True(t, n.SendAfter(second, first))
	_, err := shut(n, timeout/3, time.Minute)
	took := time.Since(began)
	require.NoError(t, err)
	require.GreaterOrEqual(t, took, 2*timeout, "both were sent")
	require.Less(t, took, 3*timeout, "once")
	require.Error(t, first.Err)
	require.Error(t, second.Err)
	require.NoError(t, server.Resume())
}

// Close's own haste must not cost a call that had not even got a connection.
func TestCallThatCloseCutsShortIsSentAgain(t *testing.T) {
	server := redistest.Start(t)
	var slow atomic.Bool
	slow.Store(true)
	var dials atomic.Int32 // while it was slow
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if slow.Load() {
				dials.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		DialTimeout: patience,
	})
	defer client.Close()
	n, in := node.New(client, false), newInbox()
	c := pushCall(in, "list", "x")
	require.True(t, n.Send(c))
	eventually(t, func() bool { return dials.Load() > 0 })
	slow.Store(false) // for those that dial from now on
	took, err := shut(n, 50*time.Millisecond, time.Minute)
	require.NoError(t, err)
	require.Less(t, took, 2*time.Second)
	require.NoError(t, in.next(t).Err)
}
