package node

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// one answers 1.
var one = NewScript("return 1", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db")

// delivered is a Receiver that passes its call on.
type delivered chan *Call

func (d delivered) Receive(c *Call) bool {
	d <- c
	return false
}

func newCall() (*Call, delivered) {
	d := make(delivered, 1)
	return &Call{Script: one, Receiver: d}, d
}

// watcher is a go-redis hook that calls functions around each round trip with scripts. What a
// client says to greet a server passes unseen: some versions of go-redis show it to hooks, in the
// midst of the request that needed the connection.
type watcher struct {
	mu     sync.Mutex
	before func()
	after  func()
}

func (w *watcher) set(before, after func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

func (w *watcher) around(first redis.Cmder, send func() error) error {
	if !strings.HasPrefix(first.Name(), "eval") {
		return send()
	}
	w.mu.Lock()
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil {
		before()
	}
	if after != nil {
		defer after()
	}
	return send()
}

func (w *watcher) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return w.around(cmd, func() error { return next(ctx, cmd) })
	}
}

func (w *watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return w.around(cmds[0], func() error { return next(ctx, cmds) })
	}
}

// watched returns a client with a watcher.
func watched(t *testing.T, opts *redis.Options) (*redis.Client, *watcher) {
	t.Helper()
	c, w := redis.NewClient(opts), &watcher{}
	c.AddHook(w)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, w
}

// opened returns a node that is closed at the end of the test.
func opened(t *testing.T, c Client) *Node {
	t.Helper()
	n := New(c, false)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.NoError(t, n.Close(ctx, 6*time.Second))
	})
	return n
}

func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("waited too long")
	}
	return v
}

// settle waits until the node has nothing to do.
func settle(t *testing.T, n *Node) {
	t.Helper()
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.workers+n.unended == 0
	}, 10*time.Second, time.Millisecond)
}

func TestIdleNodeHasNothingRunning(t *testing.T) {
	server := redistest.Start(t)
	c, w := watched(t, &redis.Options{Addr: server.Addr()})
	n := opened(t, c)
	busy, free := make(chan struct{}, 8), make(chan struct{})
	w.set(func() { busy <- struct{}{}; <-free }, nil)
	var answers []delivered
	for range 4 {
		call, answer := newCall()
		call.Patience = 10 * time.Millisecond
		require.True(t, n.Send(call))
		answers = append(answers, answer)
		receive(t, busy)
	}
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.streams[0].stuck == len(answers)
	}, 10*time.Second, time.Millisecond)
	close(free)
	for _, answer := range answers {
		require.NoError(t, receive(t, answer).Err)
	}
	settle(t, n)
	require.Zero(t, n.streams[0].pace.trip, "to hang is not to be far away")
	require.Eventually(t, func() bool { // the alarm finds that there is nothing to watch
		n.mu.Lock()
		defer n.mu.Unlock()
		s := n.streams[0]
		return n.helpers == 0 && s.lookAt.IsZero() && s.workers+s.stuck+len(s.trips)+n.busy == 0
	}, 10*time.Second, time.Millisecond)
}

func TestCallsThatWereDroppedAreForgotten(t *testing.T) {
	c, w := watched(t, &redis.Options{Addr: redistest.Start(t).Addr()})
	n := opened(t, c)
	busy, free := make(chan struct{}), make(chan struct{})
	w.set(func() { w.set(nil, nil); close(busy); <-free }, nil)
	release, answer := newCall()
	require.True(t, n.Send(release))
	n.HoldBack(release, []string{"a"})
	receive(t, busy)
	for range 10_000 {
		next, _ := newCall()
		next.Keys, next.HeldBack = []string{"a"}, true
		require.True(t, n.Send(next))
		require.True(t, n.Drop(next))
	}
	n.mu.Lock()
	require.Less(t, len(release.followers), 10)
	n.mu.Unlock()
	close(free)
	receive(t, answer)
	settle(t, n)
	require.Empty(t, n.holding)
}
