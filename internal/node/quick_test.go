package node

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/redistest"
)

// ones answers each request with 1.
var ones = NewScript("local replies = {} for i = 1, #ARGV do replies[i] = 1 end return replies")

// delivered is a Receiver that passes its call on.
type delivered chan *Call

func (d delivered) Receive(c *Call) bool {
	d <- c
	return false
}

func newCall() (*Call, delivered) {
	d := make(delivered, 1)
	return &Call{Script: ones, Receiver: d}, d
}

// probe is a go-redis hook that calls functions around each round trip with scripts. What a client says to greet a server
// passes unseen: some versions of go-redis show it to hooks, in the midst of the request that needed the connection.
type probe struct {
	mu     sync.Mutex
	before func()
	after  func()
}

func (p *probe) set(before, after func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

func (p *probe) around(first redis.Cmder, send func() error) error {
	if !strings.HasPrefix(first.Name(), "eval") {
		return send()
	}
	p.mu.Lock()
	before, after := p.before, p.after
	p.mu.Unlock()
	if before != nil {
		before()
	}
	if after != nil {
		defer after()
	}
	return send()
}

func (p *probe) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *probe) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return p.around(cmd, func() error { return next(ctx, cmd) })
	}
}

func (p *probe) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return p.around(cmds[0], func() error { return next(ctx, cmds) })
	}
}

// start runs a server for a test that leaves no goroutine behind.
func start(t *testing.T) *redistest.Server {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	return redistest.Start(t)
}

// probed returns a client with a probe.
func probed(t *testing.T, opts *redis.Options) (*redis.Client, *probe) {
	t.Helper()
	c, p := redis.NewClient(opts), &probe{}
	c.AddHook(p)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, p
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

// send sends one call and waits for it, and for the worker that has sent it.
func send(t *testing.T, n *Node) *Call {
	t.Helper()
	c, d := newCall()
	require.True(t, n.Send(c))
	got := receive(t, d)
	settle(t, n)
	return got
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
		return n.workers+n.helpers+n.unended == 0
	}, 10*time.Second, time.Millisecond)
}

// trusted sends calls until the node has answered one quickly, as a busy machine does not each time.
func trusted(t *testing.T, n *Node) {
	t.Helper()
	require.Eventually(t, func() bool {
		send(t, n)
		n.mu.Lock()
		defer n.mu.Unlock()
		return time.Until(n.quick.until) > quickAge/2
	}, 10*time.Second, time.Millisecond, "not one quick answer")
}

// goroutine names the goroutine that calls it.
func goroutine() string {
	var buf [64]byte
	name, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), " [")
	return name
}

// writers notes which goroutines write to the connections of a client.
type writers struct {
	mu    sync.Mutex
	names []string
}

// take returns the writers since the last call.
func (w *writers) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := w.names
	w.names = nil
	return names
}

func (w *writers) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &watchedConn{c, w}, err
}

type watchedConn struct {
	net.Conn
	writers *writers
}

func (c *watchedConn) Write(b []byte) (int, error) {
	c.writers.mu.Lock()
	c.writers.names = append(c.writers.names, goroutine())
	c.writers.mu.Unlock()
	return c.Conn.Write(b)
}

func TestLoneCallIsSentByItsCallerOnceTheNodeIsKnownToAnswerQuickly(t *testing.T) {
	var w writers
	c, _ := probed(t, &redis.Options{Addr: start(t).Addr(), Dialer: w.dial, ContextTimeoutEnabled: true})
	n := opened(t, c)

	call, answer := newCall()
	require.False(t, n.Reserve(call, time.Second), "the node has not answered anything yet")
	require.True(t, n.Send(call))
	require.NoError(t, receive(t, answer).Err)
	settle(t, n)
	require.NotContains(t, w.take(), goroutine(), "a worker sends what cannot be reserved")

	trusted(t, n)
	w.take()
	call, answer = newCall()
	require.True(t, n.Reserve(call, time.Second))
	n.Run(call)
	require.Len(t, answer, 1, "it was not answered when Run returned")
	got := receive(t, answer)
	require.NoError(t, got.Err)
	require.EqualValues(t, 1, got.Reply)
	require.False(t, got.Repeated)
	require.Equal(t, []string{goroutine()}, w.take())
}

func TestCallIsNotReservedWhileTheNodeIsBusyOrNotKnownToBeQuick(t *testing.T) {
	c, p := probed(t, &redis.Options{Addr: start(t).Addr(), ContextTimeoutEnabled: true})
	n := opened(t, c)
	refused := func(why string) {
		t.Helper()
		call, _ := newCall()
		require.False(t, n.Reserve(call, time.Second), why)
	}

	trusted(t, n)
	busy, free := make(chan struct{}), make(chan struct{})
	p.set(func() { close(busy); <-free }, nil)
	call, answer := newCall()
	require.True(t, n.Send(call))
	receive(t, busy)
	refused("another call is under way")
	p.set(nil, nil)
	close(free)
	receive(t, answer)
	settle(t, n)

	trusted(t, n)
	n.mu.Lock()
	n.quick.until = time.Now()
	n.mu.Unlock()
	refused("the last answer is too long ago")

	// Answers that take long vouch for nothing.
	p.set(func() { time.Sleep(2 * quickTrip) }, nil)
	send(t, n)
	refused("the last answer took too long")
}

func TestWrappedClientsAreLeftToWorkers(t *testing.T) {
	type wrapper struct{ *redis.Client }
	c, _ := probed(t, &redis.Options{Addr: start(t).Addr(), ContextTimeoutEnabled: true})
	n := opened(t, wrapper{c})
	trusted(t, n)
	call, _ := newCall()
	require.False(t, n.Reserve(call, time.Second))
}

// Dialling TLS or asking sentinels can take longer than any context says, and a stock client waits for any answer.
func TestClientsThatMayKeepTheirCallersAreLeftToWorkers(t *testing.T) {
	secure := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", TLSConfig: &tls.Config{}, ContextTimeoutEnabled: true})
	failover := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: true})
	stock := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	for _, c := range []*redis.Client{secure, failover, stock} {
		require.False(t, newQuick(c).able)
		require.NoError(t, c.Close())
	}
}

// A hook of the user's client panics, and the caller goes on.
func TestCallWhoseHookPanicsIsLeftToAWorker(t *testing.T) {
	c, p := probed(t, &redis.Options{Addr: start(t).Addr(), ContextTimeoutEnabled: true})
	n := opened(t, c)
	trusted(t, n)
	call, answer := newCall()
	require.True(t, n.Reserve(call, time.Second))
	p.set(func() {
		p.set(nil, nil)
		panic("by the hook")
	}, nil)
	require.PanicsWithValue(t, "by the hook", func() { n.Run(call) })
	got := receive(t, answer)
	require.NoError(t, got.Err)
	require.True(t, got.Repeated)
	settle(t, n)
}

func TestNodeThatBeginsToHangCostsTheCallerLittle(t *testing.T) {
	proxy := start(t).Proxy(t)
	c, _ := probed(t, &redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true})
	n := opened(t, c)
	trusted(t, n)
	call, answer := newCall()
	require.True(t, n.Reserve(call, time.Second))

	proxy.HoldRequests(true)
	began := time.Now()
	n.Run(call)
	require.Less(t, time.Since(began), time.Second, "a stock client waits for seconds")
	require.Empty(t, answer, "it cannot have been answered")
	another, _ := newCall()
	require.False(t, n.Reserve(another, time.Second), "a worker has the call now")

	proxy.HoldRequests(false)
	got := receive(t, answer)
	require.NoError(t, got.Err)
	require.EqualValues(t, 1, got.Reply)
	require.True(t, got.Repeated, "the first try may have reached the node, too")
}

func TestCloseWaitsForAReservedCall(t *testing.T) {
	c, _ := probed(t, &redis.Options{Addr: start(t).Addr(), ContextTimeoutEnabled: true})
	n := opened(t, c)
	trusted(t, n)
	call, answer := newCall()
	require.True(t, n.Reserve(call, time.Second))
	closed := make(chan error, 1)
	go func() { closed <- n.Close(context.Background(), 0) }()
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.idle != nil
	}, 10*time.Second, time.Millisecond)

	require.Empty(t, closed, "Close did not wait")
	n.Run(call)
	require.NoError(t, receive(t, closed))
	require.Len(t, answer, 1)
	require.NoError(t, (<-answer).Err)
	another, _ := newCall()
	require.False(t, n.Reserve(another, time.Second))
	require.False(t, n.Send(another))
}

func TestCloseWaitsForAReservedCallThatHasGoneToAWorker(t *testing.T) {
	proxy := start(t).Proxy(t)
	c, _ := probed(t, &redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true})
	n := opened(t, c)
	trusted(t, n)
	call, answer := newCall()
	require.True(t, n.Reserve(call, time.Second))
	proxy.HoldRequests(true)
	closed := make(chan error, 1)
	go func() { closed <- n.Close(context.Background(), 0) }()
	n.Run(call)
	require.Empty(t, closed, "Close did not wait")

	proxy.HoldRequests(false)
	require.NoError(t, receive(t, closed))
	require.Len(t, answer, 1)
	require.NoError(t, (<-answer).Err)
}

// Others wait for what lingers until it has failed: then it is repeated for who knows how long.
func TestWhatLingersHoldsNobodyUpOnceItHasFailed(t *testing.T) {
	failing := NewScript("return {{'ERR not now'}}")
	c, _ := probed(t, &redis.Options{Addr: start(t).Addr()})
	n := New(c, false)
	release, _ := newCall()
	release.Script, release.Keys, release.RepeatUntil = failing, []string{"a"}, time.Now().Add(time.Hour)
	require.True(t, n.Send(release))
	n.Linger(release, release.Keys)
	next, answer := newCall()
	next.Keys, next.Yields = []string{"a"}, true
	require.True(t, n.Send(next))
	require.NoError(t, receive(t, answer).Err)
	after, answer := newCall()
	after.Keys, after.Yields = []string{"a"}, true
	n.Linger(release, release.Keys)
	require.True(t, n.Send(after))
	require.NoError(t, receive(t, answer).Err)
	require.NoError(t, n.Close(context.Background(), time.Second))
}

func TestCallsThatWereDroppedAreForgotten(t *testing.T) {
	c, p := probed(t, &redis.Options{Addr: start(t).Addr()})
	n := opened(t, c)
	busy, free := make(chan struct{}), make(chan struct{})
	p.set(func() { p.set(nil, nil); close(busy); <-free }, nil)
	release, answer := newCall()
	require.True(t, n.Send(release))
	n.Linger(release, []string{"a"})
	receive(t, busy)
	for range 10_000 {
		next, _ := newCall()
		next.Keys, next.Yields = []string{"a"}, true
		require.True(t, n.Send(next))
		require.True(t, n.Drop(next))
	}
	n.mu.Lock()
	require.Less(t, len(release.followers), 10)
	n.mu.Unlock()
	close(free)
	receive(t, answer)
}
